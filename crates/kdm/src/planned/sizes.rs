//! How a budget of time is spent: sizes of the networks, pairs and iterations, from what a step of
//! each costs.

use std::path::Path;

use super::experiment::experiment_of;
use super::images::{feature_count, feature_images};
use super::rates::Rates;
use crate::{Experiment, Failure, Outcome};

/// What a plan is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// Folder of the run.
    pub folder: &'a Path,
    /// Seconds that the whole run should take.
    pub seconds: f64,
    /// Channels of an image.
    pub channels: usize,
    /// Height and width of images to work with, if it is settled.
    pub resolution: Option<usize>,
    /// The shorter side of the source's images, typically.
    pub side: usize,
    /// Classes, 0 for none.
    pub classes: usize,
    /// Images to learn from; none where there is nothing but a teacher.
    pub images: Option<usize>,
    /// The teacher's file, and how it draws (`flow`, or else `diffusion`), where it need not be
    /// trained.
    pub teacher: Option<(String, &'static str)>,
}

/// Sizes of the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Height and width of images.
    pub resolution: usize,
    /// Channels of the teacher's finest level.
    pub teacher: usize,
    /// Channels of the student's finest level.
    pub student: usize,
}

/// A stage of a planned run.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStage {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: String,
    /// Seconds that it is expected to take.
    pub seconds: f64,
}

/// A planned run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What will be run.
    pub experiment: Experiment,
    /// Its stages, in order.
    pub stages: Vec<PlannedStage>,
}

impl Plan {
    /// Seconds of all stages.
    pub fn seconds(&self) -> f64 {
        self.stages.iter().map(|stage| stage.seconds).sum()
    }
}

/// Widths that networks may have.
const WIDTHS: [usize; 5] = [16, 32, 64, 96, 128];
/// Resolutions that are chosen from where none is asked for.
const RESOLUTIONS: [usize; 3] = [64, 32, 16];
/// Share of the budget that is planned with: the rest is for what can't be foreseen.
const PLANNED: f64 = 0.86;
/// Shares of that, after the feature networks: teacher, pairs, student, report.
const TRAINED: [f64; 4] = [0.35, 0.14, 0.42, 0.09];
/// The same where the teacher is there already.
const GIVEN: [f64; 4] = [0.0, 0.42, 0.49, 0.09];
/// Seconds that the report needs at most.
const MOST_REPORTING: f64 = 600.0;
/// Images that a teacher of the least width has to see to draw anything recognizable at 32x32, and
/// pairs that a student has to see; wider networks need more to be worth it.
const ENOUGH: [f64; 2] = [40e3, 16e3];
/// With how many fewer a run makes no sense, as a share of [`ENOUGH`].
const LEAST: f64 = 0.1;
/// How much longer a budget is that is proposed: the machine is measured anew then.
const MARGIN: f64 = 1.25;
/// Iterations at most: the paper's.
const MOST_ITERATIONS: f64 = 800e3;

/// Chooses sizes for the budget; `measure` gives the rates of networks of some sizes on this
/// machine.
///
/// # Errors
/// When the budget is too short for anything, or measuring fails.
pub fn plan(request: &Request, mut measure: impl FnMut(Sizes) -> Outcome<Rates>) -> Outcome<Plan> {
    let least = WIDTHS[0];
    let settled = request.resolution;
    let start = settled.unwrap_or_else(|| RESOLUTIONS[1].min(fitting(request.side)));
    let base = Sizes { resolution: start, teacher: least, student: least };
    let rates = measure(base)?;
    let predict = |sizes: Sizes| -> Outcome<Rates> {
        let (from, to) = (operations(request, base)?, operations(request, sizes)?);
        Ok(rates.scaled(std::array::from_fn(|i| to[i] / from[i].max(1.0))))
    };
    // The largest images that there is time for.
    let mut chosen = base;
    if settled.is_none() {
        let possible = RESOLUTIONS.into_iter().filter(|side| *side <= fitting(request.side));
        for resolution in possible {
            chosen = Sizes { resolution, ..base };
            // More pixels want more images as well.
            let more = (resolution as f64 / 32.0).max(1.0);
            if covers(request, &predict(chosen)?, [more; 2]) {
                break;
            }
        }
    }
    // Then the widest networks.
    for width in WIDTHS {
        let more = 2.5 * width as f64 / least as f64;
        let wider = Sizes { teacher: width, ..chosen };
        if covers(request, &predict(wider)?, [more, 0.0]) {
            chosen = wider;
        }
    }
    for width in WIDTHS {
        let more = 2.5 * width as f64 / least as f64;
        let wider = Sizes { student: width, ..chosen };
        if covers(request, &predict(wider)?, [0.0, more]) {
            chosen = wider;
        }
    }
    let rates = if chosen == base { rates } else { measure(chosen)? };
    spend(request, chosen, &rates)
}

/// The largest resolution that networks take and images of this side don't have to be enlarged for.
fn fitting(side: usize) -> usize {
    (side / 8 * 8).max(8)
}

