//! A U-Net's architecture, read off the names and shapes of its weights. What weights can't tell
//! (dropout) is zero.

use burn::tensor::DType;
use kdm_nn::unet::song::{DecoderKind, Embedding, EncoderKind};
use kdm_nn::{AdmUNetConfig, SongUNetConfig, StateDict, UNetConfig};

/// A U-Net's state without the buffers that its configuration determines.
pub fn without_filters(state: StateDict) -> StateDict {
    state.into_iter().filter(|(name, _)| !name.ends_with("resample_filter")).collect()
}

/// Whether the names are those of a U-Net of NVlabs' kinds.
pub fn is_unet(state: &StateDict) -> bool {
    state.keys().any(|name| name.starts_with("enc.") && name.ends_with("_conv.weight"))
        && state.contains_key("map_layer0.weight")
}

/// Why a state is not that of a U-Net known here.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InferError {
    /// A tensor that all such networks have.
    #[error("`{0}` is missing")]
    Missing(String),
    /// A tensor of no use.
    #[error("`{name}` has shape {shape:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor of other numbers than weights are.
    #[error("`{name}` is of type {dtype:?}")]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// Nothing says how large images are.
    #[error("it has no first convolution, `enc.NxN_conv`")]
    NoFirstConvolution,
    /// Levels that don't begin at the images' size, or far too many.
    #[error("it has blocks at the sizes {sides:?} and its images are {resolution}x{resolution}")]
    Levels {
        /// Sides of the levels.
        sides: Vec<usize>,
        /// Side of the images.
        resolution: usize,
    },
    /// A level that isn't half of the one before.
    #[error("it has blocks at the sizes {sides:?}, and {side} is not half of the one before")]
    NotHalf {
        /// Sides of the levels.
        sides: Vec<usize>,
        /// Side of that one.
        side: usize,
    },
    /// A level whose width is no multiple of the base.
    #[error("its width at {side}x{side}, {width}, is no multiple of its base width {base}")]
    Width {
        /// Side of the level.
        side: usize,
        /// Its width.
        width: usize,
        /// The base width.
        base: usize,
    },
}

struct Shapes<'a>(&'a StateDict);

impl Shapes<'_> {
    fn get(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|data| &data.shape()[..])
    }

    /// A size of a tensor, above 0.
    fn size(&self, name: &str, axis: usize) -> Result<usize, InferError> {
        let shape = self.get(name).ok_or_else(|| InferError::Missing(name.to_string()))?;
        let size = shape.get(axis).copied().filter(|size| *size > 0);
        size.ok_or_else(|| InferError::Shape { name: name.to_string(), shape: shape.to_vec() })
    }

    /// Inputs of a linear layer; 0 when it isn't there.
    fn inputs(&self, name: &str) -> Result<usize, InferError> {
        self.get(name).map_or(Ok(0), |_| self.size(name, 1))
    }

    /// Sides of images, falling, at which a part of this name ending stands under `root`.
    fn sides(&self, root: &str, ending: &str) -> Vec<usize> {
        let side = |name: &String| {
            let (side, rest) = name.strip_prefix(root)?.split_once('x')?;
            let side: usize = side.parse().ok()?;
            rest.strip_prefix(&format!("{side}_{ending}"))?;
            Some(side)
        };
        let mut sides: Vec<usize> = self.0.keys().filter_map(side).collect();
        sides.sort_unstable_by(|a, b| b.cmp(a));
        sides.dedup();
        sides
    }
}

/// The side of the images and those of the levels, falling.
fn levels(s: &Shapes) -> Result<(usize, Vec<usize>), InferError> {
    let sides = s.sides("enc.", "block0.conv0.weight");
    let first = s.sides("enc.", "conv.weight").first().copied();
    let resolution = first.ok_or(InferError::NoFirstConvolution)?;
    if sides.first() != Some(&resolution) || sides.len() > 12 {
        return Err(InferError::Levels { sides, resolution });
    }
    let halved = |l: usize| Some(sides[l]) == resolution.checked_shr(l as u32);
    match (1..sides.len()).find(|l| !halved(*l)) {
        Some(level) => Err(InferError::NotHalf { side: sides[level], sides }),
        None => Ok((resolution, sides)),
    }
}

