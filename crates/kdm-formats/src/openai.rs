//! Weights of OpenAI's U-Net (guided-diffusion, improved-diffusion, consistency_models, torchcfm):
//! the architecture is read off their names and shapes, as far as these tell it.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use kdm_data::{Error, Result};
use kdm_nn::{OpenAiUNetConfig, StateDict, UNetConfig};
use kdm_teacher::Preconditioning;
use serde_json::{Value, json};

use crate::edm::{config, teacher};
use crate::imported::Imported;
use crate::options::Options;

/// Original names of a layer's parts, and ours.
const PARTS: [(&str, &str); 11] = [
    (".in_layers.0.", ".norm0."),
    (".in_layers.2.", ".conv0."),
    (".emb_layers.1.", ".affine."),
    (".out_layers.0.", ".norm1."),
    (".out_layers.3.", ".conv1."),
    (".skip_connection.", ".skip."),
    (".op.", ".conv."),
    ("time_embed.0.", "time_embed0."),
    ("time_embed.2.", "time_embed2."),
    ("out.0.", "out_norm."),
    ("out.2.", "out_conv."),
];

/// Whether the names are those of OpenAI's U-Net.
pub(crate) fn is_unet(state: &StateDict) -> bool {
    state.contains_key("input_blocks.0.0.weight") && state.contains_key("time_embed.0.weight")
}

/// The weights under our names. Attention's layers are convolutions of one dimension there, and
/// affine layers here.
fn ours(state: StateDict) -> StateDict {
    let renamed = |(name, data): (String, TensorData)| {
        let found = PARTS.iter().find(|(theirs, _)| {
            if theirs.starts_with('.') { name.contains(theirs) } else { name.starts_with(theirs) }
        });
        let name = match found {
            Some((theirs, ours)) => name.replacen(theirs, ours, 1),
            None => name,
        };
        let shape = data.shape().to_vec();
        let data = match shape[..] {
            [outputs, inputs, 1] => shaped(data, &[outputs, inputs]),
            _ => data,
        };
        (name, data)
    };
    state.into_iter().map(renamed).collect()
}

/// The same numbers in another shape.
fn shaped(data: TensorData, shape: &[usize]) -> TensorData {
    match data.as_slice::<f32>() {
        Ok(values) => TensorData::new(values.to_vec(), shape.to_vec()),
        // Not weights, which is told where they are loaded.
        Err(_) => data,
    }
}

/// A teacher's weights under their original names.
pub(crate) fn original(state: StateDict) -> StateDict {
    let named = |(name, data): (String, TensorData)| {
        let found = PARTS.iter().find(|(_, ours)| {
            if ours.starts_with('.') { name.contains(ours) } else { name.starts_with(ours) }
        });
        let found = match found {
            // Of the two kinds of convolutions that resize, only those that halve are `op`.
            Some((".op.", _)) if name.starts_with("output_blocks.") => None,
            found => found,
        };
        let original = match found {
            Some((theirs, ours)) => name.replacen(ours, theirs, 1),
            None => name,
        };
        let shape = data.shape().to_vec();
        let attention = original.contains(".qkv.") || original.contains(".proj_out.");
        let data = match shape[..] {
            [outputs, inputs] if attention => shaped(data, &[outputs, inputs, 1]),
            _ => data,
        };
        (original, data)
    };
    state.into_iter().map(named).collect()
}

/// What is read off a state.
struct Shapes<'a> {
    path: &'a Path,
    state: &'a StateDict,
}

impl Shapes<'_> {
    fn size(&self, name: &str, axis: usize) -> Result<usize> {
        let shape = self.state.get(name).map(|data| data.shape().to_vec());
        shape.as_ref().and_then(|shape| shape.get(axis)).copied().ok_or_else(|| {
            let problem = match shape {
                Some(shape) => format!("has the shape {shape:?}"),
                None => "is missing".into(),
            };
            Error::invalid(self.path, name, problem, ACTION)
        })
    }

    fn has(&self, name: &str) -> bool {
        self.state.contains_key(name)
    }

    /// Positions of the blocks in a list that have weights.
    fn blocks(&self, list: &str) -> BTreeSet<usize> {
        let place = |name: &String| name.strip_prefix(list)?.split('.').next()?.parse().ok();
        self.state.keys().filter_map(place).collect()
    }
}

