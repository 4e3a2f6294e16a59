//! The noise that a network was trained with, from its scheduler's configuration.

use std::path::Path;

use kdm_data::{Error, Result};
use kdm_teacher::Preconditioning;
use kdm_teacher::networks::preconditioning::{Betas, Prediction};
use serde_json::Value;

const ACTION: &str = "give the scheduler of a DDPM (betas, and what the network predicts) or of \
                      flow matching; which solver it names makes no difference here";

/// Schedulers of DDPMs. They differ in how they solve, which is asked of this program's own
/// solvers, and agree in what their betas and their network's answer mean.
const DDPM: [&str; 23] = [
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDIMInverseScheduler",
    "PNDMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "RePaintScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "LCMScheduler",
    "UniPCMultistepScheduler",
    "UnCLIPScheduler",
];

/// Schedulers of flow matching: the network's time is the noise level times the number of steps.
const FLOW: [&str; 2] = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"];

/// Schedulers whose betas are DDPM's where their configuration leaves them out.
const DEFAULT_BETAS: [&str; 3] = ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler"];

/// Settings of samplers that change what is drawn and not what the network means.
const OF_SAMPLERS: [&str; 3] = ["clip_sample", "thresholding", "use_karras_sigmas"];

/// What a network without a scheduler is taken to be trained with.
pub(super) fn assumed() -> Preconditioning {
    let betas = Betas::Linear { start: 1e-4, end: 0.02 };
    Preconditioning::Ddpm { betas, steps: 1000, prediction: Prediction::Epsilon, time_scale: 1.0 }
}

/// The noise and the network's prediction, and notes on what is left out.
///
/// # Errors
/// When the scheduler is of another kind than those known here, or one of its settings is.
pub(super) fn schedule_of(path: &Path, config: &Value) -> Result<(Preconditioning, Vec<String>)> {
    let Some(class) = config["_class_name"].as_str() else {
        return refused(
            path,
            "_class_name",
            "is missing, and it says what the numbers mean".into(),
        );
    };
    let mut notes = Vec::new();
    for field in OF_SAMPLERS {
        if config[field] == true {
            notes.push(format!("`{field}`: {SAMPLERS}"));
        }
    }
    let steps = match &config["num_train_timesteps"] {
        Value::Null => 1000,
        given => match given.as_f64().filter(|n| n.fract() == 0.0 && (1.0..=1e6).contains(n)) {
            Some(n) => n as usize,
            None => return unknown(path, config, "num_train_timesteps"),
        },
    };
    if FLOW.contains(&class) {
        for field in ["shift", "use_dynamic_shifting"] {
            if config[field] == true || config[field].as_f64().is_some_and(|shift| shift != 1.0) {
                notes.push(format!("`{field}` = {}: {SAMPLERS}", config[field]));
            }
        }
        let flow = Preconditioning::Flow { time_scale: steps as f64, data_at_one: false };
        return Ok((flow, notes));
    }
    if !DDPM.contains(&class) {
        let problem = format!("is {class}; known are {} and {}", DDPM.join(", "), FLOW.join(", "));
        return refused(path, "_class_name", problem);
    }
    if config["rescale_betas_zero_snr"] == true {
        let problem = "is true, and then the first noise level is infinite";
        return refused(path, "rescale_betas_zero_snr", problem.into());
    }
    if config["use_flow_sigmas"] == true {
        return refused(
            path,
            "use_flow_sigmas",
            format!("is true, and {class}'s betas then mean nothing"),
        );
    }
    if let Some("learned" | "learned_range") = config["variance_type"].as_str() {
        let problem = "is learned: such a network predicts the variance too, in channels of its \
                       own, which is not read from diffusers";
        return refused(path, "variance_type", problem.into());
    }
    let prediction = match (&config["prediction_type"], &config["predict_epsilon"]) {
        (Value::Null, Value::Bool(false)) => Prediction::Sample,
        (Value::Null, _) => Prediction::Epsilon,
        (Value::String(name), _) => match name.as_str() {
            "epsilon" => Prediction::Epsilon,
            "v_prediction" => Prediction::V,
            "sample" => Prediction::Sample,
            _ => return unknown(path, config, "prediction_type"),
        },
        _ => return unknown(path, config, "prediction_type"),
    };
    let beta = |field: &str, default: f64| match (&config[field], config[field].as_f64()) {
        (_, Some(beta)) => Ok(beta),
        (Value::Null, _) if DEFAULT_BETAS.contains(&class) => Ok(default),
        (Value::Null, _) => refused(path, field, "is missing".into()),
        _ => unknown(path, config, field),
    };
    let ends = || Ok((beta("beta_start", 1e-4)?, beta("beta_end", 0.02)?));
    let schedule = match &config["beta_schedule"] {
        Value::Null => "linear",
        given => given.as_str().unwrap_or("no text"),
    };
    let betas = match (&config["trained_betas"], schedule) {
        (Value::Array(list), _) => {
            let betas: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
            match betas {
                Some(betas) if betas.len() == steps => Betas::Given { betas },
                Some(betas) => {
                    let n = betas.len();
                    let problem = format!("has {n} entries, and num_train_timesteps is {steps}");
                    return refused(path, "trained_betas", problem);
                }
                None => {
                    return refused(
                        path,
                        "trained_betas",
                        "has entries that are no numbers".into(),
                    );
                }
            }
        }
        (Value::Null, "linear") => {
            let (start, end) = ends()?;
            Betas::Linear { start, end }
        }
        (Value::Null, "scaled_linear") => {
            let (start, end) = ends()?;
            Betas::ScaledLinear { start, end }
        }
        (Value::Null, "squaredcos_cap_v2") => Betas::Cosine,
        (Value::Null, _) => return unknown(path, config, "beta_schedule"),
        _ => return refused(path, "trained_betas", "is no list".into()),
    };
    Ok((Preconditioning::Ddpm { betas, steps, prediction, time_scale: 1.0 }, notes))
}

