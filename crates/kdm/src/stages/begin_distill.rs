//! The beginning of a distillation in a folder of its own: whatever is wrong with the pairs, the
//! loss or the folder is told before anything is written.

use std::path::{Path, PathBuf};

use kdm_data::TensorFile;
use kdm_data::output::check_folder;
use kdm_data::pairs::PairStore;

use super::distill::{LossFiles, check_init, claim_init, distill, open_loss_network, student_for};
use super::pairs::open_shared;
use crate::assets::{self, Role, paths};
use crate::run_folder::{LENGTH, RunFolder, check_run, open_run};
use crate::{Context, Experiment, Outcome};

/// What a distillation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct DistillRequest<'a> {
    /// What is trained, and how.
    pub experiment: &'a Experiment,
    /// The store of pairs.
    pub pairs: &'a Path,
    /// The student whose weights it begins with where they fit: a file, or one that ships; fresh
    /// weights without.
    pub init_from: Option<&'a Path>,
    /// The folder to train in.
    pub out: &'a Path,
    /// Whether a training in that folder is gone on with.
    pub resume: bool,
}

/// A distillation that has all it needs, and whose folder is this process's, or its first worker's.
#[derive(Debug)]
pub struct BegunDistillation<'a> {
    request: DistillRequest<'a>,
    store: PairStore,
    init: Option<TensorFile>,
    /// None for a worker that another one holds it for.
    held: Option<RunFolder>,
}

impl<'a> DistillRequest<'a> {
    /// Checks everything, and takes the folder; of several workers the first one does.
    ///
    /// # Errors
    /// When the folder holds something else, or is an input; the pairs are damaged or too few; the
    /// loss's network or the student to begin with can't be read or doesn't fit; and when the
    /// observer stops the reading of pairs. Nothing is written then.
    pub fn begin(self, context: Context) -> Outcome<BegunDistillation<'a>> {
        let Self { experiment, pairs, init_from, out, resume } = self;
        let leads = context.runtime.workers().leads();
        if leads {
            check_run(out, experiment, resume, LENGTH)?;
        }
        let store = open_shared(pairs, context)?;
        let student = student_for(experiment, &store)?;
        let (loss, files) = (experiment.loss.reconstruction, LossFiles::of(experiment));
        open_loss_network(loss, files, &student.shape, context.device())?;
        let init = init_from.map(|path| assets::open(Role::Student, path)).transpose()?;
        if let Some(init) = &init {
            check_init(experiment, &store, init, context.device())?;
        }
        let dataset = experiment.teacher.dataset.as_deref().map(Path::new);
        check_folder(out, &paths(&[Some(pairs), init_from, dataset]))?;
        let held = leads.then(|| open_run(out, experiment, resume, LENGTH)).transpose()?;
        Ok(BegunDistillation { request: self, store, init, held })
    }
}

impl BegunDistillation<'_> {
    /// Distills, together with the other workers of the runtime where there are some. Gives the
    /// student's file, and the folder, to be told what came of it ([`RunFolder::after`]).
    pub fn run(self, context: Context) -> (Outcome<PathBuf>, Option<RunFolder>) {
        let Self { request, store, init, held } = self;
        let DistillRequest { experiment, out, .. } = request;
        let init = init.filter(|_| held.is_some());
        let claimed = init.map_or(Ok(()), |init| claim_init(out, &init));
        let student = claimed.and_then(|()| {
            context.runtime.workers().meet();
            distill(experiment, store, out, context)
        });
        (student, held)
    }
}
