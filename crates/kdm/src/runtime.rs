//! Where work is computed: the one place that makes devices. A program makes a [`Runtime`] once and
//! gives it down, with the observer, as a [`Context`].

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use kdm_data::machine;
use kdm_observer::{Observer, Silent};
use kdm_report::PlotFormat;
use kdm_train::{Alone, Workers};

/// The device that work is computed on, the threads of the host, and the workers that train
/// together.
#[derive(Clone, Debug)]
pub struct Runtime {
    device: Device,
    threads: usize,
    workers: Arc<dyn Workers>,
}

impl Runtime {
    /// The CPU, with the threads of the process's pool.
    pub fn cpu() -> Self {
        let threads = rayon::current_num_threads();
        Self { device: Device::flex(), threads, workers: Arc::new(Alone) }
    }

    /// The same for one of several processes that train together.
    #[must_use]
    pub fn among(self, workers: Arc<dyn Workers>) -> Self {
        Self { workers, ..self }
    }

    /// The device, outside autodiff: for sampling, metrics and analysis.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The device with autodiff: for trainings.
    pub fn training(&self) -> Device {
        self.device.clone().autodiff()
    }

    /// The workers that train together, of whom this process is one; it may be the only one.
    pub fn workers(&self) -> &dyn Workers {
        &*self.workers
    }

    /// Threads of the host.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// What a machine has for work in a folder, in bytes; none where the system doesn't tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Memory that the process may use in all.
    pub memory: Option<f64>,
    /// Space for the folder: what is free on its disk, and what is in it already.
    pub disk: Option<f64>,
}

impl Machine {
    /// This machine, and the disk of `folder`, which needn't exist yet.
    pub fn of(folder: &Path) -> Self {
        let free = machine::free_disk(folder);
        let disk = free.map(|free| free.saturating_add(machine::taken_by(folder)) as f64);
        Self { memory: machine::memory().map(|bytes| bytes as f64), disk }
    }
}

/// What stages and studies are given beside their own arguments: where to compute, who watches,
/// and the form of what is drawn.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where to compute.
    pub runtime: &'a Runtime,
    /// Who is told of progress, and may stop the work.
    pub observer: &'a dyn Observer,
    /// The form of plots in folders.
    pub figures: PlotFormat,
}

impl<'a> Context<'a> {
    /// Work that nobody watches.
    pub fn silent(runtime: &'a Runtime) -> Self {
        Self { runtime, observer: &Silent, figures: PlotFormat::default() }
    }

    /// The device, outside autodiff.
    pub fn device(&self) -> &'a Device {
        self.runtime.device()
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("runtime", self.runtime).finish_non_exhaustive()
    }
}
