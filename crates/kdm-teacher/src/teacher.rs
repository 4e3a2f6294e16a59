//! Teachers as files: what a teacher is, read from and written to a model file.

use std::path::Path;

use burn::tensor::Device;
use kdm_data::pairs::TeacherStamp;
use kdm_data::{Error, Labels, Result, TensorFile, model};
use kdm_nn::StateError;
use kdm_nn::state::{load_state, state_dict};
use kdm_nn::{Problem, UNet, UNetConfig};
use serde::{Deserialize, Serialize};

use crate::distributions::{Distribution, DistributionConfig};
use crate::networks::image::{NetworkTeacher, NetworkTeacherConfig};
use crate::networks::preconditioning::Preconditioning;
use crate::{Denoiser, FlowMlp, FlowMlpConfig, Level, Process};

/// The kind that teachers' model files name.
pub const KIND: &str = "teacher";

/// What a teacher is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "there is one a program")]
pub enum TeacherConfig {
    /// The closed form of a distribution.
    Exact {
        /// The distribution.
        data: DistributionConfig,
    },
    /// A trained velocity network.
    FlowMlp(FlowMlpConfig),
    /// An image network.
    Network(NetworkTeacherConfig),
}

/// A teacher ready to run.
///
/// ```
/// use kdm_data::Labels;
/// use kdm_teacher::distributions::DistributionConfig;
/// use kdm_teacher::{Solver, Teacher, solve};
///
/// let teacher = Teacher::exact(DistributionConfig::Checkerboard { conditional: false })?;
/// let process = teacher.process();
/// let noise = kdm_random::normal_vec(0, 2 * 100);
/// let x = noise.into_iter().map(|e| process.noise_std() * f64::from(e)).collect();
/// let points = solve(&teacher, &process, Solver::Heun, 30, x, &Labels::none(100));
/// let on_dark = points.chunks(2).filter(|point| kdm_teacher::Checkerboard::contains(point));
/// assert!(on_dark.count() > 95);
/// # Ok::<(), kdm_nn::Problem>(())
/// ```
#[derive(Clone, Debug)]
pub struct Teacher {
    config: TeacherConfig,
    model: Model,
    sha256: String,
}

#[derive(Clone, Debug)]
enum Model {
    Exact(Distribution),
    FlowMlp(FlowMlp),
    Network(Box<NetworkTeacher>),
}

impl Teacher {
    /// The exact teacher of a distribution; it computes in f64 on the host.
    ///
    /// # Errors
    /// When the distribution's numbers are impossible.
    pub fn exact(data: DistributionConfig) -> std::result::Result<Self, Problem> {
        let distribution = data.build()?;
        let config = TeacherConfig::Exact { data };
        let sha256 = model::fingerprint(&config, &model::State::new());
        Ok(Self { config, model: Model::Exact(distribution), sha256 })
    }

    /// Reads a teacher's model file; a network computes on `device`.
    ///
    /// # Errors
    /// When the file is damaged, is no teacher's, or its weights don't fit its configuration.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::from_file(&TensorFile::open(path)?, device)
    }

    /// See [`Self::load`].
    ///
    /// # Errors
    /// The same.
    pub fn from_file(file: &TensorFile, device: &Device) -> Result<Self> {
        let (config, state): (TeacherConfig, _) = model::parse(file, KIND)?;
        let invalid = |Problem { field, problem }: Problem| {
            Error::invalid(file.path(), field, problem, "train or import the teacher again")
        };
        let bad = |problem: Problem| invalid(problem.within("config.data"));
        let unfit = |error: StateError| invalid(Problem::new("tensors", error.to_string()));
        let sha256 = model::fingerprint(&config, &state);
        let model = match &config {
            TeacherConfig::Exact { data } => Model::Exact(data.build().map_err(bad)?),
            TeacherConfig::FlowMlp(flow) => {
                let data = flow.data.build().map_err(bad)?;
                model::check_size(file, flow.network(&data).parameters())?;
                let network = load_state(flow.init(&data, 0, device), &state).map_err(unfit)?;
                Model::FlowMlp(FlowMlp::new(network, data.dim()))
            }
            TeacherConfig::Network(network) => {
                if let Some(problem) = network.problems().into_iter().next() {
                    return Err(invalid(problem.within("config")));
                }
                model::check_size(file, network.network.least_parameters())?;
                let weights = load_state(network.init(0, device), &state).map_err(unfit)?;
                Model::Network(Box::new(NetworkTeacher::new(network, weights)))
            }
        };
        Ok(Self { config, model, sha256 })
    }

    /// Writes the teacher's model file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let state = match &self.model {
            Model::Exact(_) => model::State::new(),
            Model::FlowMlp(network) => state_dict(&network.network),
            Model::Network(teacher) => state_dict(&teacher.network),
        };
        model::write(path, KIND, &self.config, &state)
    }

    /// Its network and what it is, where it is an image network.
    pub fn network(&self) -> Option<(&NetworkTeacherConfig, &UNet)> {
        match (&self.config, &self.model) {
            (TeacherConfig::Network(config), Model::Network(teacher)) => {
                Some((config, &teacher.network))
            }
            _ => None,
        }
    }

    /// What it is, as in its model file.
    pub fn config(&self) -> &TeacherConfig {
        &self.config
    }

    fn denoiser(&self) -> &dyn Denoiser {
        match &self.model {
            Model::Exact(exact) => exact,
            Model::FlowMlp(network) => network,
            Model::Network(network) => network.as_ref(),
        }
    }

    /// The process its samples are drawn by unless another is chosen.
    pub fn process(&self) -> Process {
        match &self.config {
            TeacherConfig::Exact { .. } => Process::EDM,
            TeacherConfig::FlowMlp(_) => Process::Flow,
            TeacherConfig::Network(network) => match network.preconditioning {
                Preconditioning::Flow { .. } => Process::Flow,
                _ => Process::EDM.fit(self),
            },
        }
    }

    /// Whether its network was trained with a class for every sample, so that what it gives without
    /// one means nothing, and neither does classifier-free guidance.
    pub fn needs_class(&self) -> bool {
        match &self.config {
            TeacherConfig::Network(config) => {
                matches!(&config.network, UNetConfig::OpenaiUnet(unet) if unet.num_classes > 0)
            }
            _ => false,
        }
    }

    /// Its name and hash, for pair stores.
    pub fn stamp(&self) -> TeacherStamp {
        let (name, data) = match &self.config {
            TeacherConfig::Exact { data } => ("exact", data.name()),
            TeacherConfig::FlowMlp(flow) => ("flow-mlp", flow.data.name()),
            TeacherConfig::Network(network) => ("network", network.data.as_str()),
        };
        let class_names = match &self.config {
            TeacherConfig::Network(network) => network.class_names.clone(),
            TeacherConfig::Exact { .. } | TeacherConfig::FlowMlp(_) => Vec::new(),
        };
        TeacherStamp {
            name: name.into(),
            data: data.into(),
            sha256: self.sha256.clone(),
            class_names,
        }
    }
}

