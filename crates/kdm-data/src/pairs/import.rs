//! Bringing pairs of other programs into a store: what their values and axes are is found out (or
//! told), everything is looked at before anything is written, and memory stays flat.

use std::ops::Range;
use std::path::Path;

use kdm_observer::{Observer, Stopped};
use sha2::{Digest, Sha256};

use super::manifest::{ImageType, MAX_NOISE_STD, MIN_NOISE_STD, Manifest, NoiseSource};
use super::states::{MOST_STATES, StateTime};
use super::values::{Axes, Extremes, ValueRange};
use super::write::{Worker, fill};
use crate::hash::sha256;
use crate::labels::{GIVE_LABELS, MOST_CLASSES};
use crate::{Error, Labels, Result, Samples};

/// Pairs of another program's file or folder, read a few at a time.
pub trait PairSource {
    /// Pairs.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was found, for messages and the history.
    fn found(&self) -> String;

    /// The file or folder.
    fn path(&self) -> &Path;

    /// Shape of one image, axes in the file's order.
    fn image_shape(&self) -> &[usize];

    /// Shape of one noise, likewise.
    fn noise_shape(&self) -> &[usize];

    /// Whether images are kept as whole numbers.
    fn whole_images(&self) -> bool;

    /// The noise's standard deviation, where the file tells it.
    fn noise_std(&self) -> Option<f64> {
        None
    }

    /// The number of classes, where the file tells it.
    fn label_dim(&self) -> Option<usize> {
        None
    }

    /// States between noise and image that the file has of each pair.
    fn state_count(&self) -> usize {
        0
    }

    /// When they are, where the file tells it.
    fn state_times(&self) -> Option<Vec<StateTime>> {
        None
    }

    /// The states of some pairs in a row, of each from noise to image, axes as the images'.
    ///
    /// # Errors
    /// When they can't be read.
    fn read_states(&self, _: Range<usize>) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    /// Some pairs in a row, values and axes as the file has them.
    ///
    /// # Errors
    /// When they can't be read.
    fn read(&self, range: Range<usize>) -> Result<Samples>;

    /// What messages call a pair: its file and its place there.
    fn place(&self, pair: usize) -> String {
        format!("pair {pair}")
    }
}

/// What a person tells of pairs, in place of what would be found.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Standard deviation of the noise.
    pub noise_std: Option<f64>,
    /// Order of the images' axes.
    pub axes: Option<Axes>,
    /// What the images' values mean.
    pub range: Option<ValueRange>,
    /// Classes, where the last ones have no pairs.
    pub classes: Option<usize>,
    /// Whether the states between noise and image are kept too.
    pub states: bool,
    /// How the store keeps images.
    pub dtype: ImageType,
    /// Pairs a shard.
    pub shard_size: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        let dtype = ImageType::F32;
        let (noise_std, axes, range, classes) = (None, None, None, None);
        Self { noise_std, axes, range, classes, states: false, dtype, shard_size: 8192 }
    }
}

/// Values read at a time, about.
const VALUES: usize = 1 << 22;

