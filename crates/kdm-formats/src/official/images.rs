//! Students of images: three U-Nets of the DDPM++ kind.

use kdm_koopman::NetworkConfig;
use kdm_nn::unet::song::{DecoderKind, Embedding, EncoderKind};
use kdm_nn::{Problem, SongUNetConfig};

use super::loss::Settings;
use super::names::NETWORKS;
use super::{Fitted, Misfit};

/// The student of three U-Nets that fit each other: the decoder's channels are the encoders',
/// swapped.
pub(super) fn fitted(
    clean: &SongUNetConfig,
    noise: &SongUNetConfig,
    decoder: &SongUNetConfig,
    settings: Option<&Settings>,
) -> Result<Fitted, Problem> {
    let [(clean_name, ..), (noise_name, ..), (decoder_name, ..)] = NETWORKS;
    let standard = SongUNetConfig {
        label_dim: clean.label_dim,
        ..SongUNetConfig::ddpmpp(
            clean.resolution,
            clean.in_channels,
            clean.out_channels,
            clean.model_channels,
            &clean.channel_mult,
            clean.num_blocks,
            &clean.attn_resolutions,
        )
    };
    if clean.embedding_type != Embedding::Positional
        || clean.encoder_type != EncoderKind::Standard
        || clean.decoder_type != DecoderKind::Standard
        || *clean != standard
    {
        return Err(Misfit::UNetKind.of(clean_name));
    }
    if noise != clean {
        return Err(Misfit::Sizes.of(noise_name));
    }
    let swapped = SongUNetConfig {
        in_channels: clean.out_channels,
        out_channels: clean.in_channels,
        ..standard
    };
    if *decoder != swapped {
        return Err(Misfit::Sizes.of(decoder_name));
    }
    let side = clean.resolution;
    Ok(Fitted {
        shape: vec![clean.in_channels, side, side],
        label_dim: clean.label_dim,
        latent: clean.out_channels.saturating_mul(side * side),
        network: NetworkConfig::Unet {
            model_channels: clean.model_channels,
            channel_mult: clean.channel_mult.clone(),
            num_blocks: clean.num_blocks,
            attn_resolutions: clean.attn_resolutions.clone(),
            dropout: settings.map_or(0.0, dropout),
        },
        described: format!(
            "encoders and decoder: DDPM++ U-Nets of width {} x {:?}, {} blocks, attention at \
             {:?}; images {}x{side}x{side}, {} latent channels, {} classes",
            clean.model_channels,
            clean.channel_mult,
            clean.num_blocks,
            clean.attn_resolutions,
            clean.in_channels,
            clean.out_channels,
            clean.label_dim
        ),
    })
}

/// The dropout of the clean encoder's blocks.
fn dropout(settings: &Settings) -> f64 {
    let torch = settings.torch;
    let encoder = torch.child(settings.id, NETWORKS[0].0);
    let unet = encoder.and_then(|id| torch.child(id, "main_module").or(Some(id)));
    let blocks = unet
        .and_then(|id| torch.child(id, "enc"))
        .map(|enc| torch.children(enc))
        .unwrap_or_default();
    blocks.iter().find_map(|(_, block)| torch.number(*block, "dropout")).unwrap_or(0.0)
}
