//! A shard's file: pairs as tensors, written whole or not at all.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::manifest::{ImageType, Manifest, NoiseSource};
use super::states::{self, STATES};
use super::store::{number, read_row};
use crate::tensors::{self, RawTensor};
use crate::{Error, Labels, Result, Samples, TensorFile};

/// Whether the values of pairs, of which the first has the number `first`, can be kept in the shard
/// at `path`.
///
/// # Errors
/// When an image or its noise has a value that is not finite, or one that its type can't hold.
pub(super) fn check_values(
    path: &Path,
    plan: &Manifest,
    first: usize,
    pairs: &Samples,
) -> Result<()> {
    let dim = plan.dim();
    let invalid = |i: usize, width: usize, problem: String, action: &str| {
        Err(Error::invalid(path, format!("pair {}", first + i / width), problem, action))
    };
    if let Some(i) = pairs.images.iter().position(|x| !x.is_finite()) {
        let problem = format!("its image has the value {}", pairs.images[i]);
        let action =
            "check the teacher and the solver's noise levels; nothing of this shard was written";
        return invalid(i, dim, problem, action);
    }
    let stored = plan.noise == NoiseSource::Stored;
    if let Some(i) = pairs.noise.iter().position(|x| stored && !x.is_finite()) {
        let problem = format!("its noise has the value {}", pairs.noise[i]);
        return invalid(i, dim, problem, "draw it again; nothing of this shard was written");
    }
    let lost = |x: &f32| plan.dtype == ImageType::F16 && !half::f16::from_f32(*x).is_finite();
    if let Some(i) = pairs.images.iter().position(lost) {
        let problem =
            format!("its image has the value {}, and f16 keeps up to 65504", pairs.images[i]);
        let action = "choose f32 (--dtype f32, or pairs.dtype of an experiment) and another \
                      folder; nothing of this shard was written";
        return invalid(i, dim, problem, action);
    }
    let lost = |x: &f32| !half::f16::from_f32(*x).is_finite();
    if let Some(i) = pairs.states.iter().position(lost) {
        let problem =
            format!("a state has the value {}, and f16 keeps up to 65504", pairs.states[i]);
        let action = "check the teacher and its noise levels, or keep no states";
        return invalid(i, dim * plan.states.len().max(1), problem, action);
    }
    Ok(())
}

/// Writes the first pairs of shard `k`, all of them or fewer, to `path`; see [`check_values`].
///
/// # Errors
/// When the file can't be written.
pub(super) fn write_pairs(path: &Path, plan: &Manifest, k: usize, pairs: &Samples) -> Result<()> {
    let n = pairs.images.len() / plan.dim();
    let full_shape = [&[n], plan.shape.as_slice()].concat();
    let (halves, bytes): (Vec<half::f16>, Vec<u8>);
    let image = match plan.dtype {
        ImageType::F32 => RawTensor::f32(full_shape.clone(), &pairs.images),
        ImageType::F16 => {
            halves = pairs.images.iter().map(|x| half::f16::from_f32(*x)).collect();
            RawTensor {
                dtype: Dtype::F16,
                shape: full_shape.clone(),
                bytes: bytemuck::cast_slice(&halves),
            }
        }
        ImageType::U8 => {
            bytes = pairs
                .images
                .iter()
                .map(|x| ((x + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8)
                .collect();
            RawTensor { dtype: Dtype::U8, shape: full_shape.clone(), bytes: &bytes }
        }
    };
    let mut parts = BTreeMap::from([("image".to_string(), image)]);
    let classes = pairs.labels.classes();
    match plan.noise {
        NoiseSource::Seeded { .. } => {
            let bytes = bytemuck::cast_slice(&pairs.seeds);
            parts.insert("seed".into(), RawTensor { dtype: Dtype::U64, shape: vec![n], bytes });
        }
        NoiseSource::Stored => {
            parts.insert("noise".into(), RawTensor::f32(full_shape, &pairs.noise));
        }
    }
    if plan.label_dim > 0 {
        let bytes = bytemuck::cast_slice(&classes);
        parts.insert("label".into(), RawTensor { dtype: Dtype::U32, shape: vec![n], bytes });
    }
    let halves = states::halves(&pairs.states);
    if !plan.states.is_empty() {
        parts.insert(STATES.into(), states::tensor(plan, n, &halves));
    }
    tensors::write(path, &json!({"plan": plan.plan_hash(), "shard": k}), &parts)
}

/// The first `count` pairs of a file of this plan, with their noise where it is stored.
pub(super) fn read_pairs(file: &TensorFile, plan: &Manifest, count: usize) -> Samples {
    let dim = plan.dim();
    let rows = |name: &str| {
        let mut rows = vec![0.0; count * dim];
        rows.chunks_mut(dim).enumerate().for_each(|(i, row)| read_row(file, name, i, row));
        rows
    };
    let stored = plan.noise == NoiseSource::Stored;
    let seeds = || (0..count).map(|i| number((file, i), "seed", u64::from_le_bytes)).collect();
    let label = |i| (plan.label_dim > 0).then(|| number((file, i), "label", u32::from_le_bytes));
    Samples {
        shape: plan.shape.clone(),
        noise: if stored { rows("noise") } else { Vec::new() },
        images: rows("image"),
        labels: (0..count).map(label).collect::<Labels>(),
        seeds: if stored { Vec::new() } else { seeds() },
        states: states::read(file, plan, count),
    }
}