impl Denoiser for Teacher {
    fn shape(&self) -> Vec<usize> {
        self.denoiser().shape()
    }

    fn label_dim(&self) -> usize {
        self.denoiser().label_dim()
    }

    fn sigma_range(&self) -> (f64, f64) {
        self.denoiser().sigma_range()
    }

    fn round_sigma(&self, sigma: f64) -> f64 {
        self.denoiser().round_sigma(sigma)
    }

    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        self.denoiser().denoise(x, level, labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Solver, solve};

    fn network_teacher(folder: &Path) -> Teacher {
        let flow = FlowMlpConfig {
            data: DistributionConfig::Checkerboard { conditional: true },
            hidden: 64,
            layers: 3,
        };
        let data = flow.data.build().unwrap();
        let network = flow.init(&data, 1, &Device::flex());
        let path = folder.join("teacher.safetensors");
        model::write(&path, KIND, &TeacherConfig::FlowMlp(flow), &state_dict(&network)).unwrap();
        Teacher::load(&path, &Device::flex()).unwrap()
    }

    /// The bits of a pair don't depend on the batch it is drawn in, for the network too.
    #[test]
    fn one_by_one_equals_batched_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let teacher = network_teacher(folder.path());
        let n = 700;
        let x: Vec<f64> = kdm_random::normal_vec(3, 2 * n).into_iter().map(f64::from).collect();
        let labels: Labels = (0..n as u32).map(|row| Some(row % 8)).collect();
        let draw = |rows: std::ops::Range<usize>| {
            let x = x[2 * rows.start..2 * rows.end].to_vec();
            solve(&teacher, &Process::Flow, Solver::Heun, 3, x, &labels.range(rows))
        };
        let whole = draw(0..n);
        for batch in [1, 7, 256, 300] {
            let starts: Vec<usize> =
                (0..n).step_by(batch).filter(|s| batch > 1 || s % 97 == 0).collect();
            for start in starts {
                let end = (start + batch).min(n);
                assert_eq!(draw(start..end), whole[2 * start..2 * end], "batch {batch} at {start}");
            }
        }
    }

    /// A row without a class is denoised over all classes, whatever the labels of the others; a
    /// class that the teacher doesn't know is none.
    #[test]
    fn each_row_has_its_own_label() {
        let folder = tempfile::tempdir().unwrap();
        let board = DistributionConfig::Checkerboard { conditional: true };
        for teacher in [network_teacher(folder.path()), Teacher::exact(board).unwrap()] {
            let x = [0.4, -1.1, 2.0, 0.3, -0.7, 0.2];
            let level = Level { alpha: 1.0, sigma: 1.5 };
            let mixed: Labels = [Some(5), None, Some(8)].into_iter().collect();
            let denoised = teacher.denoise(&x, level, &mixed);
            for (row, label) in [Some(5), None, None].into_iter().enumerate() {
                let place = 2 * row..2 * row + 2;
                let alone = teacher.denoise(&x[place.clone()], level, &Labels::from_iter([label]));
                assert_eq!(denoised[place], alone, "{row}");
            }
            assert_ne!(denoised[..2], teacher.denoise(&x[..2], level, &Labels::none(1)));
        }
    }

    #[test]
    fn a_saved_teacher_is_the_same_teacher() {
        let folder = tempfile::tempdir().unwrap();
        let teacher = network_teacher(folder.path());
        let path = folder.path().join("again.safetensors");
        teacher.save(&path).unwrap();
        assert_eq!(Teacher::load(&path, &Device::flex()).unwrap().stamp(), teacher.stamp());
        let exact = Teacher::exact(DistributionConfig::by_name("mixture").unwrap()).unwrap();
        exact.save(&path).unwrap();
        assert_eq!(Teacher::load(&path, &Device::flex()).unwrap().stamp(), exact.stamp());
        assert_ne!(exact.stamp(), teacher.stamp());
    }
}
