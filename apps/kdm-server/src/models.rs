//! The models that are served: students, each with the directions of its latent space and with its
//! teacher, where there is one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kdm::data::Samples;
use kdm::koopman::Method;
use kdm::koopman::editing::difference;
use kdm::observer::Observer;
use kdm::run_folder::{STUDENT, TEACHER};
use kdm::sample_files::NoiseScale;
use kdm::stages::pairs::Drawing;
use kdm::stages::teacher::{draw_samples, open_teacher};
use kdm::studies::directions::{
    ModeDirections, PrincipalDirections, RankedDirection, RankedMode, ReferenceLatents, class_mean,
};
use kdm::teacher::{Denoiser, Teacher};
use kdm::{Context, Failure, LoadedStudent, Outcome};
use serde::Serialize;
use utoipa::ToSchema;

/// Latents of more numbers are not split into modes when a student is loaded: it would take
/// minutes.
const MOST_LATENTS: usize = 2048;

/// A student that is served.
#[derive(Debug)]
pub struct Model {
    /// What is told of it.
    pub about: About,
    /// Its networks.
    pub student: LoadedStudent,
    /// Directions of its latent space; none for a direct student, or where finding them takes too
    /// long.
    pub directions: Option<(ModeDirections, PrincipalDirections)>,
    /// Its teacher, and how it drew the pairs.
    pub teacher: Option<(Teacher, Drawing)>,
    /// Mean latents of classes, as far as somebody asked for them.
    class_means: Mutex<HashMap<u32, Vec<f64>>>,
}

/// What is told of a model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct About {
    /// The name by which requests choose it: its file's without the ending, or its folder's where
    /// the file is called as every run calls it.
    pub name: String,
    /// The shape of a sample, such as `[1, 32, 32]` for a grey image, or `[2]` for a point.
    pub shape: Vec<usize>,
    /// How many classes it knows; 0 for an unconditional one.
    pub classes: usize,
    /// Their names, where they are known.
    pub class_names: Vec<String>,
    /// `koopman`, or `direct` for a student without latents.
    #[schema(value_type = String)]
    pub method: Method,
    /// Numbers of a latent.
    pub latent_dim: usize,
    /// The standard deviation of its noise.
    pub noise_std: f64,
    /// Network passes of its teacher a sample (NFE), where its teacher is here to be sampled.
    pub teacher_evaluations: Option<usize>,
    /// The modes of its operator, the one that carries most first; empty where they are not known.
    #[schema(value_type = Vec<Object>)]
    pub modes: Vec<RankedMode>,
    /// The principal directions of its latents, the one of most variance first; empty likewise.
    #[schema(value_type = Vec<Object>)]
    pub principal: Vec<RankedDirection>,
}

impl Model {
    /// Loads the student of a file, or one that ships; with `teacher`, or with the one that lies
    /// beside it or ships under the same name, where it is its own.
    ///
    /// # Errors
    /// When a file is damaged, or `teacher` is another than the student's.
    pub fn open(path: &Path, teacher: Option<&Path>, context: Context) -> Outcome<Self> {
        let student = LoadedStudent::open(path, context.device())?;
        let directions = directions(&student, context)?;
        let teacher = teacher_of(&student, teacher, context)?;
        let config = student.config();
        let evaluations =
            |(teacher, drawing): &(Teacher, Drawing)| drawing.evaluations(teacher.label_dim());
        let about = About {
            name: name_of(path),
            shape: config.shape.clone(),
            classes: config.label_dim,
            class_names: student.class_names(),
            method: config.method,
            latent_dim: config.operator_dim(),
            noise_std: config.noise_std,
            teacher_evaluations: teacher.as_ref().map(evaluations),
            modes: directions.as_ref().map(|found| found.0.ranked()).unwrap_or_default(),
            principal: directions.as_ref().map(|found| found.1.ranked()).unwrap_or_default(),
        };
        Ok(Self { about, student, directions, teacher, class_means: Mutex::default() })
    }

    /// Samples of the teacher from `noise`.
    ///
    /// # Errors
    /// When there is no teacher, or the observer stops it.
    pub fn of_teacher(&self, noise: Samples, observer: &dyn Observer) -> Outcome<Samples> {
        let Some((teacher, drawing)) = &self.teacher else {
            return Err(Failure::Usage(format!(
                "source: there is no teacher beside {}; start the server with --teacher",
                self.about.name
            )));
        };
        draw_samples(teacher, drawing, noise, NoiseScale::SigmaMax, None, observer)
    }

