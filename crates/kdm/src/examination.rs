//! What only a Koopman student shows: the modes of its operator and what is left without some of
//! them, the way between noise and image, and what distances between latents mean.

use kdm_analysis::modes::{Conditioning, largest_first};
use kdm_analysis::semantics::{Correlation, correlation, distances, pair_distances, stretch};
use kdm_analysis::spectrum::MOST;
use kdm_analysis::{Modes, Principal};
use kdm_data::images::shapes::{FACTORS, Factors, SIDE};
use kdm_koopman::operator::{Affine, Dense};
use kdm_koopman::stepwise::Stepwise;
use kdm_koopman::{Koopman, Operator, Sampler, Student};
use kdm_metrics::{Extractor, Features, Statistics};
use kdm_report::plots::{self, Axis, Curve};
use kdm_report::{Figure, Table, grid};
use kdm_teacher::{Process, Teacher, trajectory};
use serde_json::{Value, json};

use crate::evaluation::{distance_to, inspect};
use crate::pipeline::LoadedStudent;
use crate::structure::{Space, structure_of_noise};
use crate::{Failure, Outcome};

/// Samples that modes are ranked on and truncation is measured by; and pairs that correlations are
/// of, with features or without.
const SAMPLES: usize = 1000;
/// Modes in the table.
const LISTED: usize = 12;
/// Samples on a strip from noise to image, and pictures of each.
const STRIPS: usize = 4;
const STRIP_STEPS: usize = 9;
/// The seed of the bootstrap, and of small steps in the latent space.
const BOOTSTRAP_SEED: u64 = 16;
const STEP_SEED: u64 = 17;
/// Small steps, against the latents' deviation, and samples that take one.
const SMALL: f64 = 1e-2;
const STEPPED: usize = 64;

/// Figures, tables, and the numbers in them.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Pictures.
    pub figures: Vec<Figure>,
    /// Numbers for a reader.
    pub tables: Vec<Table>,
    /// The same for programs.
    pub values: serde_json::Map<String, Value>,
}

/// Who is looked at, and on what noise.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The student.
    pub student: &'a LoadedStudent,
    /// x_T, row by row.
    pub noise: &'a [f32],
    /// One-hot rows, or empty.
    pub labels: &'a [f32],
    /// What sees images, to measure their likeness by.
    pub extractor: Option<&'a Extractor>,
    /// The data set's features, to compare with.
    pub reference: Option<&'a Statistics>,
    /// The data set, if it is known by name: `shapes` has factors that can be measured.
    pub data: &'a str,
}

impl<'a> Subject<'a> {
    /// The same on the first `rows` samples alone.
    fn first(self, rows: usize) -> Self {
        let config = &self.student.file.student;
        let rows = rows.min(self.noise.len() / config.dim());
        Self {
            noise: &self.noise[..rows * config.dim()],
            labels: &self.labels[..rows * config.label_dim],
            ..self
        }
    }

    fn parts(&self) -> Option<Stepwise<'a>> {
        let student = self.student.student.koopman()?;
        Some(Stepwise { student, config: &self.student.file.student })
    }
}

/// What the student makes of the noise.
struct Drawn {
    /// Samples, row by row.
    images: Vec<f32>,
    /// z_T.
    latents: Vec<f32>,
    /// Of the samples, where there is something that sees them.
    features: Option<Features>,
}

impl Drawn {
    fn of(subject: Subject, parts: Stepwise) -> Self {
        let images = subject.student.sampler.sample(subject.noise, subject.labels);
        let latents = parts.encode_noise(subject.noise, subject.labels);
        let features =
            subject.extractor.map(|e| inspect(e, &images, &parts.config.shape, "features"));
        Self { images, latents, features }
    }
}

