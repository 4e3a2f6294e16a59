//! Pairs drawn by other programs.
//!
//! Read here: a `.npy` of shape (steps, points, D), time first and noise first, the layout of the official
//! checkerboard pairs; and a `.npz` with arrays `noise` and `image` (and `label`), which is also what an export writes.

use std::path::Path;

use serde_json::Value;

use super::manifest::{ImageType, Manifest, NoiseSource, STORE_VERSION};
use super::write::{Progress, ShardContent, Worker, fill};
use crate::hash::sha256;
use crate::{Array, Error, Result, array};

/// Pairs read from a foreign file.
#[derive(Clone, Debug)]
pub struct Import {
    /// x_T, (pairs, ...).
    pub noise: Array,
    /// x_0, of the same shape.
    pub images: Array,
    /// Classes, if the file has them.
    pub labels: Vec<u32>,
    /// What the file was, for the history.
    pub found: String,
}

impl Import {
    /// Tells one set of pairs from another.
    fn hash(&self) -> String {
        let [noise, images] = [&self.noise, &self.images].map(|a| sha256(bytemuck::cast_slice(&a.data)));
        sha256([noise, images, sha256(bytemuck::cast_slice(&self.labels))].concat().as_bytes())
    }

    /// Standard deviation of the noise as found.
    pub fn noise_std(&self) -> f64 {
        let n = self.noise.data.len().max(1) as f64;
        (self.noise.data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n).sqrt()
    }
}

/// Reads pairs from a `.npy` or `.npz` file; the content decides, not the file's name.
///
/// # Errors
/// When the file is damaged or holds no pairs in a known layout.
pub fn read_pairs(path: &Path) -> Result<Import> {
    let mut start = [0u8; 2];
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    std::io::Read::read_exact(&mut file, &mut start).map_err(Error::io("read", path))?;
    let import = if &start == b"PK" { from_npz(path)? } else { from_npy(path)? };
    for (name, array) in [("noise", &import.noise), ("image", &import.images)] {
        if let Some(i) = array.data.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(
                path,
                name,
                format!("pair {} has the value {}", i / array.row_len(), array.data[i]),
                "remove that pair and import again",
            ));
        }
    }
    Ok(import)
}

fn from_npy(path: &Path) -> Result<Import> {
    let all = array::read_npy(path)?;
    let [steps, points, dim] = all.shape[..] else {
        return Err(unknown(path, format!("an array of shape {:?}", all.shape)));
    };
    if steps < 2 || points == 0 || dim == 0 {
        return Err(unknown(path, format!("an array of shape {:?}", all.shape)));
    }
    let slice = |t: usize| Array::new([points, dim], all.data[t * points * dim..(t + 1) * points * dim].to_vec());
    let found = format!("{steps} times of {points} points, noise first");
    Ok(Import { noise: slice(0), images: slice(steps - 1), labels: Vec::new(), found })
}

fn from_npz(path: &Path) -> Result<Import> {
    let arrays = array::read_npz(path)?;
    let get = |name: &str| arrays.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone());
    let (Some(noise), Some(images)) = (get("noise"), get("image")) else {
        let names: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
        return Err(unknown(path, format!("the arrays {names:?}")));
    };
    if noise.shape != images.shape || noise.rows() == 0 || noise.row_len() == 0 {
        let problem = format!("{:?} where `image` is {:?}", noise.shape, images.shape);
        return Err(Error::invalid(path, "noise", problem, "give both arrays the same shape, pairs first"));
    }
    let labels = match get("label") {
        None => Vec::new(),
        Some(labels) if labels.shape == [noise.rows()] && labels.data.iter().all(|x| *x >= 0.0) => {
            labels.data.iter().map(|x| *x as u32).collect()
        }
        Some(labels) => {
            let problem = format!("has shape {:?}", labels.shape);
            return Err(Error::invalid(path, "label", problem, "give one class number a pair, from 0"));
        }
    };
    let found = format!("{} pairs as arrays `noise` and `image`", noise.rows());
    Ok(Import { noise, images, labels, found })
}

fn unknown(path: &Path, found: String) -> Error {
    Error::invalid(
        path,
        "layout",
        format!("holds {found}, which is no layout of pairs that is known"),
        "give a .npy of shape (steps, points, D), noise first, or a .npz with arrays `noise` and `image`",
    )
}

/// Writes imported pairs as a store that keeps their noise.
///
/// # Errors
/// When the folder holds something else or can't be written.
pub fn import(
    folder: &Path,
    pairs: &Import,
    source: &str,
    noise_std: f64,
    dtype: ImageType,
    shard_size: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest> {
    let label_dim = pairs.labels.iter().max().map_or(0, |max| *max as usize + 1);
    let plan = Manifest {
        version: STORE_VERSION,
        teacher: None,
        sampling: Value::Null,
        noise: NoiseSource::Stored,
        noise_std,
        shape: pairs.images.shape[1..].to_vec(),
        dtype,
        label_dim,
        count: pairs.images.rows(),
        shard_size,
        history: vec![format!("imported from {source} ({:.12}): {}", pairs.hash(), pairs.found)],
        shards: Vec::new(),
        checksum: String::new(),
    };
    fill(folder, &plan, Worker::ALONE, progress, &mut |range, advance| {
        advance(range.len());
        Ok(ShardContent {
            images: pairs.images.slice_rows(range.clone()).data,
            seeds: Vec::new(),
            noise: pairs.noise.slice_rows(range.clone()).data,
            labels: pairs.labels.get(range).unwrap_or_default().to_vec(),
        })
    })
}
