//! Pairs drawn from a teacher.

use std::path::Path;

use kdm_data::Labels;
use kdm_data::pairs::{
    self, Drawn, ImageType, ImportOptions, MAX_NOISE_STD, MIN_NOISE_STD, Manifest, NoiseSource,
    PairStore, STORE_VERSION, Sampling, Share, TeacherStamp, Worker,
};
use kdm_formats::pairs::Keys;
use kdm_observer::Observer;
use kdm_teacher::{
    Denoiser, Guided, KeptState, Process, Solver, Teacher, kept_states, solve_through,
};
use serde_json::json;

use crate::remote::{Address, Needed, fetched};
use crate::usable::{Wanted, instead};
use crate::{Context, Experiment, Failure, LoadedStudent, Outcome};

/// How pairs are drawn.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Which noise levels.
    pub process: Process,
    /// Which solver.
    pub solver: Solver,
    /// Solver steps.
    pub steps: usize,
    /// Weight of classifier-free guidance; 1 for the teacher itself.
    pub guidance: f64,
    /// Pairs a batch.
    pub batch: usize,
}

impl Drawing {
    /// As the experiment says, within the noise levels that `teacher` knows.
    pub fn of(experiment: &Experiment, teacher: &Teacher) -> Self {
        let p = &experiment.pairs;
        Self {
            process: p.process.fit(teacher),
            solver: p.solver,
            steps: p.steps,
            guidance: p.guidance,
            batch: p.batch,
        }
    }

    /// As the pairs were drawn that a student was distilled from, where its file says so.
    pub fn recorded(student: &LoadedStudent) -> Option<Self> {
        let sampling = student.file.origin.sampling()?.clone();
        let Sampling { process, solver, steps, guidance, .. } =
            serde_json::from_value(sampling).ok()?;
        Some(Self {
            process: serde_json::from_value(process).ok()?,
            solver: serde_json::from_value(solver).ok()?,
            steps,
            guidance: guidance.unwrap_or(1.0),
            batch: 1,
        })
    }

    /// Network passes a pair (NFE); guidance takes two where one is taken without.
    pub fn evaluations(&self, label_dim: usize) -> usize {
        let passes = if self.guidance != 1.0 && label_dim > 0 { 2 } else { 1 };
        passes * self.solver.evaluations(self.steps)
    }
}

/// How many pairs, of which seeds, and how they are kept.
#[derive(Clone, Copy, Debug)]
pub struct StorePlan {
    /// Seed of the first pair; seeds count up from it.
    pub first_seed: u64,
    /// Pairs in the whole store.
    pub count: usize,
    /// How images are kept.
    pub dtype: ImageType,
    /// Pairs a shard.
    pub shard_size: usize,
    /// States between noise and image that are kept of each pair.
    pub states: usize,
}

/// The manifest of a store drawn from `teacher`, before it is drawn.
///
/// # Errors
/// When the solver doesn't pass through as many states as are to be kept.
pub fn pair_plan(teacher: &Teacher, drawing: &Drawing, plan: StorePlan) -> Outcome<Manifest> {
    let Drawing { process, solver, steps, guidance, .. } = drawing;
    let StorePlan { first_seed, count, dtype, shard_size, states } = plan;
    let kept = kept(teacher, drawing, states)?;
    Ok(Manifest {
        version: STORE_VERSION,
        teacher: Some(teacher.stamp()),
        sampling: Some(Sampling {
            process: json!(process),
            solver: json!(solver),
            steps: *steps,
            evaluations: drawing.evaluations(teacher.label_dim()),
            guidance: (*guidance != 1.0).then_some(*guidance),
        }),
        noise: NoiseSource::Seeded {
            generator: kdm_random::GENERATOR.into(),
            first_seed: Some(first_seed),
        },
        noise_std: process.noise_std(),
        shape: teacher.shape(),
        dtype,
        label_dim: teacher.label_dim(),
        count,
        shard_size,
        states: kept.iter().map(|state| state.time).collect(),
        history: Vec::new(),
        shards: Vec::new(),
        checksum: String::new(),
    })
}

/// The states that are kept of each pair.
fn kept(teacher: &Teacher, drawing: &Drawing, states: usize) -> Outcome<Vec<KeptState>> {
    kept_states(teacher, &drawing.process, drawing.steps, states).map_err(|problem| {
        Failure::Usage(format!("states: {}; keep fewer, or take more steps", problem.problem))
    })
}

