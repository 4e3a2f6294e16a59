//! Weights of feature networks: VGG16 and the heads of LPIPS, and the Inception v3 of the Fréchet
//! distance.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use kdm_data::{Error, Result};
use kdm_nn::state::state_dict;
use kdm_nn::{Inception, InitSeed, Lpips, Pooling, StateDict, inception};
use serde_json::json;

use crate::imported::{Imported, Model, counted, with_weights};

/// The kind that model files of LPIPS name.
pub const LPIPS: &str = "lpips";

/// Whether these are VGG16's convolutions.
pub fn is_vgg(state: &StateDict) -> bool {
    state.get("features.28.weight").is_some_and(|t| t.shape()[..] == [512, 512, 3, 3])
        && state.contains_key("features.0.weight")
}

/// Whether these are LPIPS's heads, alone.
pub fn is_heads(state: &StateDict) -> bool {
    state.contains_key("lin0.model.1.weight") || state.contains_key("lins.0.model.1.weight")
}

/// Whether this is the Inception network.
pub fn is_inception(state: &StateDict) -> bool {
    state.contains_key("Mixed_7c.branch_pool.conv.weight")
        || state.contains_key("Mixed_7c.branch_pool.bn.weight")
}

/// LPIPS from VGG16's convolutions and the heads. `heads` may be a list of five weights under the
/// names `0` to `4`, as `piq` keeps them. `device` is where the weights are tried.
///
/// # Errors
/// When a tensor is missing or of another shape.
pub fn lpips(
    path: &Path,
    vgg: &StateDict,
    heads_path: &Path,
    heads: &StateDict,
    device: &Device,
) -> Result<Imported> {
    let action = "give torchvision's VGG16 (vgg16-397923af.pth) and the heads of the lpips package \
                  (vgg.pth) or of piq";
    let mut state = StateDict::new();
    let network = Lpips::init(Pooling::Max, &mut InitSeed::new(0), device);
    let wanted = state_dict(&network);
    let mut ignored = 0;
    for (name, data) in vgg {
        if wanted.contains_key(name) {
            state.insert(name.clone(), data.clone());
        } else {
            ignored += 1;
        }
    }
    for i in 0..5 {
        let names =
            [format!("lin{i}.model.1.weight"), format!("lins.{i}.model.1.weight"), format!("{i}")];
        let head = names.iter().find_map(|name| heads.get(name));
        let missing = || Error::invalid(heads_path, names[0].clone(), "is missing", action);
        let head = head.ok_or_else(missing)?;
        let n = head.shape().num_elements();
        let bytes = TensorData::from_bytes(head.clone().into_bytes(), [1, n, 1, 1], head.dtype());
        state.insert(names[0].clone(), bytes);
    }
    with_weights(path, network, &state, action)?;
    let found = vec![
        "LPIPS: VGG16's convolutions and a weight for every feature".to_string(),
        counted(&state),
    ];
    let ignored = match ignored {
        0 => Vec::new(),
        n => vec![format!("{n} tensors of VGG16's classifier: LPIPS takes features alone")],
    };
    Ok(Imported { model: Model::Weights { kind: LPIPS, config: json!({}), state }, found, ignored })
}

/// The Inception network of `pytorch-fid`; `device` is where the weights are tried.
///
/// # Errors
/// When a tensor is missing or of another shape.
pub fn inception(path: &Path, state: StateDict, device: &Device) -> Result<Imported> {
    let action = "give pytorch-fid's weights, pt_inception-2015-12-05-6726825d.pth; torchvision's \
                  are other ones";
    let network = Inception::init(&mut InitSeed::new(0), device);
    let wanted = state_dict(&network);
    let (state, other): (StateDict, StateDict) =
        state.into_iter().partition(|(name, _)| wanted.contains_key(name));
    with_weights(path, network, &state, action)?;
    let found =
        vec!["Inception v3 as the Fréchet inception distance uses it".to_string(), counted(&state)];
    let ignored = other
        .keys()
        .map(|name| format!("`{name}`: no part of the network that features come from"))
        .collect();
    Ok(Imported {
        model: Model::Weights { kind: inception::NAME, config: json!({}), state },
        found,
        ignored,
    })
}
