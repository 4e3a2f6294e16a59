//! Folders of Hugging Face diffusers: a `UNet2DModel`'s `config.json` and weights, with the
//! scheduler's configuration beside it; or a pipeline's folder that holds both.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kdm_data::{Error, Result, TensorFile};
use kdm_nn::{DiffusersUNetConfig, StateDict, UNetConfig};
use kdm_teacher::Preconditioning;
use kdm_teacher::networks::preconditioning::{Betas, Prediction};
use serde_json::Value;

use crate::edm::{config, teacher};
use crate::imported::Imported;
use crate::torch::TorchFile;

const ACTION: &str = "give the folder of a diffusers UNet2DModel or of a pipeline around one";

/// The folder of the network itself, when `path` is a folder that diffusers wrote.
pub fn network_folder(path: &Path) -> Option<PathBuf> {
    let has_config = |folder: &Path| folder.join("config.json").is_file();
    [path.to_path_buf(), path.join("unet")].into_iter().find(|folder| has_config(folder))
}

/// Reads the folder; `device` is where the weights are tried.
///
/// # Errors
/// When a file is missing or damaged, or the configuration sets what is not known here.
pub fn import(path: &Path, device: &Device) -> Result<Imported> {
    let folder = network_folder(path).ok_or_else(|| {
        Error::invalid(path, "folder", "holds no config.json, neither itself nor in `unet`", ACTION)
    })?;
    let config_path = folder.join("config.json");
    let (network, mut ignored) = network_of(&config_path, &json_of(&config_path)?)?;
    let (state, weights) = weights(&folder)?;
    let state = renamed(state);

    let name = "scheduler_config.json";
    let parent = folder.parent().unwrap_or(&folder).to_path_buf();
    let candidates = [
        folder.join(name),
        folder.join("scheduler").join(name),
        parent.join("scheduler").join(name),
        parent.join(name),
    ];
    let mut found = vec![format!("a diffusers UNet2DModel, weights in {weights}")];
    let preconditioning = match candidates.iter().find(|p| p.is_file()) {
        Some(path) => {
            let scheduler = json_of(path)?;
            let (preconditioning, note) = schedule_of(path, &scheduler)?;
            found.push(format!("schedule from {}", path.display()));
            ignored.extend(note);
            preconditioning
        }
        None => {
            found.push(format!(
                "no {name}: DDPM's schedule is assumed, linear betas 1e-4 to 0.02 over 1000 steps"
            ));
            let betas = Betas::Linear { start: 1e-4, end: 0.02 };
            Preconditioning::Ddpm { betas, steps: 1000, prediction: Prediction::Epsilon }
        }
    };
    let config = config(path, UNetConfig::DiffusersUnet(network), preconditioning);
    teacher(path, config, state, found, ignored, device)
}

fn json_of(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| {
        Error::invalid(path, "JSON", e.to_string(), "download the file again, whole")
    })?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(Error::invalid(path, "JSON", "is no object", ACTION)),
    }
}

/// Settings that must have these values, because nothing else is known here; absent ones have them.
const FIXED: [(&str, &[&str]); 7] = [
    ("_class_name", &["\"UNet2DModel\""]),
    ("downsample_type", &["\"conv\""]),
    ("upsample_type", &["\"conv\""]),
    ("mid_block_type", &["\"UNetMidBlock2D\""]),
    ("class_embed_type", &["null"]),
    ("attn_resnet_scale_shift", &["null"]),
    ("up_down_scale", &["null"]),
];

/// Settings that tell nothing about the forward pass.
const SILENT: [&str; 3] = ["_diffusers_version", "_name_or_path", "num_train_timesteps"];

fn network_of(path: &Path, config: &Value) -> Result<(DiffusersUNetConfig, Vec<String>)> {
    let invalid = |field: &str, problem: String| Error::invalid(path, field, problem, ACTION);
    for (field, allowed) in FIXED {
        if let Some(value) = config.get(field)
            && !allowed.contains(&value.to_string().as_str())
        {
            return Err(invalid(
                field,
                format!("is {value}, and this program knows {}", allowed.join(" or ")),
            ));
        }
    }
    let mut known = config.clone();
    let object = known.as_object_mut().expect("checked when read");
    let size = object.get("sample_size").cloned().unwrap_or(Value::Null);
    if let Value::Array(sides) = &size {
        match &sides[..] {
            [a, b] if a == b => {
                object.insert("sample_size".into(), a.clone());
            }
            _ => {
                return Err(invalid(
                    "sample_size",
                    format!("is {size}, and square images are known here"),
                ));
            }
        }
    }
    if size.is_null() {
        return Err(invalid(
            "sample_size",
            "is not set, so the images' size is not known; set it in config.json".into(),
        ));
    }
    if object.get("num_class_embeds").is_some_and(Value::is_null) {
        object.remove("num_class_embeds");
    }
    let network: DiffusersUNetConfig = serde_path_to_error::deserialize(&known)
        .map_err(|e| invalid(&e.path().to_string(), format!("not understood: {}", e.inner())))?;
    let written = serde_json::to_value(&network).expect("plain data");
    let unread = known.as_object().into_iter().flatten().filter(|(key, _)| {
        written.get(key.as_str()).is_none()
            && !SILENT.contains(&key.as_str())
            && !FIXED.iter().any(|(field, _)| field == &key.as_str())
    });
    let ignored = unread
        .map(|(key, value)| format!("`{key}` = {value}: not a setting of the known blocks"))
        .collect();
    Ok((network, ignored))
}