/// Draws a store, or what is missing of it; `task` is what the observer is told.
///
/// # Errors
/// When the folder holds another store, or can't be written, or the observer stops the work:
/// finished shards are kept.
pub fn draw_pairs(
    teacher: &Teacher,
    plan: &Manifest,
    drawing: &Drawing,
    folder: &Path,
    worker: Worker,
    task: &str,
    observer: &dyn Observer,
) -> Outcome<Manifest> {
    let guided = Guided { denoiser: teacher, weight: drawing.guidance };
    let Drawing { process, solver, steps, .. } = drawing;
    let evaluations = solver.evaluations(*steps) as f64;
    let (kept, dim) = (kept(teacher, drawing, plan.states.len())?, teacher.dim());
    let mut draw = |noise: &[f32], labels: &Labels, share: &mut Share| {
        let x = noise.iter().map(|x| f64::from(*x)).collect();
        let mut watch = |made: usize| share(made as f64 / evaluations);
        let mut states = vec![0.0; noise.len() * kept.len()];
        let mut keep = |step: usize, x: &[f64]| {
            let Some(place) = kept.iter().position(|state| state.step == step) else { return };
            let rows = states.chunks_mut(dim * kept.len()).zip(x.chunks(dim));
            rows.for_each(|(row, x)| {
                let state = row[place * dim..(place + 1) * dim].iter_mut();
                state.zip(x).for_each(|(state, x)| *state = *x as f32);
            });
        };
        let way = (*solver, *steps);
        let images = solve_through(&guided, process, way, x, labels, &mut watch, &mut keep)?;
        Ok(Drawn { images: images.into_iter().map(|x| x as f32).collect(), states })
    };
    let batch = drawing.batch.min(at_a_time(teacher));
    Ok(pairs::generate_watched(folder, plan, worker, batch, &mut draw, task, observer)?)
}

/// Values of samples that are drawn at a time, so that a stop costs little.
const DRAWN_AT_A_TIME: usize = 1 << 15;
/// Samples that are drawn at a time at least: the teacher's weights are packed anew for each
/// evaluation, which takes as long as a few samples.
const LEAST_AT_A_TIME: usize = 32;

/// Samples of this teacher that are drawn between two times at which drawing can stop with all of
/// them kept.
pub(super) fn at_a_time(teacher: &Teacher) -> usize {
    (DRAWN_AT_A_TIME / teacher.dim()).max(LEAST_AT_A_TIME)
}

/// Opens a store after comparing every shard with its checksum: a folder, or the address of one on
/// object storage (see [`crate::remote`]).
///
/// # Errors
/// When it is none, which the message tells what it is instead, or damaged; when it can't be
/// fetched; and when the observer stops it.
pub fn open_store(folder: &Path, observer: &dyn Observer) -> Outcome<PairStore> {
    if let Some(folder) = fetched(folder, Needed::All, observer)? {
        return Ok(PairStore::open(&folder)?);
    }
    PairStore::open_observed(folder, observer)
        .map_err(|error| instead(folder, Wanted::Store, error.into()))
}

/// [`open_store`] for several workers of the runtime: the first one compares the checksums. What is
/// fetched from object storage each compares, as machines have caches of their own.
///
/// # Errors
/// As [`open_store`].
pub fn open_shared(folder: &Path, context: Context) -> Outcome<PairStore> {
    if context.runtime.workers().leads() || Address::find(folder).is_some() {
        return open_store(folder, context.observer);
    }
    PairStore::open(folder).map_err(|error| instead(folder, Wanted::Store, error.into()))
}

/// [`pairs::verify`] of a folder, or of the address of one on object storage.
///
/// # Errors
/// As [`open_store`], and for values that are no numbers.
pub fn verify_store(folder: &Path, observer: &dyn Observer) -> Outcome<PairStore> {
    let fetched = fetched(folder, Needed::All, observer)?;
    Ok(pairs::verify(fetched.as_deref().unwrap_or(folder), observer)?)
}

/// Brings pairs that another program drew into a store in `folder`: of any form that
/// [`kdm_formats::pairs`] knows, arrays named by `keys` or guessed, the rest as `options` say or as
/// it is found.
///
/// # Errors
/// When the file is in none of the forms that are known, something is in doubt that `options` could
/// say, a value isn't finite, or `folder` can't be written.
pub fn import_pairs(
    file: &Path,
    keys: &Keys,
    folder: &Path,
    options: &ImportOptions,
    observer: &dyn Observer,
) -> Outcome<Manifest> {
    if let Some(std) = options.noise_std
        && !(MIN_NOISE_STD..=MAX_NOISE_STD).contains(&std)
    {
        return Err(Failure::Usage(format!(
            "--noise-std {std:e}: give a standard deviation from {MIN_NOISE_STD:e} to \
             {MAX_NOISE_STD:e}, or leave it out to have it measured"
        )));
    }
    let found = kdm_formats::pairs::open(file, keys, observer)
        .map_err(|error| instead(file, Wanted::Pairs, error.into()))?;
    let source = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(pairs::import(folder, found.as_ref(), &source, options, observer)?)
}

