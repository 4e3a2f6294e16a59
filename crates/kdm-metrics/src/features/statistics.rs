//! Statistics of a set of images' features, kept in a file with what they came from: the network,
//! the data set, its split, the number of images and a hash of them.
//!
//! Also read: `.npz` files with `mu` and `sigma`, as pytorch-fid and EDM write them, and with
//! `pool_3`, features of single images, as score_sde does. They don't say of which network they
//! are; an `.npz` of this program does, in a text beside its arrays.

use std::collections::BTreeMap;
use std::path::Path;

use kdm_data::machine::free_memory;
use kdm_data::region::Region;
use kdm_data::tensors::{self, RawTensor};
use kdm_data::view::Npz;
use kdm_data::{Error, Result, TensorFile, array, model};
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

/// What a file says beside its arrays.
#[derive(Serialize, Deserialize)]
struct Config {
    origin: Origin,
    count: usize,
}

/// The name of a network that a file doesn't name.
const UNKNOWN: &str = "unknown";
/// What other programs' files may hold.
const GIVE_NPZ: &str = "give an .npz as pytorch-fid --save-stats or EDM's fid.py ref writes it \
                        (`mu` and `sigma`), or of features (`pool_3`)";
/// Values that features may have: those of VGG, the most that any network gives whose distance is
/// taken.
const MOST_FEATURES: usize = 4096;
/// Bytes of memory that a feature takes while it is read: in the file's type and as f32, both in
/// buffers that grew.
const READING: u64 = 16;
/// The text in an `.npz` of this program that holds its [`Config`].
const NPZ_CONFIG: &str = "kdm.json";
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
            let (mu, sigma) = (&self.moments.mean[..], &self.moments.covariance[..]);
            let told = json!(Config { origin: self.origin.clone(), count: self.moments.count });
            let arrays = [("mu", &[dim][..], mu), ("sigma", &[dim, dim][..], sigma)];
            return array::write_npz_f64(path, &arrays, &[(NPZ_CONFIG, &told.to_string())]);
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
        let config = json!(Config { origin: self.origin.clone(), count: self.moments.count });
        tensors::write_sealed(
            path,
            &json!({"version": model::MODEL_VERSION, "kind": KIND, "config": config}),
            &all,
        )
    }

    /// Reads a `.npz` of `mu` and `sigma` or of `pool_3`, or a file of this project.
    ///
    /// # Errors
    /// When the file is damaged or holds no statistics, or ones that are none: see
    /// [`Self::checked`].
    pub fn open(path: &Path) -> Result<Self> {
        let found = if path.extension().is_some_and(|e| e == "npz") {
            Self::read_npz(path)?
        } else {
            Self::load(&TensorFile::open(path)?)?
        };
        found.checked(path)
    }

    /// Whether an `.npz` holds no statistics but, say, images. (A damaged one may hold some.)
    pub fn is_absent_from(path: &Path) -> bool {
        let npz = Region::file(path).and_then(Npz::open);
        npz.is_ok_and(|npz| !["mu", "sigma", "pool_3"].iter().any(|name| npz.has(name)))
    }

    /// Moments that another program's file at `path` holds, and doesn't say of which network: of
    /// Inception where they have its number of values.
    pub fn foreign(path: &Path, moments: Moments, features: Vec<f32>) -> Self {
        let inception = moments.dim() == inception::FEATURES;
        let name = if inception { inception::NAME } else { UNKNOWN };
        let network = Stamp { name: name.into(), sha256: String::new() };
        let data = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let origin = Origin { network, data, split: String::new(), sha256: String::new() };
        Self { origin, moments, features }
    }

    /// The statistics, if they can be ones: finite, and a covariance that is symmetric and not
    /// below zero in any direction.
    ///
    /// # Errors
    /// When they can't; `path` is what the message names.
    pub fn checked(self, path: &Path) -> Result<Self> {
        match self.moments.problem() {
            None => Ok(self),
            Some(problem) => Err(Error::invalid(path, "sigma", problem.to_string(), ACTION)),
        }
    }

    /// Reads a file of this project.
    ///
    /// # Errors
    /// When it is damaged or holds no statistics.
    pub fn load(file: &TensorFile) -> Result<Self> {
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
        let npz = Npz::open(Region::file(path)?)?;
        if npz.has("pool_3") && !npz.has("mu") {
            let view = npz.view("pool_3")?;
            let dim = view.row_len();
            if view.rows() < 2 || dim == 0 {
                let problem =
                    format!("has shape {:?}, and at least two rows are needed", view.shape());
                return Err(Error::invalid(path, "pool_3", problem, GIVE_NPZ));
            }
            let needed = (view.rows() as u64).saturating_mul(dim as u64).saturating_mul(READING);
            if dim > MOST_FEATURES || free_memory().is_some_and(|free| needed > free) {
                let problem = format!(
                    "has shape {:?}, which are more than {MOST_FEATURES} features or take more \
                     memory than is free",
                    view.shape()
                );
                return Err(Error::invalid(path, "pool_3", problem, GIVE_NPZ));
            }
            let mut features = view.rows_f32(0..view.rows())?;
            let moments = Moments::of(&features, dim);
            features.truncate(KEPT * dim);
            return Ok(Self::foreign(path, moments, features));
        }
        let find = |name: &str| {
            if npz.has(name) {
                return npz.view(name);
            }
            let names: Vec<&str> = npz.names().collect();
            let problem = format!("is missing; there is {names:?}");
            Err(Error::invalid(path, name, problem, GIVE_NPZ))
        };
        let (mu, sigma) = (find("mu")?, find("sigma")?);
        let dim = mu.shape().iter().fold(1usize, |n, size| n.saturating_mul(*size));
        if dim > MOST_FEATURES {
            let problem = format!("has {dim} values, and {MOST_FEATURES} are the most");
            return Err(Error::invalid(path, "mu", problem, GIVE_NPZ));
        }
        if sigma.shape() != [dim, dim] || dim == 0 {
            let problem = format!("is {:?}, and mu has {dim} values", sigma.shape());
            return Err(Error::invalid(path, "sigma", problem, "make the statistics again"));
        }
        let moments = Moments { count: 0, mean: mu.to_f64()?, covariance: sigma.to_f64()? };
        let found = Self::foreign(path, moments, Vec::new());
        let Some(told) = npz.text(NPZ_CONFIG)? else { return Ok(found) };
        let Config { origin, count } = serde_json::from_str(&told)
            .map_err(|e| Error::invalid(path, NPZ_CONFIG, e.to_string(), ACTION))?;
        Ok(Self { origin, moments: Moments { count, ..found.moments }, ..found })
    }

    /// Whether features of `dim` values by this network may be compared with these.
    ///
    /// # Errors
    /// When the statistics are of another network.
    pub fn check(&self, network: &Stamp, dim: usize) -> std::result::Result<(), OtherNetwork> {
        let own = &self.origin.network;
        let same = self.is_of_unknown_network()
            || own.name == network.name && (own.sha256.is_empty() || own.sha256 == network.sha256);
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

    /// Whether nothing says of which network they are, so that only the number of values can be
    /// checked.
    pub fn is_of_unknown_network(&self) -> bool {
        self.origin.network.name == UNKNOWN
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
        // For other programs, and yet of a known network.
        let read = Statistics::open(&npz).unwrap();
        assert_eq!((&read.origin, &read.moments), (&all.origin, &all.moments));
        assert!(again.check(&network, 3).is_ok() && read.check(&network, 3).is_ok());
        let other = Stamp { name: "fashion-mnist".into(), sha256: "ab".into() };
        assert!(again.check(&other, 3).unwrap_err().to_string().contains("`inception`"));
        assert!(again.check(&Stamp { sha256: "x".into(), ..network.clone() }, 3).is_err());
        assert!(again.check(&network, 4).is_err());
    }
    fn npz(arrays: &[(&str, &[usize], &[f64])]) -> Result<Statistics> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.npz");
        array::write_npz_f64(&path, arrays, &[]).unwrap();
        Statistics::open(&path)
    }

    /// Files of other programs don't say of which network they are: of as many values, that is.
    #[test]
    fn statistics_of_other_programs_are_read() {
        let (mu, sigma) = ([1.0, 2.0], [2.0, 0.5, 0.5, 1.0]);
        let found = npz(&[("mu", &[2], &mu), ("sigma", &[2, 2], &sigma)]).unwrap();
        assert_eq!((&found.moments.mean[..], &found.moments.covariance[..]), (&mu[..], &sigma[..]));
        let any = Stamp { name: "some".into(), sha256: "ab".into() };
        assert!(found.check(&any, 2).is_ok() && found.check(&any, 3).is_err());
        let pool: Vec<f64> = normal_vec(1, 60).into_iter().map(f64::from).collect();
        let found = npz(&[("pool_3", &[20, 3], &pool)]).unwrap();
        assert_eq!((found.moments.count, found.features.len()), (20, 60));
        let wide = npz(&[
            ("mu", &[2048], &[0.0; 2048]),
            ("sigma", &[2048, 2048], &vec![0.0; 2048 * 2048]),
        ]);
        assert!(wide.unwrap().check(&any, 2048).is_err());
    }

    #[test]
    fn impossible_statistics_are_refused() {
        let refused = |mu: &[f64], sigma: &[f64]| {
            npz(&[("mu", &[2], mu), ("sigma", &[2, 2], sigma)]).unwrap_err().to_string()
        };
        assert!(refused(&[f64::NAN, 0.0], &[1.0, 0.0, 0.0, 1.0]).contains("not finite"));
        assert!(refused(&[0.0, 0.0], &[1.0, 0.0, 0.0, f64::INFINITY]).contains("not finite"));
        assert!(refused(&[0.0, 0.0], &[1.0, 0.0, 0.3, 1.0]).contains("not symmetric"));
        assert!(refused(&[0.0, 0.0], &[1.0, 0.0, 0.0, -1.0]).contains("below zero"));
        assert!(refused(&[0.0, 0.0], &[1.0, 2.0, 2.0, 1.0]).contains("below zero"));
        let missing = npz(&[("mean", &[2], &[0.0, 0.0])]).unwrap_err().to_string();
        assert!(missing.contains("mean") && missing.contains("pytorch-fid"), "{missing}");
        assert!(npz(&[("pool_3", &[1, 3], &[0.0; 3])]).is_err());
    }
}