const ACTION: &str = "give the weights of a whole network, as guided-diffusion, \
                      improved-diffusion, consistency_models or torchcfm save them";

/// The architecture that these weights are of, and what was assumed of what they don't tell;
/// `new_order` is the order of attention's channels.
fn architecture(
    path: &Path,
    state: &StateDict,
    new_order: bool,
) -> Result<(OpenAiUNetConfig, Vec<String>)> {
    let s = Shapes { path, state };
    let (inputs, outputs) = (s.blocks("input_blocks."), s.blocks("output_blocks."));
    let count = outputs.len();
    // The last block of each level of the decoder but the finest doubles the image, by a block or a
    // convolution after it; without one, a block of the encoder has no weights.
    let part =
        |i: usize, part: &str| (1..3).any(|k| s.has(&format!("output_blocks.{i}.{k}.{part}")));
    let by_block = (0..count).find(|i| part(*i, "in_layers.0.weight"));
    let by_conv = (0..count).find(|i| part(*i, "conv.weight"));
    let last = inputs.last().copied().unwrap_or(0);
    let gap = (1..=last).find(|i| !inputs.contains(i));
    let a_level = match (by_block.or(by_conv), gap) {
        (Some(first), _) => first + 1,
        (None, Some(gap)) => gap,
        (None, None) => count,
    };
    let problem = |problem: String| Error::invalid(path, "output_blocks", problem, ACTION);
    if a_level < 2 || !count.is_multiple_of(a_level) || count / a_level > 12 {
        return Err(problem(format!("has {count} blocks, {a_level} a level")));
    }
    let (levels, num_res_blocks) = (count / a_level, a_level - 1);
    let first_of = |level: usize| 1 + level * a_level;
    let level_channels = (0..levels)
        .map(|level| s.size(&format!("input_blocks.{}.0.out_layers.3.weight", first_of(level)), 0))
        .collect::<Result<Vec<usize>>>()?;
    let attends = |level: &usize| s.has(&format!("input_blocks.{}.1.qkv.weight", first_of(*level)));
    let attention_resolutions: Vec<usize> =
        (0..levels).filter(attends).map(|level| 1 << level).collect();
    let shifts = s.size("input_blocks.1.0.emb_layers.1.weight", 0)?;
    let use_scale_shift_norm = shifts == 2 * level_channels[0];
    let in_channels = s.size("input_blocks.0.0.weight", 1)?;
    let out = s.size("out.2.weight", 0)?;
    let learn_sigma = out == 2 * in_channels;

    let mut assumed = Vec::new();
    let mut assume = |what: String, key: &str| {
        assumed
            .push(format!("assumed {what}, which weights don't tell; --set {key} says otherwise"));
    };
    let wide = |width: &usize| width.is_multiple_of(64);
    // guided-diffusion's networks resize by blocks and have heads of one width; those of
    // improved-diffusion have four heads, with scale and shift or without.
    let by_channels = by_block.is_some() && level_channels.iter().all(wide);
    match by_channels {
        true => assume("attention heads of 64 channels".into(), "num_head_channels=N"),
        false => assume("4 attention heads".into(), "num_heads=N"),
    }
    match new_order {
        true => assume(
            "queries, keys and values of all heads one after the other, as consistency_models' \
             attention has them"
                .into(),
            "use_new_attention_order=false",
        ),
        false => assume("the order of attention's channels".into(), "use_new_attention_order=true"),
    }
    // Attention is usually at 32, 16 and 8 pixels, or at 16 and 8, or at 16 alone.
    let coarsest = 1 << (levels - 1);
    let resolution = match attention_resolutions.first() {
        Some(least) if attention_resolutions.len() > 2 => 32 * least,
        Some(least) => 16 * least,
        None => 8 * coarsest,
    };
    assume(format!("images of {resolution}x{resolution}"), "resolution=N");
    let config = OpenAiUNetConfig {
        resolution: resolution.max(coarsest),
        in_channels,
        out_channels: if learn_sigma { in_channels } else { out },
        learn_sigma,
        model_channels: s.size("time_embed.0.weight", 1)?,
        level_channels,
        num_res_blocks,
        attention_resolutions,
        num_classes: if s.has("label_emb.weight") { s.size("label_emb.weight", 0)? } else { 0 },
        num_heads: 4,
        num_heads_upsample: None,
        num_head_channels: by_channels.then_some(64),
        use_new_attention_order: new_order,
        use_scale_shift_norm,
        resblock_updown: by_block.is_some(),
        conv_resample: gap.is_none(),
        dropout: 0.0,
    };
    Ok((config, assumed))
}