/// Writes all pairs of a store as one `.npz` with arrays `noise`, `image` and, of a conditional
/// one, `label`, and with the scalars `noise_std` and, of a conditional one, `label_dim`. Memory
/// use doesn't grow with their number. Gives whether the noise was drawn again from its seeds.
///
/// # Errors
/// When the file can't be written, or the observer stops it.
pub fn export_pairs(store: &PairStore, out: &Path, observer: &dyn Observer) -> Outcome<bool> {
    pairs::export(store, out, observer)?;
    Ok(matches!(store.manifest().noise, NoiseSource::Seeded { .. }))
}

/// Whether `teacher`, which a person calls `name`, drew the store in `folder`.
///
/// # Errors
/// When another did.
pub fn check_drawn_by(
    folder: &Path,
    manifest: &Manifest,
    teacher: &Teacher,
    name: &str,
) -> Outcome<()> {
    let stamp = teacher.stamp();
    if manifest.teacher.as_ref() == Some(&stamp) {
        return Ok(());
    }
    let shown = |t: &TeacherStamp| format!("{} {} ({:.12})", t.name, t.data, t.sha256);
    let found = manifest.teacher.as_ref().map_or("no known teacher".into(), shown);
    let problem = format!("the pairs are from {found}, and `{name}` is {}", shown(&stamp));
    let action = "give the teacher that drew them, or draw pairs from this one";
    Err(kdm_data::Error::invalid(folder.join(pairs::MANIFEST), "teacher", problem, action).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_observer::Silent;
    use kdm_teacher::distributions::DistributionConfig;

    fn teacher() -> Teacher {
        Teacher::exact(DistributionConfig::Checkerboard { conditional: true }).unwrap()
    }

    fn drawn(folder: &Path, batch: usize) -> Manifest {
        let teacher = teacher();
        let (process, solver) = (Process::Flow, Solver::Heun);
        let drawing = Drawing { process, solver, steps: 4, guidance: 1.0, batch };
        let (dtype, shard_size) = (ImageType::F32, 16);
        let plan = StorePlan { first_seed: 7, count: 40, dtype, shard_size, states: 2 };
        let plan = pair_plan(&teacher, &drawing, plan).unwrap();
        draw_pairs(&teacher, &plan, &drawing, folder, Worker::ALONE, "pairs", &Silent).unwrap()
    }

    /// A pair is a function of its seed: the batch leaves no trace in the files.
    #[test]
    fn stores_are_the_same_whatever_the_batch() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (drawn(a.path(), 40), drawn(b.path(), 7));
        assert_eq!(first, second);
        let sampling = first.sampling.unwrap();
        // Heun takes two evaluations a step and one in the last.
        assert_eq!((sampling.steps, sampling.evaluations, sampling.guidance), (4, 7, None));
    }

    #[test]
    fn exported_pairs_come_back_and_another_teacher_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (place, out) = (folder.path().join("pairs"), folder.path().join("pairs.npz"));
        let manifest = drawn(&place, 40);
        let store = PairStore::open(&place).unwrap();
        assert!(export_pairs(&store, &out, &Silent).unwrap());
        let again = folder.path().join("again");
        let options = ImportOptions { shard_size: 100, states: true, ..ImportOptions::default() };
        let imported = import_pairs(&out, &Keys::default(), &again, &options, &Silent).unwrap();
        assert_eq!((imported.count, imported.label_dim, imported.noise_std), (40, 8, 1.0));
        assert_eq!(imported.states, manifest.states);
        let all: Vec<usize> = (0..40).collect();
        let pairs = PairStore::open(&again).unwrap().batch_with_states(&all);
        let expected = store.batch_with_states(&all);
        assert_eq!((pairs.images, pairs.noise), (expected.images, expected.noise));
        assert_eq!((pairs.states.len(), &pairs.states), (40 * 2 * 2, &expected.states));

        check_drawn_by(&place, &manifest, &teacher(), "checkerboard").unwrap();
        let other = Teacher::exact(DistributionConfig::by_name("mixture").unwrap()).unwrap();
        let failure = check_drawn_by(&place, &manifest, &other, "mixture").unwrap_err();
        assert!(failure.to_string().contains("`mixture` is"), "{failure}");
    }
}
