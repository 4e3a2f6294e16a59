//! A build without MPI.

use std::sync::Arc;

use kdm_train::Workers;

use super::Launched;
use crate::{Failure, Outcome};

/// The sum by MPI's own function.
pub(super) fn library_sum(_: &[f32], _: &mut [f32]) {
    unreachable!("a build without MPI has one worker")
}

/// The world of processes that train together, of which there is none in this build.
#[derive(Debug)]
pub enum Together {}

impl Together {
    /// Refuses: started like this, every process would do all of the work.
    ///
    /// # Errors
    /// Always, with what to do.
    pub fn join(launched: &Launched) -> Outcome<Self> {
        Err(Failure::Usage(format!(
            "{}, and this build of kdm has no MPI, so that each of them would do all of the work; \
             build it with `cargo build --release --features mpi`, or start one process",
            launched.told()
        )))
    }

    /// Whether they are the same.
    ///
    /// # Errors
    /// Never.
    pub fn check(&self) -> Outcome<()> {
        match *self {}
    }

    /// The workers.
    pub fn workers(&self) -> Arc<dyn Workers> {
        match *self {}
    }

    /// Ends well.
    pub fn leave(self) {
        match self {}
    }

    /// Ends all processes at once.
    pub fn abort(self, _code: u8) -> ! {
        match self {}
    }
}