/// Seconds of the feature networks, and of each of the other stages.
fn seconds(request: &Request, rates: &Rates) -> (f64, [f64; 4]) {
    let seen = request
        .images
        .map_or(0.0, |images| 2.0 * feature_images(feature_count(images, request.classes)));
    let (features, all) = (seen * rates.feature_step, PLANNED * request.seconds);
    let shares = if request.teacher.is_some() { GIVEN } else { TRAINED };
    let [teacher, pairs, student, report] = shares;
    let left = (all - features).max(0.0);
    let reporting = (report * left).min(MOST_REPORTING);
    // What the report doesn't need goes to the rest.
    let rest = (left - reporting) / (1.0 - report);
    (features, [teacher * rest, pairs * rest, student * rest, reporting])
}

/// Whether the budget lets teacher and student see so many times what is [`ENOUGH`].
fn covers(request: &Request, rates: &Rates, times: [f64; 2]) -> bool {
    let (_, [teacher, _, student, _]) = seconds(request, rates);
    let enough = |seconds: f64, each: f64, i: usize| seconds >= times[i] * ENOUGH[i] * each;
    (request.teacher.is_some() || enough(teacher, rates.teacher_step, 0))
        && enough(student, rates.student_step, 1)
}

/// Operations an image of: the teacher's pass, the student's training, the feature network's.
fn operations(request: &Request, sizes: Sizes) -> Outcome<[f64; 3]> {
    let experiment = experiment_of(request, sizes, &Counts::default())?;
    let teacher = match &experiment.teacher.network {
        Some(network) => network.demand().operations,
        None => 1.0,
    };
    let student = experiment.training_flops() / experiment.train.batch as f64;
    Ok([teacher, student, (sizes.resolution * sizes.resolution) as f64])
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub teacher: Training,
    /// Of the solver.
    pub steps: usize,
    /// Pairs to train on.
    pub pairs: usize,
    /// Pairs to measure by.
    pub test: usize,
    pub student: Training,
}

/// Iterations of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Training {
    pub iterations: u64,
    pub batch: usize,
}

impl Training {
    /// As many iterations as `images` allow: small batches where there are few.
    fn of(images: f64, few: f64) -> Self {
        let batch = match images {
            _ if images < few => 16,
            _ if images < 8.0 * few => 32,
            _ => 64,
        };
        let iterations = (images / batch as f64).clamp(1.0, MOST_ITERATIONS) as u64;
        Self { iterations, batch }
    }

    fn images(self) -> f64 {
        self.iterations as f64 * self.batch as f64
    }
}

impl Default for Counts {
    fn default() -> Self {
        let training = Training { iterations: 100, batch: 16 };
        Self { teacher: training, steps: 18, pairs: 1024, test: 128, student: training }
    }
}

