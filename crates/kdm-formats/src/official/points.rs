//! Students of points: three MLPs.

use kdm_data::{Error, Result};
use kdm_koopman::NetworkConfig;
use kdm_nn::{Problem, StateDict};

use super::names::NETWORKS;
use super::{ACTION, Fitted, Misfit};
use crate::pickle::Id;
use crate::torch::TorchFile;

/// Sizes of an MLP. The time is one more input than the samples or latents have.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct MlpSizes {
    inputs: usize,
    outputs: usize,
    hidden: usize,
    layers: usize,
}

/// Sizes of the layers `main.0`, `main.2`, ...; activations stand between them.
pub(super) fn mlp(state: &StateDict) -> std::result::Result<MlpSizes, Misfit> {
    let shape = |i: usize| state.get(&format!("main.{}.weight", 2 * i)).map(|w| w.shape().to_vec());
    let shapes: Vec<Vec<usize>> = (0..).map_while(shape).collect();
    let (Some(first), Some(last)) = (shapes.first(), shapes.last()) else {
        return Err(Misfit::NoNetwork);
    };
    if shapes.iter().any(|s| s.len() != 2 || s.contains(&0)) {
        return Err(Misfit::Rank);
    }
    if shapes[..shapes.len() - 1].iter().any(|s| s[0] != first[0])
        || shapes.windows(2).any(|w| w[0][0] != w[1][1])
    {
        return Err(Misfit::Widths);
    }
    let (inputs, outputs) = (first[1], last[0]);
    Ok(MlpSizes { inputs, outputs, hidden: first[0], layers: shapes.len() })
}

/// The student of three MLPs that fit each other.
pub(super) fn fitted(
    clean: MlpSizes,
    noise: MlpSizes,
    decoder: MlpSizes,
) -> std::result::Result<Fitted, Problem> {
    let [(clean_name, ..), (noise_name, ..), (decoder_name, ..)] = NETWORKS;
    let MlpSizes { outputs: latent, hidden, layers, .. } = clean;
    let dim = decoder.outputs;
    if clean.inputs != dim + 1 {
        return Err(Misfit::Sizes.of(clean_name));
    }
    if noise != clean {
        return Err(Misfit::Sizes.of(noise_name));
    }
    if decoder != (MlpSizes { inputs: latent + 1, outputs: dim, hidden, layers }) {
        return Err(Misfit::Sizes.of(decoder_name));
    }
    Ok(Fitted {
        shape: vec![dim],
        label_dim: 0,
        latent,
        network: NetworkConfig::Mlp { hidden, layers },
        described: format!(
            "encoders and decoder: MLPs of {layers} layers, width {hidden}; points in {dim} \
             dimensions"
        ),
    })
}

/// MLPs end where they should: activations stand after every layer, but not after the
/// decoder's last.
pub(super) fn check_activations(torch: &TorchFile, id: Id) -> Result<()> {
    for (name, ..) in NETWORKS {
        let Some(main) = torch.child(id, name).and_then(|part| torch.child(part, "main")) else {
            continue;
        };
        let mut linear = false;
        for (key, module) in torch.children(main) {
            let class = torch.module(module).map_or("no module", |(class, _)| class);
            let fits = match class {
                "Linear" => !linear,
                "Swish" | "SiLU" => linear,
                _ => false,
            };
            if !fits {
                let problem =
                    format!("has `{class}` at place {key}, where linear layers and SiLU alternate");
                return Err(Error::invalid(torch.path(), name, problem, ACTION));
            }
            linear = class == "Linear";
        }
        if linear != (name == NETWORKS[2].0) {
            let problem = "ends in another activation than the paper's";
            return Err(Error::invalid(torch.path(), name, problem, ACTION));
        }
    }
    Ok(())
}