    /// The direction from class to class. The mean latents of classes are found once.
    ///
    /// # Errors
    /// When there is none, or the observer stops the work.
    pub fn between(&self, (from, to): (u32, u32), observer: &dyn Observer) -> Outcome<Vec<f64>> {
        let mean = |class: u32| -> Outcome<Vec<f64>> {
            let known = || self.class_means.lock().expect("nothing panics with it");
            if let Some(mean) = known().get(&class) {
                return Ok(mean.clone());
            }
            let mean = class_mean(&self.student, class, observer)?;
            known().insert(class, mean.clone());
            Ok(mean)
        };
        Ok(difference(&mean(from)?, &mean(to)?))
    }
}

/// The student's file of a run's folder; other paths and names stay what they are.
///
/// # Errors
/// When a folder holds no student of its own; the message lists those in its folders.
pub(crate) fn of_folder(path: &Path) -> Outcome<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let own = path.join(STUDENT);
    if own.exists() {
        return Ok(own);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut inside: Vec<String> = entries
        .map(|entry| entry.path().join(STUDENT))
        .filter(|student| student.exists())
        .map(|student| format!("--model {}", student.display()))
        .collect();
    inside.sort();
    let shown = path.display();
    Err(Failure::Usage(match &inside[..] {
        [] => format!(
            "--model {shown}: the folder holds no {STUDENT}; give a student's file, or the folder \
             of a run that has come to its end"
        ),
        several => format!(
            "--model {shown}: the folder holds several students; give one of them, or all: {}",
            several.join(" ")
        ),
    }))
}

/// The name of a student by its file.
fn name_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name).filter(|_| path.ends_with(STUDENT));
    let name = folder.or(path.file_stem()).unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The directions of a student's latent space.
fn directions(
    student: &LoadedStudent,
    context: Context,
) -> Outcome<Option<(ModeDirections, PrincipalDirections)>> {
    let n = student.config().operator_dim();
    if student.config().method == Method::Direct {
        return Ok(None);
    }
    if n > MOST_LATENTS {
        context.observer.warn(&format!(
            "latents of {n} numbers are not split into modes, which takes minutes: samples of {} \
             can't be moved along them",
            student.path.display()
        ));
        return Ok(None);
    }
    let latents = ReferenceLatents::of(student, context.observer)?;
    match ModeDirections::of(student, &latents) {
        Ok(modes) => Ok(Some((modes, PrincipalDirections::of(student, &latents)?))),
        Err(failure) => {
            context.observer.warn(&format!("{}: {failure}", student.path.display()));
            Ok(None)
        }
    }
}

/// The teacher of a student, and how it drew the pairs.
fn teacher_of(
    student: &LoadedStudent,
    given: Option<&Path>,
    context: Context,
) -> Outcome<Option<(Teacher, Drawing)>> {
    let Some(drawing) = Drawing::recorded(student) else {
        return match given {
            None => Ok(None),
            Some(_) => Err(Failure::Usage(format!(
                "--teacher: {} doesn't say how its pairs were drawn; leave it out",
                student.path.display()
            ))),
        };
    };
    let open = |path: &Path| open_teacher(&path.to_string_lossy(), context.device());
    if let Some(path) = given {
        let teacher = open(path)?;
        student.check_teacher(&teacher)?;
        return Ok(Some((teacher, drawing)));
    }
    // Beside the student, under its name among those that ship, or of its data in closed form.
    let data = student.file.origin.data().map(PathBuf::from);
    let beside = student.path.with_file_name(TEACHER);
    let of_run = student.path.with_file_name("teacher").join(TEACHER);
    let places = [Some(beside), Some(of_run), Some(student.path.clone()), data];
    let own = places.iter().flatten().filter_map(|path| open(path).ok());
    let mut own = own.filter(|teacher| {
        student.file.origin.teacher().is_some() && student.check_teacher(teacher).is_ok()
    });
    Ok(own.next().map(|teacher| (teacher, drawing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_student() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let told = || of_folder(folder.path()).unwrap_err().to_string();
        assert!(told().contains("holds no student.safetensors"), "{}", told());
        for name in ["b", "a"] {
            std::fs::create_dir(place(name)).unwrap();
            std::fs::write(place(name).join(STUDENT), "").unwrap();
        }
        let (message, [a, b]) = (told(), ["a", "b"].map(|name| place(name).join(STUDENT)));
        let all = format!("--model {} --model {}", a.display(), b.display());
        assert!(message.ends_with(&all), "{message}");
        std::fs::write(place(STUDENT), "").unwrap();
        assert_eq!(of_folder(folder.path()).unwrap(), place(STUDENT));
        assert_eq!(of_folder(Path::new("fashion-mnist")).unwrap(), Path::new("fashion-mnist"));
    }

    #[test]
    fn students_of_runs_are_called_as_their_folders() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(name("runs/00001-clothes/student.safetensors"), "00001-clothes");
        assert_eq!(name("models/small.safetensors"), "small");
        assert_eq!(
            (name("student.safetensors"), name("fashion-mnist")),
            ("student".into(), "fashion-mnist".into())
        );
    }
}
