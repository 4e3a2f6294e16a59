//! Draws images with the student that ships with the library and writes them as one picture.
//!
//!     cargo run --release --example sample_shipped_student

use std::path::Path;

use kdm::data::{Labels, atomic};
use kdm::report::grid;
use kdm::runtime::Runtime;
use kdm::{LoadedStudent, Outcome};

/// Rows of the picture.
const SEEDS: u64 = 6;

fn main() -> Outcome<()> {
    let runtime = Runtime::cpu();
    let student = LoadedStudent::open(Path::new("fashion-mnist"), runtime.device())?;
    let classes = student.config().label_dim as u32;

    // Each seed's noise in every class: what the class decides, and what the noise does.
    let noise = student.draw_noise(&(0..SEEDS).collect::<Vec<u64>>());
    let rows = noise.noise.chunks(noise.dim());
    let repeated: Vec<f32> = rows.flat_map(|row| row.repeat(classes as usize)).collect();
    let labels: Labels = (0..SEEDS).flat_map(|_| (0..classes).map(Some)).collect();
    let images = student.sampler.sample(&repeated, &labels);

    let out = std::env::temp_dir().join("kdm-samples.png");
    atomic::write(&out, &grid::png(&images, &noise.shape, classes as usize))?;
    println!("{} images in {}", labels.len(), out.display());
    Ok(())
}
