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
        Self::from(config)
    }

    /// A student of 8x8 images whose latent has these channels at its levels.
    pub(crate) fn of_images(kind: OperatorKind, levels: &[usize], label_dim: usize) -> Self {
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![1, 8, 8],
            label_dim,
            noise_std: 1.0,
            latent: 0,
            levels: Vec::new(),
            network: NetworkConfig::Unet {
                model_channels: 8,
                channel_mult: vec![1, 2],
                num_blocks: 1,
                attn_resolutions: vec![],
                dropout: 0.0,
            },
            operator: OperatorConfig { kind, projection: None, control: label_dim > 0 },
        };
        Self::from(config.with_levels(levels.to_vec()))
    }

    fn from(config: StudentConfig) -> Self {
        let (device, label_dim) = (Device::flex(), config.label_dim);
        let student = config.init(3, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let labels = match label_dim as u32 {
            0 => Labels::none(40),
            classes => Labels::of(&(0..40).map(|i| i / 2 % classes).collect::<Vec<u32>>()),
        };
        let samples = Samples {
            shape: config.shape.clone(),
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
            class_names: &[],
        }
    }
}