fn weights(folder: &Path) -> Result<(StateDict, String)> {
    let safetensors = folder.join("diffusion_pytorch_model.safetensors");
    if safetensors.is_file() {
        return Ok((
            TensorFile::open(&safetensors)?.state("")?,
            "diffusion_pytorch_model.safetensors".into(),
        ));
    }
    let bin = folder.join("diffusion_pytorch_model.bin");
    if bin.is_file() {
        let torch = TorchFile::open(&bin)?;
        return Ok((torch.dict(torch.pickle.root)?, "diffusion_pytorch_model.bin".into()));
    }
    let problem =
        "holds neither diffusion_pytorch_model.safetensors nor diffusion_pytorch_model.bin";
    let action = "download the weights beside config.json; weights split over several files, or \
                  of a variant, have to be saved again as one";
    Err(Error::invalid(folder, "weights", problem, action))
}

/// Attention's old names as the new ones.
fn renamed(state: StateDict) -> StateDict {
    const NAMES: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let new = |name: String| {
        if !name.contains("attentions.") {
            return name;
        }
        NAMES.iter().fold(name, |name, (old, new)| name.replace(old, new))
    };
    state.into_iter().map(|(name, data)| (new(name), data)).collect()
}

/// The schedule of the noise, and notes on what is left out.
fn schedule_of(path: &Path, config: &Value) -> Result<(Preconditioning, Vec<String>)> {
    let invalid = |field: &str, problem: String| {
        Error::invalid(
            path,
            field,
            problem,
            "give the scheduler of a DDPM: betas and what the network predicts",
        )
    };
    let class = config["_class_name"].as_str().unwrap_or("DDPMScheduler");
    let number = |field: &str, default: f64| config[field].as_f64().unwrap_or(default);
    let mut notes = Vec::new();
    if class == "FlowMatchEulerDiscreteScheduler" {
        let flow = Preconditioning::Flow {
            time_scale: number("num_train_timesteps", 1000.0),
            data_at_one: false,
        };
        return Ok((flow, notes));
    }
    if class.contains("ScoreSde") || class.contains("Karras") || class == "EDMEulerScheduler" {
        return Err(invalid(
            "_class_name",
            format!("is {class}, whose noise levels are not a DDPM's"),
        ));
    }
    if config["rescale_betas_zero_snr"] == true {
        return Err(invalid(
            "rescale_betas_zero_snr",
            "is true, and then the first noise level is infinite".into(),
        ));
    }
    let (start, end) = (number("beta_start", 1e-4), number("beta_end", 0.02));
    let steps = number("num_train_timesteps", 1000.0).clamp(0.0, 1e9) as usize;
    let betas =
        match (&config["trained_betas"], config["beta_schedule"].as_str().unwrap_or("linear")) {
            (Value::Array(list), _) => {
                Betas::Given { betas: list.iter().filter_map(Value::as_f64).collect() }
            }
            (_, "linear") => Betas::Linear { start, end },
            (_, "scaled_linear") => Betas::ScaledLinear { start, end },
            (_, "squaredcos_cap_v2") => Betas::Cosine,
            (_, other) => {
                return Err(invalid(
                    "beta_schedule",
                    format!("is `{other}`, which is not known here"),
                ));
            }
        };
    let prediction = match config["prediction_type"].as_str().unwrap_or("epsilon") {
        "epsilon" => Prediction::Epsilon,
        "v_prediction" => Prediction::V,
        "sample" => Prediction::Sample,
        other => {
            return Err(invalid(
                "prediction_type",
                format!("is `{other}`, which is not known here"),
            ));
        }
    };
    for field in ["clip_sample", "thresholding"] {
        if config[field] == true {
            notes.push(format!(
                "`{field}`: a rule of that sampler; the solvers here follow the differential \
                 equation"
            ));
        }
    }
    Ok((Preconditioning::Ddpm { betas, steps, prediction }, notes))
}
