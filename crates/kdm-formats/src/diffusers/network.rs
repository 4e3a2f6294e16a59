//! The configuration of a `UNet2DModel`.

use std::path::Path;

use kdm_data::{Error, Result};
use kdm_nn::DiffusersUNetConfig;
use serde_json::Value;

use super::ACTION;

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

/// The network that `config.json` tells of, and notes on what is left out.
pub(super) fn network_of(
    path: &Path,
    config: &Value,
) -> Result<(DiffusersUNetConfig, Vec<String>)> {
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
    whole(&mut known);
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

/// Whole numbers that were written as floats, such as `32.0`, as whole numbers.
fn whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().filter(|x| number.is_f64() && x.fract() == 0.0);
            if let Some(x) = float.filter(|x| (0.0..9e15).contains(x)) {
                *value = (x as u64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole),
        Value::Object(object) => object.values_mut().for_each(whole),
        _ => {}
    }
}
