//! Workers that are the processes of an MPI job.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kdm_data::hash::sha256;
use kdm_train::Workers;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use mpi::{Threading, initialize_with_threading, request};

use super::Launched;
use crate::{Failure, Outcome};

/// The world of processes that train together.
#[derive(Debug)]
pub struct Together {
    workers: Arc<Mpi>,
    /// Left in place where a process ends without [`Self::leave`]: MPI's own end waits for all
    /// others, and they for this one. The launcher ends them then.
    universe: ManuallyDrop<World>,
}

/// MPI from its beginning to its end.
struct World {
    _universe: Universe,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

impl Together {
    /// Joins the processes that were started beside this one; they wait for one another.
    ///
    /// # Errors
    /// When MPI finds others than the launcher tells of.
    pub fn join(launched: &Launched) -> Outcome<Self> {
        let (universe, _) = initialize_with_threading(Threading::Funneled).ok_or_else(|| {
            Failure::Usage("MPI was begun before; start one training a process".into())
        })?;
        let world = SimpleCommunicator::world();
        let [rank, size] = [world.rank(), world.size()].map(|n| n as usize);
        let world = World { _universe: universe };
        let together =
            Self { workers: Arc::new(Mpi { rank, size }), universe: ManuallyDrop::new(world) };
        if size != launched.size {
            return Err(Failure::Usage(format!(
                "{}, and MPI connects {size}: the launcher is not of the MPI that kdm was built \
                 with; use that one's mpirun, or `srun --mpi=pmix`",
                launched.told()
            )));
        }
        Ok(together)
    }

    /// Whether all of them are the same program on the same kind of machine, with as many threads,
    /// so that any of them computes the same bits.
    ///
    /// # Errors
    /// For all of them, when one differs, or they are not a power of two.
    pub fn check(&self) -> Outcome<()> {
        let size = self.workers.size;
        if !size.is_power_of_two() {
            return Err(Failure::Usage(format!(
                "{size} workers were started, and their gradients are summed in pairs; start 1, 2, \
                 4, 8, ... workers"
            )));
        }
        let instructions = kdm_kernels::instruction_set();
        let instructions = instructions.map_err(|e| Failure::Usage(e.to_string()))?;
        let workers: &dyn Workers = &*self.workers;
        Ok(workers.agree(&[
            ("version of kdm", env!("CARGO_PKG_VERSION")),
            ("program file", &program()),
            ("instruction set (KDM_SIMD chooses one)", instructions),
            ("number of threads (--threads gives it)", &rayon::current_num_threads().to_string()),
        ])?)
    }

    /// The workers.
    pub fn workers(&self) -> Arc<dyn Workers> {
        self.workers.clone()
    }

    /// Ends well: waits until all have come here.
    pub fn leave(self) {
        let workers: &dyn Workers = &*self.workers;
        workers.meet();
        drop(ManuallyDrop::into_inner(self.universe));
    }

    /// Ends all processes at once.
    pub fn abort(self, code: u8) -> ! {
        SimpleCommunicator::world().abort(code.into())
    }
}

/// The sum of `own` over all processes, by MPI's own function and in an order of its own.
pub(super) fn library_sum(own: &[f32], sum: &mut [f32]) {
    SimpleCommunicator::world().all_reduce_into(own, sum, SystemOperation::sum());
}

/// What identifies the file that this process runs; empty where the system doesn't tell.
fn program() -> String {
    let file = std::env::current_exe().and_then(std::fs::read);
    file.map(|bytes| sha256(&bytes)).unwrap_or_default()
}

/// One of MPI's processes.
#[derive(Clone, Copy, Debug)]
struct Mpi {
    rank: usize,
    size: usize,
}

/// Bytes of a message; MPI counts them in 32 bits.
const MESSAGE: usize = 1 << 30;
/// How long a worker asks again and again whether a message has come. After that it sleeps between
/// two looks, so that the first worker has the processor while it validates.
const EAGER: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(200);

impl Workers for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, peer: usize, outgoing: &[u8], incoming: &mut [u8]) {
        let world = SimpleCommunicator::world();
        let other = world.process_at_rank(peer as i32);
        // As many messages as the longer side needs; an empty one is a message too.
        let rounds = outgoing.len().max(incoming.len()).div_ceil(MESSAGE).max(1);
        let part = |len: usize, i: usize| (i * MESSAGE).min(len)..((i + 1) * MESSAGE).min(len);
        for i in 0..rounds {
            let outgoing = &outgoing[part(outgoing.len(), i)];
            let range = part(incoming.len(), i);
            request::scope(|scope| {
                let sending = other.immediate_send(scope, outgoing);
                let began = Instant::now();
                while other.immediate_probe().is_none() {
                    if began.elapsed() > EAGER {
                        thread::sleep(NAP);
                    } else {
                        std::hint::spin_loop();
                    }
                }
                other.receive_into(&mut incoming[range]);
                sending.wait_without_status();
            });
        }
    }
}
