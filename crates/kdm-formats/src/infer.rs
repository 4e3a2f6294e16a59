//! A U-Net's architecture, read off the names and shapes of its weights. What weights can't tell
//! (dropout) is zero.

use kdm_nn::unet::song::{DecoderKind, Embedding, EncoderKind};
use kdm_nn::{AdmUNetConfig, SongUNetConfig, StateDict, UNetConfig};

/// The part of a state under `prefix`, without the prefix.
pub fn under(state: &StateDict, prefix: &str) -> StateDict {
    let entries = state
        .iter()
        .filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.to_string(), data.clone())));
    entries.collect()
}

/// A U-Net's state without the buffers that its configuration determines.
pub fn without_filters(state: StateDict) -> StateDict {
    state.into_iter().filter(|(name, _)| !name.ends_with("resample_filter")).collect()
}

/// Whether the names are those of a U-Net of NVlabs' kinds.
pub fn is_unet(state: &StateDict) -> bool {
    state.keys().any(|name| name.starts_with("enc.") && name.ends_with("_conv.weight"))
        && state.contains_key("map_layer0.weight")
}

struct Shapes<'a>(&'a StateDict);

impl Shapes<'_> {
    fn get(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|data| &data.shape()[..])
    }

    fn size(&self, name: &str, axis: usize) -> Result<usize, String> {
        let shape = self.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        shape
            .get(axis)
            .copied()
            .filter(|size| *size > 0)
            .ok_or_else(|| format!("`{name}` has shape {shape:?}"))
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

/// The architecture of the U-Net with this state.
///
/// # Errors
/// What is missing or doesn't fit.
pub fn unet(state: &StateDict) -> Result<UNetConfig, String> {
    let s = Shapes(state);
    // ADM's output has no resolution in its name, and DDPM++'s and NCSN++'s have.
    let adm = s.get("out_conv.weight").is_some();
    let sides = s.sides("enc.", "block0.conv0.weight");
    let Some(&resolution) = s.sides("enc.", "conv.weight").first() else {
        return Err("it has no first convolution, `enc.NxN_conv`".into());
    };
    if sides.first() != Some(&resolution) || sides.len() > 12 {
        return Err(format!(
            "it has blocks at the sizes {sides:?} and its images are {resolution}x{resolution}"
        ));
    }
    if let Some(level) =
        (1..sides.len()).find(|l| Some(sides[*l]) != resolution.checked_shr(*l as u32))
    {
        return Err(format!(
            "it has blocks at the sizes {sides:?}, and {} is not half of the one before",
            sides[level]
        ));
    }
    let first = format!("enc.{resolution}x{resolution}_conv.weight");
    let (width, in_channels) = (s.size(&first, 0)?, s.size(&first, 1)?);
    let num_blocks = (0..)
        .find(|i| s.get(&format!("enc.{resolution}x{resolution}_block{i}.conv0.weight")).is_none());
    let num_blocks = num_blocks.unwrap_or(0);
    let model_channels = if adm { s.size("map_layer0.weight", 1)? } else { width };
    let mut channel_mult = Vec::new();
    for side in &sides {
        let outputs = s.size(&format!("enc.{side}x{side}_block0.conv1.weight"), 0)?;
        if !outputs.is_multiple_of(model_channels) {
            return Err(format!(
                "its width at {side}x{side}, {outputs}, is no multiple of its base width \
                 {model_channels}"
            ));
        }
        channel_mult.push(outputs / model_channels);
    }
    let attn_resolutions = s.sides("enc.", "block0.qkv.weight");
    let emb = s.size("map_layer1.weight", 0)?;
    let label_dim = s.get("map_label.weight").map_or(Ok(0), |_| s.size("map_label.weight", 1))?;
    let augment_dim =
        s.get("map_augment.weight").map_or(Ok(0), |_| s.size("map_augment.weight", 1))?;
    let channel_mult_emb = emb / model_channels;
    if adm {
        return Ok(UNetConfig::AdmUnet(AdmUNetConfig {
            resolution,
            in_channels,
            out_channels: s.size("out_conv.weight", 0)?,
            label_dim,
            augment_dim,
            model_channels,
            channel_mult,
            channel_mult_emb,
            num_blocks,
            attn_resolutions,
            dropout: 0.0,
            label_dropout: 0.0,
        }));
    }
    let outputs = s.sides("dec.", "aux_conv.weight");
    let encoder_type = if !s.sides("enc.", "aux_residual.weight").is_empty() {
        EncoderKind::Residual
    } else if !s.sides("enc.", "aux_skip.weight").is_empty() {
        EncoderKind::Skip
    } else {
        EncoderKind::Standard
    };
    Ok(UNetConfig::SongUnet(SongUNetConfig {
        resolution,
        in_channels,
        out_channels: s.size(&format!("dec.{resolution}x{resolution}_aux_conv.weight"), 0)?,
        label_dim,
        augment_dim,
        model_channels,
        channel_mult,
        channel_mult_emb,
        num_blocks,
        attn_resolutions,
        dropout: 0.0,
        label_dropout: 0.0,
        embedding_type: if state.contains_key("map_noise.freqs") {
            Embedding::Fourier
        } else {
            Embedding::Positional
        },
        channel_mult_noise: s.size("map_layer0.weight", 1)? / model_channels,
        encoder_type,
        decoder_type: if outputs.len() > 1 { DecoderKind::Skip } else { DecoderKind::Standard },
        resample_filter: taps(state)?,
    }))
}

/// The resampling filter's taps: row sums of a buffer that holds their outer product; the box
/// filter without one.
fn taps(state: &StateDict) -> Result<Vec<f64>, String> {
    let Some((name, data)) = state.iter().find(|(name, _)| name.ends_with("resample_filter"))
    else {
        return Ok(vec![1.0, 1.0]);
    };
    let values = data.as_slice::<f32>().map_err(|e| format!("`{name}`: {e:?}"))?;
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
        _ => Err(format!("`{name}` has shape {:?}", &data.shape()[..])),
    }
}