/// The configuration with settings of a person's own.
fn with_settings(
    path: &Path,
    config: OpenAiUNetConfig,
    settings: &[(String, Value)],
) -> Result<OpenAiUNetConfig> {
    let mut all = json!(config);
    for (key, value) in settings {
        let mut keys: Vec<String> =
            all.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
        keys.extend(["num_heads_upsample", STEPS, RESCALE].map(String::from));
        if !keys.contains(key) {
            let problem = "is no key of this network";
            let action = format!("take one of {}", keys.join(", "));
            return Err(Error::invalid(path, format!("--set {key}"), problem, action));
        }
        if [STEPS, RESCALE].contains(&key.as_str()) {
            continue;
        }
        all[key] = value.clone();
        if key == "num_heads" {
            all["num_head_channels"] = Value::Null;
        }
    }
    serde_json::from_value(all).map_err(|e| {
        let action = "give numbers, true or false";
        Error::invalid(path, "--set", e.to_string(), action)
    })
}

/// Keys of the schedule that a network was trained with, which go with the network's own.
const STEPS: &str = "steps";
const RESCALE: &str = "rescale_timesteps";

/// The preconditioning with the steps that the settings say, if they do.
fn with_steps(
    path: &Path,
    preconditioning: Preconditioning,
    settings: &[(String, Value)],
) -> Result<Preconditioning> {
    let of = |wanted: &str| settings.iter().rev().find(|(key, _)| key == wanted).map(|(_, v)| v);
    let invalid = |key: &str, problem: String, action: &str| {
        Error::invalid(path, format!("--set {key}"), problem, action)
    };
    let (steps, rescale) = (of(STEPS), of(RESCALE));
    let rescaled = match rescale {
        None => true,
        Some(Value::Bool(rescaled)) => *rescaled,
        Some(other) => {
            return Err(invalid(RESCALE, format!("is {other}"), "give true or false"));
        }
    };
    let steps = match steps {
        None if rescale.is_none() => return Ok(preconditioning),
        None => 1000,
        Some(steps) => steps
            .as_u64()
            .and_then(|steps| usize::try_from(steps).ok())
            .ok_or_else(|| invalid(STEPS, format!("is {steps}"), "give a whole number"))?,
    };
    let found = preconditioning.with_steps(steps, rescaled).ok_or_else(|| {
        let problem = "goes with a DDPM alone".to_string();
        invalid(
            STEPS,
            problem,
            "give --preconditioning ddpm-linear or ddpm-cosine, or leave it out",
        )
    })?;
    match found.problem() {
        None => Ok(found),
        Some(problem) => {
            let problem = format!("makes a schedule whose {problem}");
            Err(invalid(STEPS, problem, "give the number of diffusion steps of its training"))
        }
    }
}

/// The teacher with these weights, under their original names.
///
/// # Errors
/// When they are not those of a whole network.
pub(crate) fn from_state(
    path: &Path,
    state: StateDict,
    options: &Options,
    device: &Device,
) -> Result<Imported> {
    // The attention of consistency_models takes the new order whatever its flag says.
    let new_order = options.preconditioning == Some(Preconditioning::KARRAS);
    let (network, mut found) = architecture(path, &state, new_order)?;
    let told = |line: &String| {
        !options.settings.iter().any(|(key, _)| line.contains(&format!("--set {key}=")))
    };
    found.retain(told);
    let network = with_settings(path, network, &options.settings)?;
    let preconditioning = options.preconditioning.clone().unwrap_or_else(|| {
        found.push(
            "assumed a DDPM of 1000 steps with linear variances, which weights don't tell; \
             --preconditioning says otherwise: ddpm-cosine (improved-diffusion), karras \
             (consistency_models' teachers) or flow-to-data (torchcfm)"
                .into(),
        );
        Preconditioning::DDPM_LINEAR
    });
    let preconditioning = with_steps(path, preconditioning, &options.settings)?;
    let config = config(path, UNetConfig::OpenaiUnet(network), preconditioning);
    teacher(path, config, ours(state), found, Vec::new(), device)
}
