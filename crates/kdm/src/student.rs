//! A student loaded from its file, ready to draw and to be looked into.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use kdm_data::pairs::{Manifest, PairStore, TeacherStamp, label_of_seed, noise_of_seed};
use kdm_data::{Labels, Samples};
use kdm_koopman::stepwise::Stepwise;
use kdm_koopman::student_file::StudentFile;
use kdm_koopman::{Koopman, Sampler, Student, StudentConfig};
use kdm_observer::Silent;
use kdm_teacher::{Process, Teacher};

use crate::assets::{self, Role};
use crate::classes::Classes;
use crate::remote::{Needed, fetched};
use crate::usable::{Wanted, instead};
use crate::{Failure, Outcome};

/// A student loaded for sampling.
///
/// ```
/// use kdm::{LoadedStudent, runtime::Runtime};
///
/// let runtime = Runtime::cpu();
/// // The name of a student that ships, or the path of a model file.
/// let student = LoadedStudent::open("fashion-mnist".as_ref(), runtime.device())?;
/// let noise = student.draw_noise(&[0, 1]);
/// let images = student.sampler.sample(&noise.noise, &noise.labels);
/// assert_eq!(images.len(), 2 * 32 * 32);
/// # Ok::<(), kdm::Failure>(())
/// ```
#[derive(Debug)]
pub struct LoadedStudent {
    /// Its file.
    pub path: PathBuf,
    /// What its file says.
    pub file: StudentFile,
    /// Its networks.
    pub student: Student,
    /// Its sampler.
    pub sampler: Sampler,
    /// The device that it is on.
    pub device: Device,
    /// Whether its file is in half precision.
    pub half: bool,
    /// Bytes of its file.
    pub bytes: u64,
}

impl LoadedStudent {
    /// Reads a student's model file, or one that ships with the program by its name.
    ///
    /// # Errors
    /// When the file is damaged or no student's.
    pub fn open(path: &Path, device: &Device) -> Outcome<Self> {
        let tensors = assets::open(Role::Student, path)?;
        let half = tensors.is_half();
        let bytes = tensors.bytes().len() as u64;
        let (file, student) = StudentFile::from_file(&tensors, device)?;
        let sampler = Sampler::new(student.clone(), &file.student, device);
        let (path, device) = (path.to_path_buf(), device.clone());
        Ok(Self { path, file, student, sampler, device, half, bytes })
    }

    /// What the student is.
    pub fn config(&self) -> &StudentConfig {
        &self.file.student
    }

    /// The names of its classes, where they are known.
    pub fn class_names(&self) -> Vec<String> {
        self.file.origin.teacher().map(TeacherStamp::names_of_classes).unwrap_or_default()
    }

    /// The class that a person gives by name or number.
    ///
    /// # Errors
    /// When there is none; the text begins with `flag`.
    pub fn class(&self, flag: &str, given: &str) -> Outcome<u32> {
        let names = self.class_names();
        Classes { model: "this model", count: self.config().label_dim, names: &names }
            .find(flag, given)
    }

    /// The networks of the method.
    ///
    /// # Errors
    /// When it is a direct student.
    pub fn koopman(&self) -> Outcome<&Koopman> {
        self.student.koopman().ok_or_else(|| {
            let problem = "a direct student has no latent and no operator";
            let action = "give a student of the method `koopman`";
            kdm_data::Error::invalid(&self.path, "method", problem, action).into()
        })
    }

