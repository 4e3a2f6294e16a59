//! Statistics of a set of images' features, kept in a file with what they came from: the network,
//! the data set, its split, the number of images and a hash of them.
//!
//! Also read: `.npz` files with `mu` and `sigma`, as pytorch-fid and EDM write them, which hold no
//! features of single images.

use std::collections::BTreeMap;
use std::path::Path;

use kdm_data::tensors::{self, RawTensor};
use kdm_data::{Array, Error, Result, TensorFile, array, model};
use kdm_nn::inception;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{FrechetError, OtherNetwork};
use crate::features::{Features, Moments, frechet_distance};
use crate::stamp::Stamp;

/// The kind that statistics' files name.
pub const KIND: &str = "statistics";
/// Features of single images a file keeps at most: enough for KID's subsets and for neighbours.
pub const KEPT: usize = 5000;

/// What statistics were computed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The network of the features.
    pub network: Stamp,
    /// The data set, by name or path.
    pub data: String,
    /// Its split.
    pub split: String,
    /// SHA-256 of all images and classes; empty where it isn't known.
    pub sha256: String,
}

/// Statistics of images' features.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// What they were computed from.
    pub origin: Origin,
    /// Mean and covariance.
    pub moments: Moments,
    /// Features of the first images, `[n, dim]`; empty when they weren't kept.
    pub features: Vec<f32>,
}

const ACTION: &str = "make the statistics again with `kdm features stats`";

impl Statistics {
    /// Of features of at least two images, which `origin` says more about.
    pub fn of(found: &Features, origin: Origin) -> Self {
        let kept = (KEPT * found.dim).min(found.features.len());
        Self {
            origin,
            moments: Moments::of(&found.features, found.dim),
            features: found.features[..kept].to_vec(),
        }
    }

