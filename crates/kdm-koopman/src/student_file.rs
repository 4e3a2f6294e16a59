//! A student's model file: its weights, what it is, what it was trained for, and where it is from.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::{TensorFile, model};
use kdm_nn::Perceptual;
use kdm_nn::state::{load_state, state_dict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::loss::{Distance, LossConfig, Objective};
use crate::operator::Complex;
use crate::origin::Origin;
use crate::{Student, StudentConfig};

/// The kind that students' model files name.
pub const KIND: &str = "student";

/// Which network a perceptual distance saw. It names no file of the machine that trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualStamp {
    /// `lpips`, or the name of a classifier: that of its file without folder and extension, or the
    /// name by which it ships.
    pub name: String,
    /// Hash of its file; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl PerceptualStamp {
    /// The stamp of a network that is known by its file's path alone: the name of the file without
    /// folder and extension.
    pub fn of_file(path: &str) -> Self {
        let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
        let name = file.strip_suffix(".safetensors").unwrap_or(file).to_string();
        Self { name, sha256: None }
    }
}

/// What a student's model file says beside its weights.
///
/// Files that versions up to 0.1.0 wrote are read as well: their origin was loose JSON, and the
/// paths of perceptual networks stood in their loss (`lpips_weights`, `features`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct StudentFile {
    /// What the student is.
    pub student: StudentConfig,
    /// The loss it was trained for.
    pub loss: LossConfig,
    /// The seed that the targets of the eigenvalue loss were drawn with.
    pub target_seed: u64,
    /// The network that the loss's perceptual distance saw; none where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualStamp>,
    /// Where it is from: the pairs and the training, or the imported file.
    pub origin: Origin,
}

/// What is read: the loss may still hold the paths of older files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    student: StudentConfig,
    loss: Value,
    target_seed: u64,
    #[serde(default)]
    perceptual: Option<PerceptualStamp>,
    origin: Origin,
}

impl TryFrom<Written> for StudentFile {
    type Error = serde_json::Error;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { student, mut loss, target_seed, perceptual, origin } = written;
        let mut path = |key: &str| -> Result<Option<String>, serde_json::Error> {
            let value = loss.as_object_mut().and_then(|loss| loss.remove(key));
            value.map_or(Ok(None), serde_json::from_value)
        };
        let (lpips, features) = (path("lpips_weights")?, path("features")?);
        let loss: LossConfig = serde_json::from_value(loss)?;
        let seen = lpips
            .filter(|_| loss.reconstruction.has_lpips())
            .or(features.filter(|_| loss.reconstruction.has_features()));
        let perceptual = perceptual.or(seen.as_deref().map(PerceptualStamp::of_file));
        Ok(Self { student, loss, target_seed, perceptual, origin })
    }
}

impl StudentFile {
    /// The targets of the operator's eigenvalues; none when the loss has no such term.
    pub fn targets(&self) -> Option<Vec<Complex>> {
        self.loss.eigenvalues.targets(self.student.operator_dim(), self.target_seed)
    }

    /// The loss, ready to compute; `perceptual` goes with the perceptual distances.
    pub fn objective(&self, perceptual: Option<Perceptual>) -> Objective {
        let distance = Distance::new(self.loss.reconstruction, perceptual, &self.student.shape);
        Objective { config: self.loss.clone(), targets: self.targets(), distance }
    }