    /// The networks of the method, to be run one by one.
    ///
    /// # Errors
    /// When it is a direct student.
    pub fn stepwise(&self) -> Outcome<Stepwise<'_>> {
        Ok(Stepwise { student: self.koopman()?, config: self.config(), device: &self.device })
    }

    /// Noise x_T and labels that these seeds draw, the same as for pairs; no images yet.
    pub fn draw_noise(&self, seeds: &[u64]) -> Samples {
        let config = self.config();
        let dim = config.dim();
        let mut noise = vec![0.0; seeds.len() * dim];
        let rows = noise.chunks_mut(dim).zip(seeds);
        rows.for_each(|(row, seed)| noise_of_seed(*seed, config.noise_std, row));
        Samples {
            shape: config.shape.clone(),
            noise,
            images: Vec::new(),
            labels: self.draw_labels(seeds),
            seeds: seeds.to_vec(),
            states: Vec::new(),
        }
    }

    /// The classes that these seeds draw; none for an unconditional student.
    pub fn draw_labels(&self, seeds: &[u64]) -> Labels {
        let classes = self.config().label_dim;
        let label = |seed: &u64| (classes > 0).then(|| label_of_seed(*seed, classes));
        seeds.iter().map(label).collect()
    }

    /// Whether images that it drew are numbers.
    ///
    /// # Errors
    /// When one of them has a value that is NaN or infinite: no student that was trained to its end
    /// draws such, but a file may hold any weights.
    pub fn check_finite(&self, images: &[f32]) -> Outcome<()> {
        let Some(at) = images.iter().position(|x| !x.is_finite()) else { return Ok(()) };
        let problem = format!("sample {} has the value {}", at / self.config().dim(), images[at]);
        let action = "distill or import the student again";
        Err(kdm_data::Error::invalid(&self.path, "samples", problem, action).into())
    }

    /// Checks a class against those that the student knows.
    ///
    /// # Errors
    /// When it is unconditional or has fewer classes; the text begins with `flag`.
    pub fn check_class(&self, class: u32, flag: &str) -> Outcome<()> {
        match self.config().label_dim {
            0 => Err(Failure::Usage(format!("{flag}: this model is unconditional; leave it out"))),
            n if class as usize >= n => {
                Err(Failure::Usage(format!("{flag} {class}: the model has classes 0 to {}", n - 1)))
            }
            _ => Ok(()),
        }
    }

    /// The hashes of the student's teacher and of another, when both are known and differ.
    fn other_teacher(&self, theirs: Option<&TeacherStamp>) -> Option<(String, String)> {
        let (ours, theirs) = (self.file.origin.teacher()?, theirs?);
        let short = |stamp: &TeacherStamp| stamp.sha256.chars().take(12).collect();
        (ours.sha256 != theirs.sha256).then(|| (short(ours), short(theirs)))
    }

    /// Whether this teacher is the student's own.
    ///
    /// # Errors
    /// When it is another.
    pub fn check_teacher(&self, teacher: &Teacher) -> Outcome<()> {
        match self.other_teacher(Some(&teacher.stamp())) {
            Some((ours, theirs)) => {
                let problem = format!(
                    "the student was distilled from the teacher {ours}, and this is another, \
                     {theirs}"
                );
                let action = "give the teacher it was distilled from";
                Err(kdm_data::Error::invalid(&self.path, "teacher", problem, action).into())
            }
            None => Ok(()),
        }
    }

    /// Whether pairs of this store are of the student's kind.
    ///
    /// # Errors
    /// When shapes, classes, the noise's standard deviation or the teacher differ.
    pub fn check_pairs(&self, store: &PairStore) -> Outcome<()> {
        let (config, manifest) = (self.config(), store.manifest());
        let same_std = (config.noise_std / manifest.noise_std - 1.0).abs() < 0.05;
        let problem = if config.shape != manifest.shape {
            format!("the student draws {:?} and the pairs are {:?}", config.shape, manifest.shape)
        } else if config.label_dim != manifest.label_dim {
            format!(
                "the student knows {} classes and the pairs {}",
                config.label_dim, manifest.label_dim
            )
        } else if let Some((ours, theirs)) = self.other_teacher(manifest.teacher.as_ref()) {
            format!(
                "the student was distilled from the teacher {ours}, and the pairs are of another \
                 teacher, {theirs}"
            )
        } else if !same_std {
            format!(
                "the student takes noise of standard deviation {} and the pairs have {}",
                config.noise_std, manifest.noise_std
            )
        } else {
            return Ok(());
        };
        let action = "give the pairs of the teacher it was distilled from";
        Err(kdm_data::Error::invalid(store.folder(), "pairs", problem, action).into())
    }

    /// The first `count` pairs of a store that is of the student's kind, or all of fewer; and the
    /// store. Only the shards that hold them are compared with their checksums.
    ///
    /// # Errors
    /// When the store is damaged, or of another kind; see [`Self::check_pairs`].
    pub fn first_pairs(&self, folder: &Path, count: usize) -> Outcome<(PairStore, Samples)> {
        let fetched = fetched(folder, Needed::First(count), &Silent)?;
        let folder = fetched.as_deref().unwrap_or(folder);
        let count = count.min(Manifest::read(folder)?.count);
        let store = PairStore::open_part(folder, 0..count)
            .map_err(|error| instead(folder, Wanted::Store, error.into()))?;
        self.check_pairs(&store)?;
        let pairs = store.range(0..count);
        Ok((store, pairs))
    }

    /// The process that the student's teacher was sampled by, as its file records.
    ///
    /// # Errors
    /// When the file doesn't say.
    pub fn process(&self) -> Outcome<Process> {
        let recorded = self.file.origin.process().cloned();
        recorded.and_then(|process| serde_json::from_value(process).ok()).ok_or_else(|| {
            Failure::Usage(format!(
                "--teacher: {} doesn't say by which process its pairs were drawn; leave it out",
                self.path.display()
            ))
        })
    }
}