/// All that is found in a Koopman student.
///
/// # Errors
/// When the operator has values that are not finite, or features can't be compared. One without a
/// basis of eigenvectors has no modes to show, which is told.
pub fn examine(subject: Subject, teacher: Option<(&Teacher, &Process)>) -> Outcome<Found> {
    let subject = subject.first(SAMPLES);
    // A direct student has nothing to look into.
    let Some(parts) = subject.parts() else { return Ok(Found::default()) };
    let drawn = Drawn::of(subject, parts);
    let pushed = parts.push(&drawn.latents, subject.labels);
    let mut found = semantics(subject, parts, &drawn, &pushed);
    let (n, shape) = (parts.config.operator_dim(), &parts.config.shape);
    let space = |key, name, rows, width| Space { key, name, rows, width };
    let spaces = [
        space("noise", "noise x_T", subject.noise, parts.config.dim()),
        space("latent", "latent z_T", &drawn.latents[..], n),
        space("pushed", "latent C z_T", &pushed[..], n),
    ];
    let seen = match &drawn.features {
        Some(features) => Some(space("features", "features", &features.features[..], features.dim)),
        // Points are what there is to see.
        None => (shape.len() == 1)
            .then(|| space("outputs", "outputs", &drawn.images[..], parts.config.dim())),
    };
    structure_of_noise(&mut found, &spaces, &drawn.images, shape, seen);
    let affine = parts.student.operator.matrix();
    if affine.n > MOST {
        tracing::warn!("the operator has {} numbers; modes are found for at most {MOST}", affine.n);
        return Ok(found);
    }
    let modes = match Modes::of(&affine) {
        Ok(modes) => modes,
        Err(problem) => {
            tracing::warn!("{problem}: no modes are shown");
            return Ok(found);
        }
    };
    let conditioning =
        modes.conditioning(&affine).map_err(|problem| subject.student.bad_operator(problem))?;
    let amplitudes = modes.amplitudes(&drawn.latents);
    let ranked = largest_first(&amplitudes);
    mode_table(&mut found, &modes, &ranked, &amplitudes, conditioning);
    let principal = Principal::of(&affine, &drawn.latents);
    let principal = principal.map_err(|problem| subject.student.bad_operator(problem))?;
    truncation(&mut found, subject, parts, &drawn, &modes, &principal, &ranked)?;
    if grid::shows(&parts.config.shape) {
        found.figures.push(strip(subject, parts, &modes, teacher));
    }
    Ok(found)
}

/// The modes that carry most, and how the operator's directions disturb each other.
fn mode_table(
    found: &mut Found,
    modes: &Modes,
    ranked: &[usize],
    amplitudes: &[f64],
    conditioning: Conditioning,
) {
    let total: f64 = amplitudes.iter().map(|a| a * a).sum();
    let row = |(place, k): (usize, &usize)| {
        let (re, im) = modes.modes()[*k].eigenvalue;
        let share = if total > 0.0 { 100.0 * amplitudes[*k].powi(2) / total } else { 0.0 };
        vec![
            (place + 1).to_string(),
            if im == 0.0 { format!("{re:.4}") } else { format!("{re:.4} ± {im:.4}i") },
            format!("{:.4}", re.hypot(im)),
            format!("{:.3}", amplitudes[*k]),
            format!("{share:.1}%"),
        ]
    };
    found.tables.push(Table {
        title: "Modes that carry most".into(),
        columns: [
            "",
            "eigenvalue",
            "modulus",
            "amplitude on real latents",
            "share of their squares' sum",
        ]
        .map(String::from)
        .to_vec(),
        rows: ranked.iter().take(LISTED).enumerate().map(row).collect(),
    });
    let listed = |k: &usize| json!({"eigenvalue": modes.modes()[*k].eigenvalue, "amplitude": amplitudes[*k]});
    found.values.insert("modes".into(), ranked.iter().map(listed).collect());
    found.values.insert("conditioning".into(), json!(conditioning));
    let negative = modes.without_logarithm();
    found.values.insert("without_logarithm".into(), json!(negative));
    let Conditioning { norm, condition, departure, eigenvalue_condition: (median, largest) } =
        conditioning;
    let rows = [
        (
            "norm",
            norm,
            "the most by which the operator stretches a latent (its Lipschitz constant)",
        ),
        (
            "condition",
            condition,
            "largest over smallest stretch; noise is recovered from a latent only where it is small",
        ),
        (
            "departure",
            departure,
            "from a normal matrix, 0 to 1: at 0 modes are orthogonal and don't disturb each other",
        ),
        (
            "eigenvalue_condition",
            median,
            "median by which an eigenvalue moves when the operator is disturbed by 1",
        ),
        ("worst_eigenvalue_condition", largest, "the same for the most sensitive eigenvalue"),
        (
            "without_logarithm",
            negative as f64,
            "negative real eigenvalues: without a principal logarithm, powers of them between 0 \
             and 1 are cut to their real part",
        ),
    ];
    let rows =
        rows.map(|(name, value, note)| [name.into(), crate::portrait::shown(value), note.into()]);
    found.tables.push(Table::of("Operator", rows.to_vec()));
}

