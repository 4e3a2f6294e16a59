//! One-step samples with a student.

use kdm_data::{Labels, Samples};
use kdm_observer::Observer;

use crate::student::LoadedStudent;
use crate::{Failure, Outcome};

/// Draws the images of `noise` (see [`LoadedStudent::draw_noise`]).
///
/// # Errors
/// When the observer stops the work, or a sample is not finite.
pub fn sample(
    student: &LoadedStudent,
    noise: Samples,
    observer: &dyn Observer,
) -> Outcome<Samples> {
    let images = student.sampler.sample_observed(&noise.noise, &noise.labels, observer)?;
    student.check_finite(&images)?;
    Ok(Samples { images, ..noise })
}

/// Each of `noise` in every class, its seed's own class left aside: rows by noise, then by class.
///
/// # Errors
/// When the student is unconditional.
pub fn in_each_class(student: &LoadedStudent, noise: &Samples) -> Outcome<Samples> {
    let classes = student.config().label_dim;
    if classes == 0 {
        return Err(Failure::Usage(
            "--each-class: this model is unconditional; leave it out".into(),
        ));
    }
    let rows = noise.noise.chunks(noise.dim());
    let each = |seed: &u64| std::iter::repeat_n(*seed, classes);
    Ok(Samples {
        shape: noise.shape.clone(),
        noise: rows.flat_map(|row| row.repeat(classes)).collect(),
        images: Vec::new(),
        labels: (0..noise.len()).flat_map(|_| (0..classes as u32).map(Some)).collect(),
        seeds: noise.seeds.iter().flat_map(each).collect(),
        states: Vec::new(),
    })
}

/// The labels that noise without seeds is drawn with: those given, or none for an unconditional
/// student.
///
/// # Errors
/// When a conditional student is given none.
pub fn labels_for_noise(
    student: &LoadedStudent,
    given: Option<Labels>,
    rows: usize,
) -> Outcome<Labels> {
    match given {
        Some(labels) => Ok(labels),
        None if student.config().label_dim == 0 => Ok(Labels::none(rows)),
        None => Err(Failure::Usage(
            "this student is conditional: give --labels or --class beside --noise".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use kdm_observer::Silent;

    /// A sample depends on its own noise and class alone; each class has the same noise.
    #[test]
    fn every_seed_is_drawn_in_every_class() {
        let runtime = Runtime::cpu();
        let student = LoadedStudent::open("fashion-mnist".as_ref(), runtime.device()).unwrap();
        let noise = student.draw_noise(&[3, 8]);
        let each = in_each_class(&student, &noise).unwrap();
        let classes = student.config().label_dim;
        assert_eq!((each.len(), each.seeds[classes - 1], each.seeds[classes]), (2 * classes, 3, 8));
        assert_eq!(each.labels.class(classes + 4), Some(4));
        let dim = noise.dim();
        assert_eq!(each.noise[(classes + 4) * dim..(classes + 5) * dim], noise.noise[dim..]);
        let drawn = sample(&student, each, &Silent).unwrap();
        let one = Samples { labels: Labels::all(4, 2), ..noise };
        let one = sample(&student, one, &Silent).unwrap();
        assert_eq!(drawn.images[4 * dim..5 * dim], one.images[..dim]);
        assert_eq!(drawn.images[(classes + 4) * dim..(classes + 5) * dim], one.images[dim..]);
        assert!(labels_for_noise(&student, None, 2).is_err());
    }
}