/// Writes another program's pairs as a store that keeps their noise. Images become [C, H, W] in
/// [-1, 1]; points stay as they are.
///
/// The pairs are read twice: once to look at every value, so that all that is wrong is told before
/// anything is written, and once to write them.
///
/// # Errors
/// When a value isn't finite, axes, values or labels are in doubt or contradict what is told, the
/// folder holds something else or can't be written, and when the observer stops it: running it
/// again goes on after the last finished shard.
pub fn import(
    folder: &Path,
    pairs: &dyn PairSource,
    name: &str,
    options: &ImportOptions,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let axes = Axes::find(pairs.image_shape(), options.axes)
        .map_err(|unclear| invalid(pairs, "image", &unclear, unclear.action()))?;
    let shape = axes.shape(pairs.image_shape());
    let noise_axes = if pairs.noise_shape() == pairs.image_shape() {
        axes
    } else if pairs.noise_shape() == shape {
        Axes::kept(&shape)
    } else {
        let problem =
            format!("is {:?} where `image` is {:?}", pairs.noise_shape(), pairs.image_shape());
        return Err(invalid(pairs, "noise", problem, "give both the same shape, pairs first"));
    };
    if options.states && pairs.state_count() > MOST_STATES {
        let problem =
            format!("are {} of each pair, and {MOST_STATES} are the most", pairs.state_count());
        let action = "leave --states out, or save fewer of them";
        return Err(invalid(pairs, "states", problem, action));
    }
    let look = look(pairs, options.states, observer)?;
    let range =
        ValueRange::find(&look.images, shape.len() == 3, pairs.whole_images(), options.range)
            .map_err(|unclear| invalid(pairs, "image", &unclear, unclear.action()))?;
    check_dtype(pairs, &look.images, range, options.dtype, observer)?;
    let noise_std = noise_std(pairs, &look.noise, options.noise_std, observer)?;
    let states = if options.states { state_times(pairs, range, noise_std)? } else { Vec::new() };
    let label_dim = label_dim(pairs, &look.labels, options.classes)?;
    let mut found = pairs.found();
    for more in [axes.note(), range.note()].into_iter().flatten() {
        found = format!("{found}; {more}");
    }
    let plan = Manifest {
        noise: NoiseSource::Stored,
        dtype: options.dtype,
        label_dim,
        shard_size: options.shard_size,
        states,
        history: vec![format!("imported from {name} ({:.12}): {found}", look.hash)],
        ..Manifest::seeded(0, noise_std, &shape, pairs.len())
    };
    let mut progress = observer.begin("import", "pairs");
    let mut batch = |part: Range<usize>| {
        let raw = pairs.read(part.clone())?;
        let mut images = axes.planes(&raw.images, pairs.image_shape());
        images.iter_mut().for_each(|x| *x = range.value(*x));
        let noise = noise_axes.planes(&raw.noise, pairs.noise_shape());
        let labels = look.labels.range(part.clone());
        let states = match options.states {
            true => axes.planes(&pairs.read_states(part)?, pairs.image_shape()),
            false => Vec::new(),
        };
        let seeds = Vec::new();
        Ok(Samples { shape: shape.clone(), noise, images, labels, seeds, states })
    };
    let at_once = at_once(pairs);
    let filled = fill(folder, &plan, Worker::ALONE, at_once, &mut batch, &mut progress)?;
    progress.finish(&format!("{found}; noise of standard deviation {noise_std:.4}"));
    Ok(filled.manifest)
}

fn invalid(
    pairs: &dyn PairSource,
    field: &str,
    problem: impl ToString,
    action: impl Into<String>,
) -> Error {
    Error::invalid(pairs.path(), field, problem.to_string(), action)
}

/// Pairs read at a time.
fn at_once(pairs: &dyn PairSource) -> usize {
    let dim: usize = pairs.image_shape().iter().product();
    (VALUES / dim.max(1)).clamp(1, 1024)
}

/// When the states of these pairs are: as the file tells, or at even times of a straight way, as
/// flow matching has them.
fn state_times(
    pairs: &dyn PairSource,
    range: ValueRange,
    noise_std: f64,
) -> Result<Vec<StateTime>> {
    let count = pairs.state_count();
    if count == 0 {
        let action = "leave --states out, or give a .npy of shape (steps, pairs, ...), or a .npz \
                      with arrays `states` and `state_times`";
        return Err(invalid(pairs, "states", "are not in this file", action));
    }
    if range != ValueRange::Signed {
        let problem = "are of images that are not from -1 to 1";
        return Err(invalid(pairs, "states", problem, "leave --states out, or scale them all"));
    }
    let even = |i: usize| StateTime::straight((i + 1) as f64 / (count + 1) as f64, noise_std);
    let times = pairs.state_times().unwrap_or_else(|| (0..count).map(even).collect());
    if times.len() != count {
        let problem = format!("are {count} with {} times", times.len());
        return Err(invalid(pairs, "states", problem, "give a row of times for each"));
    }
    Ok(times)
}

