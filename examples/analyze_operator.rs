//! Takes apart the Koopman operator of the student that ships with the library: its spectrum, the
//! modes that carry most on real latents, and how much of the operator a low rank keeps.
//!
//!     cargo run --release --example analyze_operator

use std::path::Path;

use kdm::LoadedStudent;
use kdm::analysis::modes::largest_first;
use kdm::analysis::{Modes, Principal, Spectrum};
use kdm::runtime::Runtime;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::cpu();
    let student = LoadedStudent::open(Path::new("fashion-mnist"), runtime.device())?;
    let parts = student.stepwise()?;
    let spectrum = Spectrum::of(&parts.student.operator)?;
    println!(
        "latent dimension {}, spectral radius {:.4}; {} eigenvalues reach a hundredth of it",
        spectrum.latent, spectrum.spectral_radius, spectrum.leading
    );

    // Real latents: of the noise of some seeds.
    let noise = student.draw_noise(&(0..200).collect::<Vec<u64>>());
    let latents = parts.encode_noise(&noise.noise, &noise.labels);
    let affine = parts.student.operator.matrix();
    let modes = Modes::of(&affine)?;
    let amplitudes = modes.amplitudes(&latents);
    println!("the modes that carry most on them:");
    for (place, k) in largest_first(&amplitudes).into_iter().take(5).enumerate() {
        let (re, im) = modes.modes()[k].eigenvalue;
        println!("  {}  {re:.4} ± {im:.4}i  amplitude {:.3}", place + 1, amplitudes[k]);
    }

    // The error of a low rank on the pushed latents, against their size.
    let principal = Principal::of(&affine, &latents)?;
    let pushed: Vec<Vec<f64>> = latents
        .chunks(affine.n)
        .map(|z| affine.apply(&z.iter().map(|z| f64::from(*z)).collect::<Vec<f64>>()))
        .collect();
    for rank in [1, 8, 32, 128] {
        let cut = principal.truncated(rank);
        let mut squares = (0.0, 0.0);
        for (z, whole) in latents.chunks(affine.n).zip(&pushed) {
            let z: Vec<f64> = z.iter().map(|z| f64::from(*z)).collect();
            let left = cut.apply(&z);
            squares.0 += whole.iter().zip(left).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            squares.1 += whole.iter().map(|a| a * a).sum::<f64>();
        }
        let error = 100.0 * (squares.0 / squares.1).sqrt();
        println!("rank {rank:3}: {error:.1}% of the pushed latents is lost");
    }
    Ok(())
}