/// The error of a setting that means another network than those known here.
fn refused<T>(path: &Path, field: &str, problem: String) -> Result<T> {
    Err(Error::invalid(path, field, problem, ACTION))
}

fn unknown<T>(path: &Path, config: &Value, field: &str) -> Result<T> {
    refused(path, field, format!("is {}, which is not known here", config[field]))
}

const SAMPLERS: &str = "a rule of that sampler; the solvers here follow the differential equation";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> std::result::Result<(Preconditioning, Vec<String>), String> {
        schedule_of(Path::new("scheduler_config.json"), &config).map_err(|e| e.to_string())
    }

    /// Each class that is known gives the same network; every other is refused by its name, with
    /// the names that are known.
    #[test]
    fn schedulers_are_known_by_name() {
        for class in DDPM {
            let config = json!({"_class_name": class, "beta_start": 1e-4, "beta_end": 0.02});
            assert_eq!(read(config).unwrap().0, assumed(), "{class}");
        }
        for class in FLOW {
            let (flow, notes) = read(json!({"_class_name": class, "shift": 3.0})).unwrap();
            assert_eq!(flow, Preconditioning::Flow { time_scale: 1000.0, data_at_one: false });
            assert!(notes[0].contains("shift"));
        }
        for class in [
            "CMStochasticIterativeScheduler",
            "EDMDPMSolverMultistepScheduler",
            "EDMEulerScheduler",
            "KarrasVeScheduler",
            "ScoreSdeVeScheduler",
            "VQDiffusionScheduler",
            "OfNextYearScheduler",
        ] {
            let message = read(json!({"_class_name": class})).unwrap_err();
            assert!(message.contains(class) && message.contains("DDIMScheduler"), "{message}");
        }
        assert!(read(json!({})).unwrap_err().contains("_class_name"));
    }

    #[test]
    fn settings_that_mean_another_network_are_refused_by_name() {
        for (field, value) in [
            ("beta_schedule", json!("sigmoid")),
            ("prediction_type", json!("flow_prediction")),
            ("rescale_betas_zero_snr", json!(true)),
            ("use_flow_sigmas", json!(true)),
            ("variance_type", json!("learned_range")),
            ("trained_betas", json!([0.1, 0.2])),
            ("trained_betas", json!("none")),
            ("num_train_timesteps", json!(0.5)),
            ("beta_start", json!("0.1")),
        ] {
            let mut config = json!({"_class_name": "DDPMScheduler"});
            config[field] = value;
            assert!(read(config).unwrap_err().contains(field), "{field}");
        }
        // Betas that other classes leave out are not guessed.
        let message = read(json!({"_class_name": "HeunDiscreteScheduler"})).unwrap_err();
        assert!(message.contains("beta_start"), "{message}");
        let old = json!({"_class_name": "DDPMScheduler", "predict_epsilon": false});
        let Preconditioning::Ddpm { prediction, .. } = read(old).unwrap().0 else { panic!() };
        assert_eq!(prediction, Prediction::Sample);
        let whole = json!({"_class_name": "DDPMScheduler", "num_train_timesteps": 1000.0});
        assert_eq!(read(whole).unwrap().0, assumed());
    }
}