/// What all pairs together are.
struct Look {
    images: Extremes,
    noise: Extremes,
    labels: Labels,
    hash: String,
}

/// Reads everything once.
fn look(pairs: &dyn PairSource, with_states: bool, observer: &dyn Observer) -> Result<Look> {
    let stopped = |stopped: Stopped| {
        let work = format!("reading `{}`", pairs.path().display());
        let action = "run the same command again: it begins anew";
        Error::stopped(work, "nothing was written", action)(stopped)
    };
    let (total, at_once) = (pairs.len(), at_once(pairs));
    let (mut images, mut noise) = (Extremes::default(), Extremes::default());
    let (mut labels, mut hashes) = (Labels::none(0), [Sha256::new(), Sha256::new()]);
    let mut progress = observer.begin("import: look at all pairs", "pairs");
    for start in (0..total).step_by(at_once) {
        progress.advance(start as u64, total as u64, "").map_err(stopped)?;
        let range = start..(start + at_once).min(total);
        let batch = pairs.read(range.clone())?;
        let [noise_hash, images_hash] = &mut hashes;
        if with_states {
            let states = pairs.read_states(range.clone())?;
            let width = (states.len() / range.len()).max(1);
            if let Some(i) = states.iter().position(|x| !x.is_finite()) {
                let problem =
                    format!("{} has the value {}", pairs.place(start + i / width), states[i]);
                let action = "remove that pair and import again; nothing was written";
                return Err(invalid(pairs, "states", problem, action));
            }
            images_hash.update(bytemuck::cast_slice::<f32, u8>(&states));
        }
        for (name, values, extremes, hash) in [
            ("noise", &batch.noise, &mut noise, noise_hash),
            ("image", &batch.images, &mut images, images_hash),
        ] {
            let width = values.len() / range.len();
            if let Some(i) = extremes.add(values) {
                let place = pairs.place(start + i / width.max(1));
                let problem = format!("{place} has the value {}", values[i]);
                let action = "remove that pair and import again; nothing was written";
                return Err(invalid(pairs, name, problem, action));
            }
            hash.update(bytemuck::cast_slice::<f32, u8>(values));
        }
        labels.append(&batch.labels);
    }
    progress.report(total as u64, total as u64, "");
    progress.finish("");
    let hex = |hash: Sha256| hash.finalize().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let [noise_hash, images_hash] = hashes.map(hex);
    let classes = sha256(bytemuck::cast_slice(&labels.classes()));
    let hash = sha256([noise_hash, images_hash, classes].concat().as_bytes());
    Ok(Look { images, noise, labels, hash })
}

/// How far beyond [-1, 1] values may lie where bytes are to keep them: solvers overshoot.
const MOST_CLIPPED: f64 = 1.5;

/// Whether the store's type holds the images.
fn check_dtype(
    pairs: &dyn PairSource,
    images: &Extremes,
    range: ValueRange,
    dtype: ImageType,
    observer: &dyn Observer,
) -> Result<()> {
    let ends = [images.min, images.max].map(|x| f64::from(range.value(x as f32)));
    let far = ends[0].abs().max(ends[1].abs());
    let problem = format!("has values from {:.4e} to {:.4e}", ends[0], ends[1]);
    let action = "choose --dtype f32, or say what the values mean with --range";
    match dtype {
        ImageType::U8 if far > MOST_CLIPPED => {
            let problem = format!("{problem}, and u8 keeps [-1, 1]");
            Err(invalid(pairs, "image", problem, action))
        }
        ImageType::F16 if !half::f16::from_f64(far).is_finite() => {
            let problem = format!("{problem}, and f16 keeps up to 65504");
            Err(invalid(pairs, "image", problem, action))
        }
        _ => {
            if pairs.image_shape().len() == 3 && far > 1.1 {
                let clipped = if dtype == ImageType::U8 { "; u8 clips them" } else { "" };
                observer.warn(&format!("`image` {problem}, and images lie in [-1, 1]{clipped}"));
            }
            Ok(())
        }
    }
}

