//! The discriminators that the official code saves beside its students.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::Result;
use kdm_nn::{DiscriminatorConfig, InitSeed, StateDict};
use serde_json::json;

use crate::imported::{Imported, Model, counted, with_weights};

/// The kind that discriminators' model files name.
pub const DISCRIMINATOR: &str = "discriminator";

/// The convolutions and norms of the official discriminator, by their place, and here.
const DISCRIMINATOR_PARTS: [(&str, &str); 6] = [
    ("model.0", "conv0"),
    ("model.2", "conv1"),
    ("model.3", "norm1"),
    ("model.5", "conv2"),
    ("model.6", "norm2"),
    ("model.8", "conv3"),
];

/// The official name of a discriminator's tensor.
pub(crate) fn original_discriminator_name(ours: &str) -> String {
    let place = DISCRIMINATOR_PARTS.iter().find_map(|(theirs, name)| {
        Some(format!("{theirs}.{}", ours.strip_prefix(name)?.strip_prefix('.')?))
    });
    place.unwrap_or_else(|| ours.to_string())
}

/// Whether the names are those of a discriminator.
pub fn is_discriminator(state: &StateDict) -> bool {
    state.get("model.8.weight").is_some_and(|w| w.shape()[..] == [1, 256, 4, 4])
        && state.contains_key("model.6.weight")
}

/// Reads a discriminator's state; `device` is where its weights are tried.
///
/// # Errors
/// When a tensor is missing or of another shape.
pub fn discriminator(path: &Path, theirs: StateDict, device: &Device) -> Result<Imported> {
    let mut state = StateDict::new();
    let mut ignored = Vec::new();
    for (name, data) in theirs {
        let place = DISCRIMINATOR_PARTS.iter().find_map(|(theirs, ours)| {
            let part = name.strip_prefix(theirs)?.strip_prefix('.')?;
            matches!(part, "weight" | "bias").then(|| format!("{ours}.{part}"))
        });
        match place {
            Some(ours) => {
                state.insert(ours, data);
            }
            None => ignored.push(format!(
                "`{name}`: the network is only run in training, on its batch's statistics"
            )),
        }
    }
    let in_channels =
        state.get("conv0.weight").and_then(|w| w.shape().get(1).copied()).unwrap_or(3);
    let config = DiscriminatorConfig { in_channels };
    let action = "give a discriminator of the official KDM code";
    with_weights(path, config.init(&mut InitSeed::new(0), device), &state, action)?;
    let found =
        vec![format!("a discriminator for images of {in_channels} channels"), counted(&state)];
    Ok(Imported {
        model: Model::Weights { kind: DISCRIMINATOR, config: json!(config), state },
        found,
        ignored,
    })
}