/// `student` with another operator.
pub fn with_operator(student: &Koopman, affine: &Affine, device: &burn::tensor::Device) -> Koopman {
    Koopman { operator: Operator::Dense(Dense::of(affine, device)), ..student.clone() }
}

/// The mean of rows of `width` numbers.
pub fn mean(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    rows.chunks_exact(width)
        .for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x)));
    let count = (rows.len() / width) as f64;
    sum.into_iter().map(|s| s / count).collect()
}

/// Root mean square of the distance of rows' numbers to their means.
pub fn deviation(rows: &[f32], width: usize) -> f64 {
    let middle = mean(rows, width);
    let squares = rows.iter().enumerate().map(|(i, x)| (f64::from(*x) - middle[i % width]).powi(2));
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

/// Samples of an operator that was cut.
#[derive(Clone)]
struct Cut {
    images: Vec<f32>,
    /// To the samples of the whole operator.
    rmse: f64,
    fid: Option<f64>,
}

/// What images lose when only the leading modes are kept.
fn truncation(
    found: &mut Found,
    subject: Subject,
    parts: Stepwise,
    drawn: &Drawn,
    modes: &Modes,
    principal: &Principal,
    ranked: &[usize],
) -> Outcome<()> {
    let device = burn::tensor::Device::flex();
    let (config, shape) = (parts.config, &parts.config.shape);
    let centre = mean(&drawn.latents, config.operator_dim());
    let spread = deviation(&drawn.images, config.dim());
    let fid = |features: Option<&Features>| {
        features.zip(subject.reference).map(|(f, r)| distance_to(r, f)).transpose()
    };
    let whole = Cut { images: drawn.images.clone(), rmse: 0.0, fid: fid(drawn.features.as_ref())? };
    let cut = |affine: &Affine| -> Outcome<Cut> {
        let student = with_operator(parts.student, affine, &device);
        let images = Sampler::new(Student::Koopman(student), config, &device)
            .sample(subject.noise, subject.labels);
        let error =
            images.iter().zip(&whole.images).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let seen = subject
            .reference
            .and(subject.extractor)
            .map(|e| inspect(e, &images, shape, "features"));
        Ok(Cut { rmse: (error / images.len() as f64).sqrt(), fid: fid(seen.as_ref())?, images })
    };
    let mut counts: Vec<usize> = (0..).map(|i| 1 << i).take_while(|k| *k < ranked.len()).collect();
    counts.insert(0, 0);
    let (mut rows, mut listed) = (Vec::new(), Vec::new());
    let mut shown: Vec<f32> = Vec::new();
    let pictures = GRID.min(subject.noise.len() / config.dim());
    let (name, heading) = match subject.extractor {
        Some(extractor) if extractor.is_inception() => ("fid", "FID"),
        _ => ("feature_fid", "feature FID"),
    };
    for kept in counts.into_iter().chain([ranked.len()]) {
        let rank: usize = ranked[..kept].iter().map(|k| modes.modes()[*k].size()).sum();
        let (Cut { images, rmse, fid }, Cut { rmse: best_rmse, fid: best_fid, .. }) =
            if kept == ranked.len() {
                (whole.clone(), whole.clone())
            } else {
                (cut(&modes.truncated(&ranked[..kept], &centre))?, cut(&principal.truncated(rank))?)
            };
        shown.extend(&images[..pictures * config.dim()]);
        let mut row = vec![
            kept.to_string(),
            rank.to_string(),
            format!("{rmse:.4}"),
            format!("{:.1}%", 100.0 * rmse / spread),
        ];
        row.extend(fid.map(|fid| format!("{fid:.3}")));
        row.push(format!("{best_rmse:.4}"));
        row.extend(best_fid.map(|fid| format!("{fid:.3}")));
        rows.push(row);
        let principal = json!({"rmse": best_rmse, name: best_fid});
        listed.push(
            json!({"modes": kept, "rank": rank, "rmse": rmse, name: fid, "principal": principal}),
        );
    }
    let mut columns =
        vec!["modes kept", "rank", "rmse to all modes' samples", "of their deviation"];
    let of_principal = format!("{heading} by principal directions");
    if subject.reference.is_some() {
        columns.push(heading);
    }
    columns.push("rmse by as many principal directions");
    if subject.reference.is_some() {
        columns.push(&of_principal);
    }
    let columns = columns.into_iter().map(String::from).collect();
    found.tables.push(Table {
        title: "Truncation to the modes that carry most".into(),
        columns,
        rows,
    });
    let points = |key: &str| -> Vec<(f64, f64)> {
        listed
            .iter()
            .filter_map(|row| Some((row["rank"].as_f64()?.max(0.5), row.pointer(key)?.as_f64()?)))
            .collect()
    };
    let fid_key = format!("/{name}");
    let best_fid_key = format!("/principal/{name}");
    let curves = [
        Curve { name: "rmse, modes".into(), points: points("/rmse") },
        Curve { name: format!("{heading}, modes"), points: points(&fid_key) },
        Curve { name: "rmse, principal directions".into(), points: points("/principal/rmse") },
        Curve { name: format!("{heading}, principal directions"), points: points(&best_fid_key) },
    ];
    let axis = Axis { name: "rank kept", logarithmic: true };
    found.figures.extend(plots::curves("Truncation", axis, &curves).map(|png| Figure {
        title: "Truncation".into(),
        png,
        caption: "How samples change when the operator keeps only the modes that carry most on real latents, and when it keeps \
                  as many of the directions in which its latents vary most, the best that rank \
                  allows. Where a curve is flat, \
                  the rest can be left out. Rank 0 is drawn at 0.5."
            .into(),
    }));
    if grid::shows(shape) {
        let caption = format!(
            "The same noise by row of modes kept: none, 1, 2, 4, ... and all {} in the last row.",
            ranked.len()
        );
        found.figures.push(Figure {
            title: "Samples by modes kept".into(),
            png: grid::png(&shown, shape, pictures),
            caption,
        });
    }
    found.values.insert("truncation".into(), Value::Array(listed));
    Ok(())
}

/// Pictures of a row.
const GRID: usize = 16;

/// Latents after parts of the operator's step, drawn; beside what the teacher passes through.
fn strip(
    subject: Subject,
    parts: Stepwise,
    modes: &Modes,
    teacher: Option<(&Teacher, &Process)>,
) -> Figure {
    let config = parts.config;
    let few = subject.first(STRIPS);
    let (dim, count) = (config.dim(), few.noise.len() / config.dim());
    let latents = parts.encode_noise(few.noise, few.labels);
    let shift = parts.control(few.labels);
    let times = (0..STRIP_STEPS).map(|i| i as f64 / (STRIP_STEPS - 1) as f64);
    let drawn: Vec<Vec<f32>> =
        times.map(|t| parts.decode(&modes.flow(&latents, &shift, t), few.labels)).collect();
    let way = teacher.map(|(teacher, process)| {
        let x = few.noise.iter().map(|x| f64::from(*x)).collect();
        trajectory(teacher, process, STRIP_STEPS, x, few.labels)
    });
    let mut rows: Vec<f32> = Vec::new();
    for i in 0..count {
        let range = i * dim..(i + 1) * dim;
        drawn.iter().for_each(|images| rows.extend(&images[range.clone()]));
        for points in way.iter() {
            // x_t at its own deviation, so that noise does not hide all else.
            for point in points {
                let (_, process) = teacher.expect("there is a way");
                let level = process.level(point.time);
                let scale = (level.alpha.powi(2) + level.sigma.powi(2)).sqrt();
                rows.extend(point.x[range.clone()].iter().map(|x| (x / scale) as f32));
            }
            points.iter().for_each(|point| {
                rows.extend(point.denoised[range.clone()].iter().map(|x| *x as f32))
            });
        }
    }
    let note = match modes.without_logarithm() {
        0 => String::new(),
        n => format!(
            " {n} modes have a negative real eigenvalue and no principal logarithm: of their \
             powers the real part is taken."
        ),
    };
    let beside = if way.is_some() {
        " Below it the teacher's state x_t at its solver's times, scaled to deviation 1, and its \
         denoised guess."
    } else {
        ""
    };
    Figure {
        title: "From noise to image".into(),
        png: grid::png(&rows, &config.shape, STRIP_STEPS),
        caption: format!(
            "The decoder's picture of latents C^t E_T(x_T) for t from 0 (left) to 1 (right), for {count} samples.{beside} The \
             student was trained at t = 1 alone: what lies between is the operator's own.{note}"
        ),
    }
}

/// Distances between pairs of images by what they show, by all factors and by each: key, name, and
/// a number a pair, not finite where an image shows no shape.
fn factor_distances(images: &[f32], dim: usize) -> Vec<(String, String, Vec<f64>)> {
    let width = FACTORS.map(|(_, range)| range.end).into_iter().max().unwrap_or(0);
    let missing = vec![f64::NAN; width];
    let numbers: Vec<Vec<f64>> = images
        .chunks_exact(dim)
        .map(|image| {
            Factors::measure(image).map_or_else(|| missing.clone(), |factors| factors.numbers())
        })
        .collect();
    let by = |range: std::ops::Range<usize>| {
        let part: Vec<f32> =
            numbers.iter().flat_map(|row| &row[range.clone()]).map(|x| *x as f32).collect();
        pair_distances(&part, range.len())
    };
    let each = FACTORS.map(|(name, range)| {
        (format!("factor_{name}"), format!("{name} of the shapes"), by(range))
    });
    [("factors".to_string(), "all factors of the shapes".to_string(), by(0..width))]
        .into_iter()
        .chain(each)
        .collect()
}

/// What distances between latents tell, beside distances between noises.
fn semantics(subject: Subject, parts: Stepwise, drawn: &Drawn, to: &[f32]) -> Found {
    let config = parts.config;
    let (dim, n, k) = (config.dim(), config.operator_dim(), config.label_dim);
    let Drawn { images, latents: from, features } = drawn;
    let spaces = [
        ("noise", "noise x_T", pair_distances(subject.noise, dim)),
        ("latent", "latent z_T", pair_distances(from, n)),
        ("pushed", "latent C z_T", pair_distances(to, n)),
    ];
    let mut outputs =
        vec![("pixels".to_string(), "pixels".to_string(), pair_distances(images, dim))];
    if let Some(seen) = features {
        outputs.push((
            "features".into(),
            "features".into(),
            pair_distances(&seen.features, seen.dim),
        ));
    }
    if subject.data == "shapes" && config.shape == [3, SIDE, SIDE] {
        outputs.extend(factor_distances(images, dim));
    }
    let same: Option<Vec<bool>> = (k > 0)
        .then(|| subject.labels.chunks_exact(2 * k).map(|pair| pair[..k] == pair[k..]).collect());
    if let Some(same) = &same {
        outputs.push((
            "labels".into(),
            "labels (0 same, 1 other)".into(),
            same.iter().map(|same| f64::from(u8::from(!same))).collect(),
        ));
    }

    let mut found = Found::default();
    let mut listed = serde_json::Map::new();
    let mut rows = Vec::new();
    let cell = |found: Option<Correlation>| {
        found.map_or_else(String::new, |c| {
            format!("{:.3} ({:.3} to {:.3})", c.value, c.interval.0, c.interval.1)
        })
    };
    let mut add = |key: String, name: String, output: &[f64], pick: &dyn Fn(&[f64]) -> Vec<f64>| {
        let told = |d: &[f64]| -> Vec<f64> {
            let both = pick(d).into_iter().zip(pick(output));
            both.filter(|(_, output)| output.is_finite()).map(|(d, _)| d).collect()
        };
        let of =
            spaces.each_ref().map(|(_, _, d)| correlation(&told(d), &told(output), BOOTSTRAP_SEED));
        let values =
            spaces.iter().zip(&of).map(|((space, ..), c)| ((*space).to_string(), json!(c)));
        listed.insert(key, Value::Object(values.collect()));
        rows.push([vec![name], of.map(cell).to_vec()].concat());
    };
    for (key, name, output) in &outputs {
        add(key.clone(), name.clone(), output, &|d| d.to_vec());
        if let Some(same) = same.as_ref().filter(|_| key != "labels") {
            let within = |d: &[f64]| {
                d.iter().zip(same).filter(|(_, same)| **same).map(|(d, _)| *d).collect::<Vec<f64>>()
            };
            add(
                format!("{key}_within_class"),
                format!("{name}, pairs of one class"),
                output,
                &within,
            );
        }
    }
    found.tables.push(Table {
        title: "Correlation of distances".into(),
        columns: [
            "distance of outputs by",
            "to that of noise x_T",
            "of latents z_T",
            "of latents C z_T",
        ]
        .map(String::from)
        .to_vec(),
        rows,
    });
    found.values.insert("semantics".into(), Value::Object(listed));

    // Stretch of the decoder: between samples, and by a small step in a random direction.
    let small = (SMALL * deviation(to, n)) as f32;
    let few = subject.first(STEPPED);
    let count = few.noise.len() / dim;
    let steps = kdm_random::normal_vec(STEP_SEED, count * n);
    let moved: Vec<f32> = to[..count * n].iter().zip(steps).map(|(z, e)| z + small * e).collect();
    let (before, after) =
        (parts.decode(&to[..count * n], few.labels), parts.decode(&moved, few.labels));
    let local = stretch(&distances(&to[..count * n], &moved, n), &distances(&before, &after, dim));
    let between = stretch(&spaces[2].2, &outputs[0].2);
    let push = stretch(&spaces[1].2, &spaces[2].2);
    found.values.insert(
        "stretch".into(),
        json!({"operator": push, "decoder": between, "decoder_small_steps": local}),
    );
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (name, found, note) in [
        ("operator", push, "distance of two samples' latents after the operator over that before"),
        ("decoder", between, "distance of two samples over that of their latents C z_T"),
        (
            "decoder, small steps",
            local,
            "the same for a small step in a random direction: random directions matter less",
        ),
    ] {
        if let Some(stretch) = found {
            let value = format!("{:.3}, at most {:.3}", stretch.median, stretch.largest);
            rows.push([
                name.into(),
                value,
                format!(
                    "{note}; the median, and the largest seen, which a Lipschitz constant \
                         can't be below"
                ),
            ]);
        }
    }
    found.tables.push(Table::of("Stretch", rows));
    found
}

/// The process that a student's pairs were drawn by, as its file says.
///
/// # Errors
/// When the file doesn't say.
pub fn process_of(student: &LoadedStudent) -> Outcome<Process> {
    serde_json::from_value(student.file.origin["pairs"]["sampling"]["process"].clone()).map_err(
        |_| {
            Failure::Usage(format!(
                "--teacher: {} doesn't say by which process its pairs were drawn",
                student.path.display()
            ))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_data::images::shapes;

    /// Distances by factors of drawn images are those of the factors they were drawn from; a pair
    /// with an image of nothing has none.
    #[test]
    fn factors_of_images_are_compared() {
        let (set, truth) = shapes::draw(5, 6);
        let dim = 3 * SIDE * SIDE;
        let mut images = set.images(0..6);
        images[5 * dim..].fill(-0.8);
        let found = factor_distances(&images, dim);
        let names: Vec<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(names, ["factors", "factor_shape", "factor_hue", "factor_size", "factor_place"]);
        for pair in 0..2 {
            let (a, b) = (truth[2 * pair].numbers(), truth[2 * pair + 1].numbers());
            for ((name, _, distances), range) in
                found[1..].iter().zip(FACTORS.map(|(_, range)| range))
            {
                let square = range.map(|i| (a[i] - b[i]).powi(2)).sum::<f64>();
                // What the measurement of rounded pixels leaves of hue, size and place.
                assert!(
                    (distances[pair] - square.sqrt()).abs() < 0.1,
                    "{name}: {} {}",
                    distances[pair],
                    square.sqrt()
                );
            }
        }
        assert!(found.iter().all(|(.., distances)| distances.len() == 3 && distances[2].is_nan()));
    }
}
