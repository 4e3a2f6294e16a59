//! Draws images with the student that ships with the library and writes them as one picture.
//!
//!     cargo run --release --example sample_shipped_student

use std::path::Path;

use kdm::data::atomic;
use kdm::observer::Silent;
use kdm::report::grid;
use kdm::runtime::Runtime;
use kdm::stages::sample::{in_each_class, sample};
use kdm::{LoadedStudent, Outcome};

/// Rows of the picture.
const SEEDS: u64 = 6;

fn main() -> Outcome<()> {
    let runtime = Runtime::cpu();
    let student = LoadedStudent::open(Path::new("fashion-mnist"), runtime.device())?;
    let classes = student.config().label_dim;

    // Each seed's noise in every class: what the class decides, and what the noise does.
    let noise = student.draw_noise(&(0..SEEDS).collect::<Vec<u64>>());
    let samples = sample(&student, in_each_class(&student, &noise)?, &Silent)?;

    let out = std::env::temp_dir().join("kdm-samples.png");
    atomic::write(&out, &grid::png(&samples.images, &samples.shape, classes))?;
    println!("{} images in {}", samples.len(), out.display());
    Ok(())
}
