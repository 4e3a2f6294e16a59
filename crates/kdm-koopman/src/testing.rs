//! Small students for tests.

use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind, StudentConfig};

/// A student of 8x8 images in 3 classes, with 1 and 2 channels of latent at two levels.
pub(crate) fn student_of_levels() -> StudentConfig {
    let config = StudentConfig {
        method: Method::Koopman,
        shape: vec![1, 8, 8],
        label_dim: 3,
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
        operator: OperatorConfig { kind: OperatorKind::Channels, projection: None, control: true },
    };
    config.with_levels(vec![1, 2])
}
