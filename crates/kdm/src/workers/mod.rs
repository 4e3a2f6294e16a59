//! Several processes that train together: how a launcher (mpirun, srun, Kubeflow's MPIJob) says
//! that it started some, and the world that they join, over MPI.

#[cfg(feature = "mpi")]
mod over_mpi;
mod sums;
#[cfg(not(feature = "mpi"))]
mod without;

#[cfg(feature = "mpi")]
pub use over_mpi::Together;
#[cfg(feature = "mpi")]
use over_mpi::library_sum;
pub use sums::{SumTimes, time_sums};
#[cfg(not(feature = "mpi"))]
pub use without::Together;
#[cfg(not(feature = "mpi"))]
use without::library_sum;

/// Variables in which launchers tell a process how many they started: Open MPI, MPICH and Intel
/// MPI, and SLURM of a job step (a batch script has none).
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
/// And which of them a process is, from 0.
const RANKS: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"];
/// And how many of them on this machine.
const LOCAL_SIZES: [&str; 2] = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"];

/// A process that a launcher started beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// How many processes there are, at least 2.
    pub size: usize,
    /// Which of them this is, from 0; none where that is not told.
    pub rank: Option<usize>,
    /// How many of them are on this machine; none where that is not told.
    pub local: Option<usize>,
    /// The variable that says so.
    pub variable: &'static str,
}

impl Launched {
    /// What the environment says; none for a process that was started alone.
    ///
    /// ```
    /// use kdm::workers::Launched;
    ///
    /// let of = |name: &str| (name == "PMI_SIZE").then(|| "4".to_string());
    /// assert_eq!(Launched::find(&of).unwrap().size, 4);
    /// assert_eq!(Launched::find(&|_| None), None);
    /// ```
    pub fn find(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        let told = |name: &'static str| number(name).map(|size| (name, size));
        let (variable, size) = SIZES.into_iter().find_map(told)?;
        let local = LOCAL_SIZES.into_iter().find_map(number).filter(|local| *local > 0);
        let rank = RANKS.into_iter().find_map(number);
        (size > 1).then_some(Self { size, rank, local, variable })
    }

    /// The start of a message about it.
    pub fn told(&self) -> String {
        format!("this is one of {} processes ({})", self.size, self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_tell_how_many_they_started() {
        let found = |told: &[(&str, &str)]| {
            let told: Vec<(String, String)> =
                told.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            Launched::find(&move |name: &str| {
                told.iter().find(|(told, _)| told == name).map(|(_, value)| value.clone())
            })
        };
        assert_eq!(found(&[]), None);
        // A batch script of SLURM is one process, however many tasks its job has.
        assert_eq!(found(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]), None);
        let step = found(&[("SLURM_NTASKS", "4"), ("SLURM_STEP_NUM_TASKS", "2")]).unwrap();
        assert_eq!((step.size, step.local), (2, None));
        assert_eq!(found(&[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_STEP_NUM_TASKS", "2")]), None);
        let told = [("OMPI_COMM_WORLD_SIZE", "8"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "2")];
        let process = found(&told).unwrap();
        assert_eq!((process.rank, process.local), (None, Some(2)));
        assert_eq!(found(&[("PMI_SIZE", "3"), ("PMI_RANK", "2")]).unwrap().rank, Some(2));
        assert!(found(&told).unwrap().told().contains("8 processes (OMPI_COMM_WORLD_SIZE)"));
    }
}
