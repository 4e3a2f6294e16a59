//! Names of a student's tensors: those of the official code, and those here.

use burn::tensor::TensorData;
use kdm_koopman::StudentConfig;

/// The three networks' names in the file and here, and of their projections.
pub(super) const NETWORKS: [(&str, &str, &str); 3] = [
    ("x0_observables_encoder", "clean_encoder", "projection.clean"),
    ("xT_observables_encoder", "noise_encoder", "projection.noise"),
    ("x0_observables_decoder", "decoder", "projection.decoder"),
];

/// A tensor of an MLP under its name here: `main.0`, `main.2`, ... are the layers 0, 1, ...
pub(super) fn layer((name, data): (String, TensorData)) -> Option<(String, TensorData)> {
    let mut levels = name.splitn(3, '.').skip(1);
    let place: usize = levels.next()?.parse().ok()?;
    Some((format!("layers.{}.{}", place / 2, levels.next()?), data))
}

/// The official name of a tensor of this student.
pub(crate) fn original_name(ours: &str, student: &StudentConfig) -> String {
    let inner = if student.operator.projection.is_some() { "main_module." } else { "" };
    let points = student.network.mlp().is_some();
    for (theirs, name, projection) in NETWORKS {
        if let Some(rest) = ours.strip_prefix(&format!("{name}.")) {
            // layers.0, layers.1, ... stand at main.0, main.2, ..., activations between them.
            let place = rest.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
            let place = place.and_then(|(i, part)| Some((i.parse::<usize>().ok()?, part)));
            return match place.filter(|_| points) {
                Some((i, part)) => format!("{theirs}.{inner}main.{}.{part}", 2 * i),
                None => format!("{theirs}.{inner}{rest}"),
            };
        }
        if let Some(rest) = ours.strip_prefix(&format!("{projection}.")) {
            return format!("{theirs}.linear.{rest}");
        }
    }
    if let Some(rest) = ours.strip_prefix("operator.") {
        let rest = rest.strip_prefix("linear.").unwrap_or(rest);
        let rest = match rest {
            "p_re" | "p_im" | "p_inv_re" | "p_inv_im" => rest.replacen('p', "P", 1),
            other => other.to_string(),
        };
        return format!("koopman_operator.{rest}");
    }
    ours.replacen("control.", "koopman_control.", 1)
}
