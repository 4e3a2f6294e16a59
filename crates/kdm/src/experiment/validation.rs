//! What is impossible about an experiment, all of it at once.

use kdm_koopman::{EigenvalueTarget, Method};
use kdm_nn::Problem;
use kdm_teacher::process::MOST_STEPS;
use kdm_teacher::{Denoiser, Process};

use super::schema::{Experiment, TeacherKind};

/// Validation values a student can be chosen by.
const BEST_BY: [&str; 6] = ["rmse", "median_error", "latent", "rec", "push", "total"];

impl Experiment {
    /// All that is impossible.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.counts();
        problems.extend(self.numbers());
        problems.extend(self.leaves());
        problems.extend(self.sections());
        match self.sample() {
            Err(problem) => problems.push(problem),
            Ok((shape, label_dim)) => problems.extend(self.of_samples(shape, label_dim)),
        }
        problems
    }

    /// Counts that have to be at least 1.
    fn counts(&self) -> Vec<Problem> {
        let (p, t, tt, e) = (&self.pairs, &self.train, &self.teacher.train, &self.evaluate);
        let counts = [
            ("teacher.hidden", self.teacher.hidden as u64),
            ("teacher.layers", self.teacher.layers as u64),
            ("teacher.train.batch", tt.batch as u64),
            ("pairs.count", p.count as u64),
            ("pairs.test", p.test as u64),
            ("pairs.steps", p.steps as u64),
            ("pairs.shard_size", p.shard_size as u64),
            ("pairs.batch", p.batch as u64),
            ("train.batch", t.batch as u64),
            ("evaluate.directions", e.directions as u64),
            ("evaluate.clusters", e.clusters as u64),
            ("teacher.train.iterations", tt.iterations),
            ("train.iterations", t.iterations),
            ("train.log_every", t.log_every),
            ("train.validate_every", t.validate_every),
            ("train.checkpoint_every", t.checkpoint_every),
        ];
        let zeros = counts.into_iter().filter(|(_, count)| *count < 1);
        zeros.map(|(field, _)| Problem::new(field, "is 0 and must be at least 1")).collect()
    }

    /// Batches that can't be split as asked for.
    fn leaves(&self) -> Vec<Problem> {
        let (t, tt) = (&self.train, &self.teacher.train);
        let splits =
            [("train.leaves", t.leaves, t.batch), ("teacher.train.leaves", tt.leaves, tt.batch)];
        let problem = |(field, leaves, batch): (&str, usize, usize)| {
            let problem = split_problem(leaves, batch)?;
            Some(Problem::new(field, format!("is {leaves} and {problem}")))
        };
        splits.into_iter().filter_map(problem).collect()
    }

    /// Numbers outside their ranges.
    fn numbers(&self) -> Vec<Problem> {
        let (p, t, tt) = (&self.pairs, &self.train, &self.teacher.train);
        let mut problems = Vec::new();
        let mut check = |ok: bool, field: &str, value: f64, range: &str| {
            if !ok {
                problems.push(Problem::new(field, format!("is {value} and must be {range}")));
            }
        };
        for (field, value) in
            [("teacher.train.lr", tt.lr), ("train.lr", t.lr), ("train.epsilon", t.epsilon)]
        {
            check(value > 0.0 && value.is_finite(), field, value, "above 0");
        }
        for (field, value) in [
            ("teacher.train.ema_decay", tt.ema_decay),
            ("train.beta1", t.beta1),
            ("train.beta2", t.beta2),
            ("train.ema_decay", t.ema_decay),
        ] {
            check((0.0..1.0).contains(&value), field, value, "at least 0 and below 1");
        }
        for (field, value) in [
            ("teacher.train.ema_rampup", tt.ema_rampup),
            ("train.ema_rampup", t.ema_rampup),
            ("pairs.guidance", p.guidance),
        ] {
            check(value >= 0.0 && value.is_finite(), field, value, "0 or more");
        }
        let augment = (0.0..=1.0).contains(&tt.augment);
        check(augment, "teacher.train.augment", tt.augment, "between 0 and 1");
        problems
    }

    /// What sections say that doesn't go together.
    fn sections(&self) -> Vec<Problem> {
        let (p, t, e, loss) = (&self.pairs, &self.train, &self.evaluate, &self.loss);
        let mut problems = Vec::new();
        if p.steps > MOST_STEPS {
            let problem = format!("is {} and must be at most {MOST_STEPS}", p.steps);
            problems.push(Problem::new("pairs.steps", problem));
        }
        let ends = if p.process == Process::Flow { 1 } else { 2 };
        if p.states > p.steps.saturating_sub(ends) {
            let problem = format!(
                "is {}, and {} steps of the solver have {} states between noise and image",
                p.states,
                p.steps,
                p.steps.saturating_sub(ends)
            );
            problems.push(Problem::new("pairs.states", problem));
        }
        if !names_a_folder(&self.name) {
            let name: String = self.name.chars().take(60).collect();
            let problem = format!("is {name:?}, and a folder is called by it: take {NAMES}");
            problems.push(Problem::new("name", problem));
        }
        if t.held_out >= p.count {
            let problem =
                format!("is {} of {} pairs, which leaves none to train on", t.held_out, p.count);
            problems.push(Problem::new("train.held_out", problem));
        }
        if !BEST_BY.contains(&t.best_by.as_str()) {
            let given: String = t.best_by.chars().take(60).collect();
            let problem = format!("is `{given}` and must be one of {BEST_BY:?}");
            problems.push(Problem::new("train.best_by", problem));
        }
        if e.features.is_some() != e.reference.is_some() {
            let missing = if e.features.is_none() { "features" } else { "reference" };
            let problem =
                "is missing: feature metrics need both the network and what to compare with";
            problems.push(Problem::new(format!("evaluate.{missing}"), problem));
        }
        problems.extend(p.process.problem().map(|problem| problem.within("pairs.process")));
        if loss.reconstruction.has_lpips() && loss.lpips_weights.is_none() {
            let problem = "is missing, and the loss has LPIPS: name the file that `kdm import \
                           vgg16.pth --heads vgg.pth` wrote";
            problems.push(Problem::new("loss.lpips_weights", problem));
        }
        if loss.reconstruction.has_features() && loss.features.is_none() {
            let problem = "is missing, and the loss has a classifier's features: name a file of \
                           `kdm features train`";
            problems.push(Problem::new("loss.features", problem));
        }
        problems.extend(loss.config().problems().into_iter().map(|p| p.within("loss")));
        problems
    }

    /// What samples of this shape and these classes rule out.
    fn of_samples(&self, shape: Vec<usize>, label_dim: usize) -> Vec<Problem> {
        let loss = &self.loss;
        let mut problems = Vec::new();
        if loss.reconstruction.has_lpips() && !lpips_fits(&shape) {
            let problem = format!(
                "needs images of at least {} pixels a side and 1 or 3 channels, not {shape:?}",
                kdm_nn::vgg::LEAST_SIDE
            );
            problems.push(Problem::new("loss.reconstruction", problem));
        }
        let least = kdm_nn::discriminator::LEAST_SIDE;
        let judged = shape.len() == 3 && shape[1].min(shape[2]) >= least;
        if loss.adversarial_weight > 0.0 && !judged {
            let problem = format!("needs images of at least {least} pixels a side, not {shape:?}");
            problems.push(Problem::new("loss.adversarial_weight", problem));
        }
        if self.student.method == Method::Direct {
            if loss.push_weight == 0.0 {
                let problem = "is 0, and it is all a direct student learns by";
                problems.push(Problem::new("loss.push_weight", problem));
            }
            if loss.eigenvalues != EigenvalueTarget::None {
                let problem =
                    "is of the operator's eigenvalues, and a direct student has no operator";
                problems.push(Problem::new("loss.eigenvalues", problem));
            }
        }
        let student = self.student_config(shape, label_dim, self.pairs.process.noise_std());
        problems.extend(student.problems().into_iter().map(|p| p.within("student")));
        problems
    }

    /// Shape and classes of the teacher's samples.
    ///
    /// # Errors
    /// When the configuration doesn't say.
    pub fn sample(&self) -> Result<(Vec<usize>, usize), Problem> {
        let t = &self.teacher;
        match t.kind {
            TeacherKind::Exact | TeacherKind::FlowMlp => match self.data().build() {
                Ok(data) => Ok((data.shape(), data.label_dim())),
                Err(problem) => Err(problem.within("teacher.data")),
            },
            TeacherKind::Network => {
                let Some(network) = self.network_teacher() else {
                    let problem = "is missing: give the architecture, as [teacher.network] with \
                                   `architecture` first";
                    return Err(Problem::new("teacher.network", problem));
                };
                if t.dataset.is_none() {
                    let problem = "is missing: name the images to learn from: a folder, a .zip in \
                                   EDM's layout, fashion-mnist or shapes";
                    return Err(Problem::new("teacher.dataset", problem));
                }
                match network.problems().into_iter().next() {
                    Some(problem) => Err(problem.within("teacher")),
                    None => {
                        let network = &network.network;
                        let side = network.resolution();
                        Ok((vec![network.channels().0, side, side], network.label_dim()))
                    }
                }
            }
            TeacherKind::File => match &t.shape {
                Some(shape) if shape.iter().all(|s| (1..=1 << 16).contains(s)) => {
                    Ok((shape.clone(), t.label_dim))
                }
                Some(shape) => {
                    let problem = format!("is {shape:?}, which is no shape of a sample");
                    Err(Problem::new("teacher.shape", problem))
                }
                None => {
                    let problem = "is missing: say what the teacher draws, such as [3, 32, 32]";
                    Err(Problem::new("teacher.shape", problem))
                }
            },
        }
    }
}

/// What is wrong about a batch in so many leaves; none when it can be split.
pub fn split_problem(leaves: usize, batch: usize) -> Option<String> {
    if !leaves.is_power_of_two() {
        return Some("must be a power of two".into());
    }
    (!batch.is_multiple_of(leaves)).then(|| format!("must divide the batch, which is {batch}"))
}

/// What names of experiments are made of.
pub(super) const NAMES: &str = "letters, digits, spaces, `-`, `_` and `.`, a letter or digit first";

/// Whether a folder can be called so, and no other than one below where it is made.
pub(super) fn names_a_folder(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c));
    plain && name.len() <= 100 && name.starts_with(char::is_alphanumeric)
}

/// Whether LPIPS can see images of this shape.
pub fn lpips_fits(shape: &[usize]) -> bool {
    let least = kdm_nn::vgg::LEAST_SIDE;
    matches!(shape, [1 | 3, height, width] if *height.min(width) >= least)
}