/// The architecture of the U-Net with this state.
///
/// # Errors
/// What is missing or doesn't fit.
pub fn unet(state: &StateDict) -> Result<UNetConfig, InferError> {
    let s = Shapes(state);
    // ADM's output has no resolution in its name, and DDPM++'s and NCSN++'s have.
    let adm = s.get("out_conv.weight").is_some();
    let (resolution, sides) = levels(&s)?;
    let first = format!("enc.{resolution}x{resolution}_conv.weight");
    let (width, in_channels) = (s.size(&first, 0)?, s.size(&first, 1)?);
    let num_blocks = (0..)
        .find(|i| s.get(&format!("enc.{resolution}x{resolution}_block{i}.conv0.weight")).is_none())
        .unwrap_or(0);
    let base = if adm { s.size("map_layer0.weight", 1)? } else { width };
    let mut channel_mult = Vec::new();
    for side in &sides {
        let width = s.size(&format!("enc.{side}x{side}_block0.conv1.weight"), 0)?;
        if !width.is_multiple_of(base) {
            return Err(InferError::Width { side: *side, width, base });
        }
        channel_mult.push(width / base);
    }
    let attn_resolutions = s.sides("enc.", "block0.qkv.weight");
    let channel_mult_emb = s.size("map_layer1.weight", 0)? / base;
    let (label_dim, augment_dim) = (s.inputs("map_label.weight")?, s.inputs("map_augment.weight")?);
    if adm {
        return Ok(UNetConfig::AdmUnet(AdmUNetConfig {
            resolution,
            in_channels,
            out_channels: s.size("out_conv.weight", 0)?,
            label_dim,
            augment_dim,
            model_channels: base,
            channel_mult,
            channel_mult_emb,
            num_blocks,
            attn_resolutions,
            dropout: 0.0,
            label_dropout: 0.0,
        }));
    }
    let out_channels = s.size(&format!("dec.{resolution}x{resolution}_aux_conv.weight"), 0)?;
    let encoder_type = if !s.sides("enc.", "aux_residual.weight").is_empty() {
        EncoderKind::Residual
    } else if !s.sides("enc.", "aux_skip.weight").is_empty() {
        EncoderKind::Skip
    } else {
        EncoderKind::Standard
    };
    let fourier = state.contains_key("map_noise.freqs");
    let skip = s.sides("dec.", "aux_conv.weight").len() > 1;
    Ok(UNetConfig::SongUnet(SongUNetConfig {
        label_dim,
        augment_dim,
        channel_mult_emb,
        embedding_type: if fourier { Embedding::Fourier } else { Embedding::Positional },
        channel_mult_noise: s.size("map_layer0.weight", 1)? / base,
        encoder_type,
        decoder_type: if skip { DecoderKind::Skip } else { DecoderKind::Standard },
        resample_filter: taps(state)?,
        ..SongUNetConfig::ddpmpp(
            resolution,
            in_channels,
            out_channels,
            base,
            &channel_mult,
            num_blocks,
            &attn_resolutions,
        )
    }))
}

/// The resampling filter's taps: row sums of a buffer that holds their outer product; the box
/// filter without one.
fn taps(state: &StateDict) -> Result<Vec<f64>, InferError> {
    let Some((name, data)) = state.iter().find(|(name, _)| name.ends_with("resample_filter"))
    else {
        return Ok(vec![1.0, 1.0]);
    };
    let other = |_| InferError::Type { name: name.clone(), dtype: data.dtype() };
    let values = data.as_slice::<f32>().map_err(other)?;
    match data.shape()[..] {
        [1, 1, h, w] if h == w && (1..=64).contains(&h) => {
            let sums: Vec<f64> =
                values.chunks(w).map(|row| row.iter().map(|x| f64::from(*x)).sum()).collect();
            let least = sums.iter().copied().filter(|s| *s > 0.0).fold(f64::INFINITY, f64::min);
            // Published filters have whole numbers for taps.
            let whole: Vec<f64> = sums.iter().map(|s| (s / least).round()).collect();
            let close = sums.iter().zip(&whole).all(|(s, w)| (s / least - w).abs() < 1e-4);
            Ok(if close { whole } else { sums })
        }
        _ => Err(InferError::Shape { name: name.clone(), shape: data.shape().to_vec() }),
    }
}