/// Standard deviations that are common: of flow matching and GET, and of EDM's x_T.
const COMMON: [f64; 2] = [1.0, 80.0];

/// The noise's standard deviation: as told, else a common one that the noise agrees with, else as
/// measured.
fn noise_std(
    pairs: &dyn PairSource,
    noise: &Extremes,
    told: Option<f64>,
    observer: &dyn Observer,
) -> Result<f64> {
    let measured = noise.deviation();
    if measured == 0.0 {
        let action = "check which array is the noise, and name it with --noise-key";
        return Err(invalid(pairs, "noise", "is 0 everywhere", action));
    }
    // Four standard errors of a normal sample's deviation.
    let error = 4.0 / (2.0 * noise.count as f64).sqrt();
    let apart = |std: f64| (measured / std).ln().abs();
    if let Some((std, who)) =
        told.map(|std| (std, "--noise-std")).or(pairs.noise_std().map(|std| (std, "the file")))
    {
        let problem = format!("deviates by {measured:.4} as found, and {who} says {std:e}");
        let fits = (MIN_NOISE_STD..=MAX_NOISE_STD).contains(&std);
        if !fits || apart(std) > 2f64.ln() + error {
            let action = format!(
                "give --noise-std {measured:.4} or leave it out (a store keeps noise as it is, and \
                 does not scale it)"
            );
            return Err(invalid(pairs, "noise", problem, action));
        }
        if apart(std) > error + 0.01 {
            observer.warn(&format!("the noise {problem}"));
        }
        return Ok(std);
    }
    if noise.mean().abs() > 0.2 * measured + error {
        observer.warn(&format!(
            "the noise has a mean of {:.3} beside a deviation of {measured:.3}: is it noise? \
             --noise-key names the array",
            noise.mean()
        ));
    }
    if !(MIN_NOISE_STD..=MAX_NOISE_STD).contains(&measured) {
        let problem = format!("deviates by {measured:e}");
        return Err(invalid(pairs, "noise", problem, "scale it to a standard deviation near 1"));
    }
    // Sets that were made from a common one by other roundings, or are small, are near enough.
    let near = |std: &&f64| apart(**std) <= error.clamp(0.05, 0.25);
    let taken = COMMON.iter().find(near).copied().unwrap_or(measured);
    observer.info(&format!(
        "the noise deviates by {measured:.4} as found and is taken to have a standard deviation of \
         {taken:.4}; --noise-std says otherwise"
    ));
    Ok(taken)
}

/// The number of classes, which every label must fit.
fn label_dim(pairs: &dyn PairSource, labels: &Labels, told: Option<usize>) -> Result<usize> {
    let none = labels.iter().position(|class| class.is_none());
    let most = labels.iter().flatten().max();
    let (first, most) = match (none, most) {
        (_, None) if told.is_none_or(|classes| classes == 0) => return Ok(0),
        (_, None) => {
            let problem = "are missing, and --classes says how many classes there are";
            return Err(invalid(pairs, "labels", problem, "leave --classes out"));
        }
        (Some(pair), Some(_)) => {
            let problem = format!("{} has no class, and others have", pairs.place(pair));
            return Err(invalid(pairs, "labels", problem, GIVE_LABELS));
        }
        (None, Some(most)) => (labels.iter().position(|class| class == Some(most)), most as usize),
    };
    let classes = told.or(pairs.label_dim()).unwrap_or(most + 1);
    if most >= classes || classes > MOST_CLASSES {
        let place = pairs.place(first.unwrap_or(0));
        let problem = format!("{place} is of class {most}, and there are {classes} classes");
        return Err(invalid(pairs, "labels", problem, "give a larger --classes"));
    }
    Ok(classes)
}