/// Spends the budget on networks of these sizes.
fn spend(request: &Request, sizes: Sizes, rates: &Rates) -> Outcome<Plan> {
    let (features, [teacher, pairs, student, report]) = seconds(request, rates);
    let trained = request.teacher.is_none();
    let images = [teacher / rates.teacher_step, student / rates.student_step];
    let short = |i: usize| LEAST * ENOUGH[i] / images[i];
    let shortest = if trained { short(0).max(short(1)) } else { short(1) };
    if shortest > 1.0 {
        let [teacher, _, student, _] = if trained { TRAINED } else { GIVEN };
        let least = |i: usize, step: f64, share: f64| match share > 0.0 {
            true => LEAST * ENOUGH[i] * step / share,
            false => 0.0,
        };
        let stages =
            least(0, rates.teacher_step, teacher).max(least(1, rates.student_step, student));
        let needed = (MARGIN * (features + stages) / PLANNED / 60.0).ceil();
        return Err(Failure::Usage(format!(
            "--budget: {:.1} minutes are too short to learn anything of images of {side}x{side} \
             pixels on this machine; give --budget {needed}m or more, or a smaller --resolution",
            request.seconds / 60.0,
            side = sizes.resolution
        )));
    }
    // Fewer solver steps where there would be few pairs otherwise.
    let drawn = |steps: usize| pairs / (rates.teacher_pass * (2 * steps - 1) as f64);
    let steps = [(18, 6000.0), (12, 3000.0)];
    let steps = steps.into_iter().find(|(steps, wanted)| drawn(*steps) >= *wanted);
    let steps = steps.map_or(8, |(steps, _)| steps);
    let all = drawn(steps).clamp(192.0, 200e3) as usize;
    let test = (all / 8).clamp(64, 2048);
    let counts = Counts {
        teacher: Training::of(images[0], 64e3),
        steps,
        pairs: all - test,
        test,
        student: Training::of(images[1], 24e3),
    };
    let experiment = experiment_of(request, sizes, &counts)?;
    let mut stages = Vec::new();
    let mut stage = |name, what: String, seconds: f64| {
        stages.push(PlannedStage { name, what, seconds });
    };
    if request.images.is_some() {
        let what = "two small classifiers, one for the loss and one to measure with".to_string();
        stage("features", what, features);
    }
    if trained {
        let Training { iterations, batch } = counts.teacher;
        let Sizes { resolution: side, teacher: width, .. } = sizes;
        let what =
            format!("{width} channels, {iterations} iterations of {batch} images of {side}x{side}");
        stage("teacher", what, counts.teacher.images() * rates.teacher_step);
    }
    let passes = 2 * steps - 1;
    let what = format!("{} pairs and {test} to test, of {passes} passes each", counts.pairs);
    stage("pairs", what, all as f64 * passes as f64 * rates.teacher_pass);
    let Training { iterations, batch } = counts.student;
    let width = sizes.student;
    let what = format!("{width} channels, {iterations} iterations of {batch} pairs");
    stage("student", what, counts.student.images() * rates.student_step);
    stage("report", "samples, metrics, what the operator shows".into(), report);
    Ok(Plan { experiment, stages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_nn::UNetConfig;

    fn request(seconds: f64, side: usize, images: Option<usize>) -> Request<'static> {
        let teacher = images.is_none().then(|| ("t.safetensors".to_string(), "diffusion"));
        Request {
            name: "mine",
            folder: Path::new("runs/mine"),
            seconds,
            channels: 3,
            resolution: images.is_none().then_some(32),
            side,
            classes: 2,
            images,
            teacher,
        }
    }

    /// Rates of a machine that computes at 30 GFLOP/s, for networks of these sizes.
    fn machine(request: &Request, sizes: Sizes) -> Outcome<Rates> {
        let [teacher, student, pixels] = operations(request, sizes)?;
        let rate = |operations: f64| operations / 30e9;
        Ok(Rates {
            teacher_step: rate(3.0 * teacher),
            teacher_pass: rate(teacher.max(1e7)),
            student_step: rate(student),
            feature_step: rate(1e5 * pixels),
        })
    }

    fn planned(request: &Request) -> Outcome<Plan> {
        plan(request, |sizes| machine(request, sizes))
    }

    /// Whatever the budget, a plan keeps within it, and spends most of it where it can.
    #[test]
    fn plans_keep_within_their_budget() {
        for minutes in [10.0, 20.0, 60.0, 600.0, 6000.0] {
            for request in [
                request(60.0 * minutes, 200, Some(500)),
                request(60.0 * minutes, 32, Some(50_000)),
                request(60.0 * minutes, 32, None),
            ] {
                let plan = planned(&request).unwrap();
                let share = plan.seconds() / request.seconds;
                // Numbers of pairs and iterations have an end, which much time comes to.
                let spent = minutes > 60.0 || share > 0.6;
                assert!(share < 0.9 && spent, "{minutes} min: {share}\n{:?}", plan.stages);
            }
        }
    }

    /// A budget that is refused is answered with one that is taken.
    #[test]
    fn a_budget_that_is_proposed_is_enough() {
        for seconds in [0.5, 6.0, 30.0] {
            for images in [Some(500), Some(50_000), None] {
                let refused = planned(&request(seconds, 200, images)).unwrap_err().to_string();
                let proposed = refused.split("give --budget ").nth(1).unwrap();
                let minutes: f64 = proposed.split('m').next().unwrap().parse().unwrap();
                let plan = planned(&request(60.0 * minutes, 200, images));
                assert!(minutes > 0.0 && plan.is_ok(), "{refused}");
            }
        }
    }

    /// More time goes into larger images and networks; images are never enlarged.
    #[test]
    fn more_time_makes_more_of_everything() {
        let sizes = |minutes: f64, side: usize| {
            let plan = planned(&request(60.0 * minutes, side, Some(500))).unwrap().experiment;
            let network = plan.teacher.network.clone().unwrap();
            let UNetConfig::SongUnet(network) = network else { panic!() };
            (network.resolution, network.model_channels)
        };
        let all: Vec<_> = [15.0, 120.0, 1500.0, 9000.0].map(|m| sizes(m, 300)).to_vec();
        assert!(all.is_sorted(), "{all:?}");
        assert!(all[0].0 <= 32 && all[3].0 == 64, "{all:?}");
        assert_eq!(sizes(9000.0, 30).0, 16);
        assert_eq!(sizes(9000.0, 12).0, 8);
    }

    #[test]
    fn a_budget_that_is_too_short_says_what_would_do() {
        let failure = planned(&request(5.0, 32, Some(500))).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let message = failure.to_string();
        let minutes = message.split("--budget ").nth(1).unwrap().split('m').next().unwrap();
        let minutes: f64 = minutes.parse().unwrap();
        planned(&request(60.0 * minutes, 32, Some(500))).unwrap();
    }

    /// A teacher that is there is not trained, and without images nothing is measured in features.
    #[test]
    fn a_teacher_of_ones_own_is_taken_as_it_is() {
        let plan = planned(&request(1200.0, 32, None)).unwrap();
        let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["pairs", "student", "report"]);
        let experiment = plan.experiment;
        assert_eq!(experiment.teacher.path.as_deref(), Some("t.safetensors"));
        assert!(experiment.evaluate.features.is_none());
        assert_eq!(experiment.sample().unwrap(), (vec![3, 32, 32], 2));
    }
}