    /// Writes a student's model file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, student: &Student, path: &Path) -> kdm_data::Result<()> {
        model::write(path, KIND, self, &state_dict(student))
    }

    /// Reads a student's model file.
    ///
    /// # Errors
    /// When the file is damaged, is no student's, or its weights don't fit its configuration.
    pub fn load(path: &Path, device: &Device) -> kdm_data::Result<(Self, Student)> {
        Self::from_file(&TensorFile::open(path)?, device)
    }

    /// See [`Self::load`].
    ///
    /// # Errors
    /// The same.
    pub fn from_file(tensors: &TensorFile, device: &Device) -> kdm_data::Result<(Self, Student)> {
        let path = tensors.path();
        let (file, state): (Self, _) = model::parse(tensors, KIND)?;
        let again = "import or distill the student again";
        // Its problems may be found by work that grows with its sizes.
        model::check_size(tensors, file.student.least_parameters())?;
        if let Some(problem) = file.student.problems().into_iter().next() {
            let field = format!("config.student.{}", problem.field);
            return Err(kdm_data::Error::invalid(path, field, problem.problem, again));
        }
        let student = load_state(file.student.init(0, device), &state)
            .map_err(|e| kdm_data::Error::invalid(path, "tensors", e.to_string(), again))?;
        Ok((file, student))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::{Method, NetworkConfig, OperatorConfig, OperatorKind};
    use kdm_data::Labels;
    use kdm_random::normal_vec;
    use serde_json::json;

    /// A student that is saved and loaded draws the same bits; one by one equals batched, to the
    /// bit.
    #[test]
    fn save_and_load_and_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let device = Device::flex();
        let mlp = || NetworkConfig::Mlp { hidden: 16, layers: 3 };
        let unet = || NetworkConfig::Unet {
            model_channels: 8,
            channel_mult: vec![1, 2],
            num_blocks: 1,
            attn_resolutions: vec![4],
            dropout: 0.1,
        };
        for (kind, projection, label_dim, shape, latent, network) in [
            (OperatorKind::Dense, None, 0, vec![3], 12, mlp()),
            (OperatorKind::Dense, Some(4), 3, vec![3], 12, mlp()),
            (OperatorKind::Factorized, None, 0, vec![3], 12, mlp()),
            (OperatorKind::Factorized, Some(5), 2, vec![3], 12, mlp()),
            (OperatorKind::Dense, None, 2, vec![3], 6, NetworkConfig::Affine),
            (OperatorKind::Dense, None, 3, vec![2, 8, 8], 128, unet()),
            (OperatorKind::Factorized, Some(7), 0, vec![1, 8, 8], 64, unet()),
            (OperatorKind::Generator, Some(6), 3, vec![3], 12, mlp()),
            (OperatorKind::Generator, None, 0, vec![1, 8, 8], 128, unet()),
            (OperatorKind::Channels, None, 3, vec![1, 8, 8], 64, unet()),
            (OperatorKind::Places, None, 0, vec![1, 8, 8], 64, unet()),
            (OperatorKind::Frequencies, None, 2, vec![1, 8, 8], 64, unet()),
        ] {
            let config = StudentConfig {
                method: Method::Koopman,
                shape,
                label_dim,
                noise_std: 80.0,
                latent,
                levels: Vec::new(),
                network,
                operator: OperatorConfig { kind, projection, control: label_dim > 0 },
            };
            let levels = match kind {
                OperatorKind::Channels => vec![2, 3],
                OperatorKind::Places => vec![1, 2],
                OperatorKind::Frequencies => vec![1],
                _ => Vec::new(),
            };
            let config = config.with_levels(levels);
            assert_eq!(config.problems(), []);
            let (student, dim) = (config.init(4, &device), config.dim());
            let batched = if dim == 3 { 300 } else { 19 };
            let file = StudentFile {
                student: config,
                loss: LossConfig::default(),
                target_seed: 9,
                perceptual: None,
                origin: Origin::default(),
            };
            file.save(&student, &path).unwrap();
            let (again, loaded) = StudentFile::load(&path, &device).unwrap();
            assert_eq!(again, file);

            let (noise, n) = (normal_vec(1, dim * batched), batched);
            let classes: Vec<u32> = (0..n).map(|i| (i % label_dim.max(1)) as u32).collect();
            let labels = Labels::of(&classes);
            let draw = |student: &Student, rows: std::ops::Range<usize>| {
                Sampler::new(student.clone(), &file.student, &device)
                    .sample(&noise[dim * rows.start..dim * rows.end], &labels.range(rows))
            };
            let whole = draw(&student, 0..n);
            assert_eq!(draw(&loaded, 0..n), whole);
            for row in [0, 7, 8, 17, 255, 256, 299].into_iter().filter(|row| *row < n) {
                assert_eq!(
                    draw(&student, row..row + 1),
                    whole[dim * row..dim * (row + 1)],
                    "{kind:?} row {row}"
                );
            }
        }
    }

    #[test]
    fn a_file_of_another_kind_or_configuration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let refused = |part: &str| {
            let message = StudentFile::load(&path, &Device::flex()).unwrap_err().to_string();
            assert!(message.contains("model.safetensors") && message.contains(part), "{message}");
        };
        model::write(&path, "teacher", &Value::Null, &model::State::new()).unwrap();
        refused("this is a teacher, and a student is needed");
        model::write(&path, KIND, &serde_json::json!({"student": 5}), &model::State::new())
            .unwrap();
        refused("config");
    }

    /// Whatever byte of a model file changes, it is not read, or it is the same student.
    #[test]
    fn a_changed_byte_changes_no_student_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let device = Device::flex();
        let mut written: StudentFile = serde_json::from_value(older(json!({}))).unwrap();
        written.student.network = NetworkConfig::Mlp { hidden: 12, layers: 2 };
        written.save(&written.student.init(1, &device), &path).unwrap();
        let (whole, expected) =
            (std::fs::read(&path).unwrap(), state_dict(&written.student.init(1, &device)));
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        assert!(whole.len() > header + 1000);
        let (mut flips, mut refused) = (0, 0);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, &changed).unwrap();
            flips += 1;
            match StudentFile::load(&path, &device) {
                Err(_) => refused += 1,
                Ok((file, student)) => {
                    assert_eq!(
                        (file, state_dict(&student)),
                        (written.clone(), expected.clone()),
                        "{at}"
                    );
                }
            }
        }
        // What is read all the same: a changed name of the checksum's key.
        assert!(flips > 3000 && refused + 10 >= flips, "{refused} of {flips}");
    }

    /// A small file that tells of a student that no memory holds is refused before one is made.
    #[test]
    fn a_configuration_beyond_the_weights_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("student.safetensors");
        let started = std::time::Instant::now();
        let huge = 3_000_000_000_000_000_000u64;
        let unet = |channels: u64, blocks: u64| {
            json!({"kind": "unet", "model_channels": channels, "channel_mult": [1],
                   "num_blocks": blocks, "attn_resolutions": [], "dropout": 0.0})
        };
        for (pointer, value) in [
            ("/student/latent", json!(huge)),
            ("/student/shape", json!([huge, huge])),
            ("/student/label_dim", json!(huge)),
            ("/student/network/hidden", json!(huge)),
            ("/student/network/layers", json!(huge)),
            ("/student/operator/projection", json!(100_000)),
            ("/student/network", unet(huge, 1)),
            ("/student/network", unet(8, huge)),
            ("/student/network", unet(0, huge)),
        ] {
            let mut config = older(json!({}));
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
            model::write(&path, KIND, &config, &model::State::new()).unwrap();
            let message = StudentFile::load(&path, &Device::flex()).unwrap_err().to_string();
            assert!(message.contains("at least"), "{pointer}: {message}");
        }
        assert!(started.elapsed().as_secs() < 20);
    }

    /// The student that ships with the program was written by commit 8696b89.
    #[test]
    fn the_shipped_student_loads() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fashion-mnist-student.safetensors");
        let device = Device::flex();
        let (file, student) = StudentFile::load(Path::new(path), &device).unwrap();
        let stamp = PerceptualStamp { name: "fashion-mnist-loss".into(), sha256: None };
        assert_eq!(file.perceptual, Some(stamp));
        assert_eq!(file.loss.reconstruction, crate::Reconstruction::L2Features);
        assert_eq!(file.target_seed, 7_426_145_577_697_558_550);
        let distillation = file.origin.distillation().unwrap();
        assert_eq!(distillation.experiment, "fashion-mnist-full");
        assert_eq!((distillation.train.iterations, distillation.train.batch), (4000, 32));
        assert_eq!(distillation.train.settings["best_by"], "rmse");
        assert_eq!((distillation.pairs.count, file.origin.data()), (16384, Some("fashion-mnist")));
        assert!(file.origin.teacher().unwrap().sha256.starts_with("1fc39a08"));
        assert_eq!(file.origin.process().unwrap()["sigma_max"], 80.0);
        // Written again, it says the same and no path.
        let folder = tempfile::tempdir().unwrap();
        let again = folder.path().join("student.safetensors");
        file.save(&student, &again).unwrap();
        let tensors = TensorFile::open(&again).unwrap();
        let config = &tensors.metadata()["config"];
        assert_eq!(config["perceptual"], json!({"name": "fashion-mnist-loss"}));
        assert!(config["loss"].get("features").is_none());
        assert_eq!(StudentFile::from_file(&tensors, &device).unwrap().0, file);
    }

    fn older(loss: Value) -> Value {
        let mut all = json!({
            "reconstruction": "l2", "latent_weight": 1.0, "rec_weight": 1.0, "push_weight": 0.0,
            "adversarial_weight": 0.0, "eigenvalues": "none", "latent_noise": 0.4,
        });
        all.as_object_mut().unwrap().extend(loss.as_object().unwrap().clone());
        json!({
            "student": {
                "shape": [2], "label_dim": 0, "noise_std": 1.0, "latent": 8,
                "network": {"kind": "mlp", "hidden": 8, "layers": 2},
                "operator": {"kind": "dense", "control": false},
            },
            "loss": all, "target_seed": 1,
            "origin": {"imported_from": "a.pkl", "found": "b"},
        })
    }

    /// Paths in the loss of older files become the stamp of the network that the loss saw.
    #[test]
    fn paths_in_the_loss_become_a_stamp() {
        let name = |loss: Value| {
            let file: StudentFile = serde_json::from_value(older(loss)).unwrap();
            file.perceptual.map(|stamp| stamp.name)
        };
        let lpips =
            json!({"reconstruction": "l2+lpips", "lpips_weights": "/data/my.vgg.safetensors"});
        assert_eq!(name(lpips).as_deref(), Some("my.vgg"));
        let windows =
            json!({"reconstruction": "lpips", "lpips_weights": "C:\\data\\vgg.safetensors"});
        assert_eq!(name(windows).as_deref(), Some("vgg"));
        let both = json!({
            "reconstruction": "l2+features",
            "lpips_weights": "vgg.safetensors",
            "features": "mnist",
        });
        assert_eq!(name(both).as_deref(), Some("mnist"));
        // A path that the loss had no use for names no network that it saw.
        assert_eq!(name(json!({"features": "mnist"})), None);
        assert_eq!(name(json!({"lpips_weights": null})), None);
        assert_eq!(name(json!({})), None);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let problem =
            |value: Value| serde_json::from_value::<StudentFile>(value).unwrap_err().to_string();
        assert!(problem(older(json!({"rec_wieght": 1.0}))).contains("rec_wieght"));
        assert!(problem(older(json!({"features": 5}))).contains("string"));
        let mut file = older(json!({}));
        file["orign"] = json!(1);
        assert!(problem(file).contains("orign"));
        let mut file = older(json!({}));
        file["student"]["latnt"] = json!(1);
        assert!(problem(file).contains("latnt"));
    }
}
