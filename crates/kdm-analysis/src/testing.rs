//! A small student for tests.

use burn::tensor::Device;
use kdm_data::{Labels, Samples};
use kdm_koopman::{
    Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler, Student, StudentConfig,
};

use crate::Subject;

/// A student of points with fresh weights, and 40 noises with labels.
pub(crate) struct SmallStudent {
    student: Student,
    config: StudentConfig,
    sampler: Sampler,
    device: Device,
    samples: Samples,
}

impl SmallStudent {
    pub(crate) fn new(shape: &[usize], label_dim: usize) -> Self {
        Self::of(shape, label_dim, Method::Koopman)
    }

    pub(crate) fn of(shape: &[usize], label_dim: usize, method: Method) -> Self {
        Self::made(shape, label_dim, method, OperatorKind::Dense)
    }

    pub(crate) fn with(shape: &[usize], label_dim: usize, kind: OperatorKind) -> Self {
        Self::made(shape, label_dim, Method::Koopman, kind)
    }

    fn made(shape: &[usize], label_dim: usize, method: Method, kind: OperatorKind) -> Self {
        let device = Device::flex();
        let config = StudentConfig {
            method,
            shape: shape.to_vec(),
            label_dim,
            noise_std: 1.0,
            latent: 12,
            levels: Vec::new(),
            network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
            operator: OperatorConfig {
                kind,
                projection: None,
                control: label_dim > 0 && method == Method::Koopman,
            },
        };
        let student = config.init(3, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let labels = match label_dim as u32 {
            0 => Labels::none(40),
            classes => Labels::of(&(0..40).map(|i| i / 2 % classes).collect::<Vec<u32>>()),
        };
        let samples = Samples {
            shape: shape.to_vec(),
            noise: kdm_random::normal_vec(7, 40 * config.dim()),
            labels,
            ..Samples::default()
        };
        Self { student, config, sampler, device, samples }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            student: &self.student,
            config: &self.config,
            sampler: &self.sampler,
            device: &self.device,
            samples: &self.samples,
            extractor: None,
            reference: None,
            data: "",
        }
    }
}
