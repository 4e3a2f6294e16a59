//! Where work is computed: the one place that makes devices. A program makes a [`Runtime`] once and
//! gives it down, with the observer, as a [`Context`].

use burn::tensor::Device;
use kdm_observer::{Observer, Silent};
use kdm_report::PlotFormat;

/// The device that work is computed on, and the threads of the host.
#[derive(Clone, Debug)]
pub struct Runtime {
    device: Device,
    threads: usize,
}

impl Runtime {
    /// The CPU, with the threads of the process's pool.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), threads: rayon::current_num_threads() }
    }

    /// The device, outside autodiff: for sampling, metrics and analysis.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The device with autodiff: for trainings.
    pub fn training(&self) -> Device {
        self.device.clone().autodiff()
    }

    /// Threads of the host.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// Bytes of memory that the process may use, where the system tells: the machine's, or less where a
/// control group sets a limit.
pub fn memory() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<f64>().ok());
    Some(limit.map_or(kilobytes * 1024.0, |limit| limit.min(kilobytes * 1024.0)))
}

/// What stages and studies are given beside their own arguments: where to compute, who watches, and the form of
/// what is drawn.
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