    /// Writes them: a `.npz` of `mu` and `sigma` for other programs, else a file of this project
    /// (features in half precision).
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let dim = self.moments.dim();
        if path.extension().is_some_and(|e| e == "npz") {
            let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
            let mu = Array::new([dim], narrow(&self.moments.mean));
            let sigma = Array::new([dim, dim], narrow(&self.moments.covariance));
            return array::write_npz(path, &[("mu", &mu), ("sigma", &sigma)]);
        }
        let bytes =
            |values: &[f64]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (mean, covariance) = (bytes(&self.moments.mean), bytes(&self.moments.covariance));
        let features: Vec<u8> =
            self.features.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        let raw = |dtype, shape: Vec<usize>, bytes| RawTensor { dtype, shape, bytes };
        let all = BTreeMap::from([
            ("mean".to_string(), raw(Dtype::F64, vec![dim], &mean)),
            ("covariance".to_string(), raw(Dtype::F64, vec![dim, dim], &covariance)),
            (
                "features".to_string(),
                raw(Dtype::F16, vec![self.features.len() / dim, dim], &features),
            ),
        ]);
        let config = json!({"origin": self.origin, "count": self.moments.count});
        tensors::write_sealed(
            path,
            &json!({"version": model::MODEL_VERSION, "kind": KIND, "config": config}),
            &all,
        )
    }

    /// Reads a `.npz` of `mu` and `sigma`, or a file of this project.
    ///
    /// # Errors
    /// When the file is damaged or holds no statistics.
    pub fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|e| e == "npz") {
            Self::read_npz(path)
        } else {
            Self::load(&TensorFile::open(path)?)
        }
    }

    /// Reads a file of this project.
    ///
    /// # Errors
    /// When it is damaged or holds no statistics.
    pub fn load(file: &TensorFile) -> Result<Self> {
        #[derive(Deserialize)]
        struct Config {
            origin: Origin,
            count: usize,
        }
        let config: Config = model::config(file, KIND)?;
        let bad = |field: &str| {
            Error::invalid(
                file.path(),
                format!("tensor `{field}`"),
                "is missing or misshapen",
                ACTION,
            )
        };
        let f64s = |name: &str| -> Result<Vec<f64>> {
            let raw =
                file.get(name).filter(|raw| raw.dtype == Dtype::F64).ok_or_else(|| bad(name))?;
            Ok(raw.bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
        };
        let (mean, covariance) = (f64s("mean")?, f64s("covariance")?);
        let dim = mean.len();
        let raw = file
            .get("features")
            .filter(|raw| raw.dtype == Dtype::F16)
            .ok_or_else(|| bad("features"))?;
        let features: Vec<f32> =
            raw.bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect();
        if dim == 0 || covariance.len() != dim * dim || !features.len().is_multiple_of(dim) {
            return Err(bad("covariance"));
        }
        Ok(Self {
            origin: config.origin,
            moments: Moments { count: config.count, mean, covariance },
            features,
        })
    }

    fn read_npz(path: &Path) -> Result<Self> {
        let arrays: BTreeMap<String, Array> = array::read_npz(path)?.into_iter().collect();
        let find = |name: &str| {
            let action = "give a .npz as pytorch-fid --save-stats or EDM's fid.py ref writes it";
            arrays.get(name).ok_or_else(|| Error::invalid(path, name, "is missing", action))
        };
        let (mu, sigma) = (find("mu")?, find("sigma")?);
        let dim = mu.data.len();
        if sigma.shape != [dim, dim] {
            let problem = format!("is {:?}, and mu has {dim} values", sigma.shape);
            return Err(Error::invalid(path, "sigma", problem, "make the statistics again"));
        }
        let widened = |a: &Array| a.data.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let network = Stamp { name: inception::NAME.into(), sha256: String::new() };
        let data = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { network, data, split: String::new(), sha256: String::new() };
        let moments = Moments { count: 0, mean: widened(mu), covariance: widened(sigma) };
        Ok(Self { origin, moments, features: Vec::new() })
    }

    /// Whether features of `dim` values by this network may be compared with these.
    ///
    /// # Errors
    /// When the statistics are of another network.
    pub fn check(&self, network: &Stamp, dim: usize) -> std::result::Result<(), OtherNetwork> {
        let own = &self.origin.network;
        let same =
            own.name == network.name && (own.sha256.is_empty() || own.sha256 == network.sha256);
        if same && self.moments.dim() == dim {
            return Ok(());
        }
        Err(OtherNetwork {
            expected: Box::new(own.clone()),
            expected_dim: self.moments.dim(),
            found: Box::new(network.clone()),
            found_dim: dim,
        })
    }

    /// The Fréchet distance of features of at least two images to these.
    ///
    /// # Errors
    /// When the features are not finite or of another dimension.
    pub fn distance_to(&self, found: &Features) -> std::result::Result<f64, FrechetError> {
        frechet_distance(&Moments::of(&found.features, found.dim), &self.moments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    #[test]
    fn statistics_come_back_and_know_their_network() {
        let folder = tempfile::tempdir().unwrap();
        let found =
            Features { dim: 3, features: normal_vec(1, 60), classes: 1, logits: vec![0.0; 20] };
        let network = Stamp { name: "inception".into(), sha256: "ab".into() };
        let origin = Origin {
            network: network.clone(),
            data: "d".into(),
            split: "test".into(),
            sha256: "cd".into(),
        };
        let all = Statistics::of(&found, origin);
        let path = folder.path().join("s.safetensors");
        all.write(&path).unwrap();
        let again = Statistics::open(&path).unwrap();
        assert_eq!((&again.origin, &again.moments), (&all.origin, &all.moments));
        // Half precision: 11 bits.
        assert!(
            again
                .features
                .iter()
                .zip(&found.features)
                .all(|(a, b)| (a - b).abs() <= b.abs() / 2048.0)
        );
        let npz = folder.path().join("s.npz");
        all.write(&npz).unwrap();
        let read = Statistics::open(&npz).unwrap();
        assert!(
            read.moments
                .covariance
                .iter()
                .zip(&all.moments.covariance)
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        assert!(again.check(&network, 3).is_ok() && read.check(&network, 3).is_ok());
        let other = Stamp { name: "fashion-mnist".into(), sha256: "ab".into() };
        assert!(again.check(&other, 3).unwrap_err().to_string().contains("`inception`"));
        assert!(again.check(&Stamp { sha256: "x".into(), ..network.clone() }, 3).is_err());
        assert!(again.check(&network, 4).is_err());
    }
}
