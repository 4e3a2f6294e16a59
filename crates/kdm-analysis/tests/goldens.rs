//! Modes beside NumPy's and SciPy's of the same matrix; `goldens/make.py` makes the values.

use std::collections::BTreeMap;
use std::path::Path;

use kdm_analysis::Modes;
use kdm_data::{Array, array};
use kdm_koopman::operator::Affine;

/// The formula's operator of dimension 24, and 40 latents.
fn formula() -> (Affine, Vec<f32>) {
    let n = 24;
    let entry = |p: usize| {
        let (i, j) = ((p / n) as f64, (p % n) as f64);
        0.25 * (1.7 * i + 0.9 * j * j + 0.05 * i * j).cos()
    };
    let latent = |p: usize| {
        let (r, k) = ((p / n) as f64, (p % n) as f64);
        (0.7 * r * r + 1.3 * k + 0.11 * r * k).sin() as f32
    };
    let bias = (0..n).map(|j| (0.3 * j as f64 + 1.0).sin()).collect();
    (Affine { n, matrix: (0..n * n).map(entry).collect(), bias }, (0..40 * n).map(latent).collect())
}

/// Values are stored in single precision; the worst conditioned eigenvalue here has a condition of
/// some tens.
const TOLERANCE: f64 = 1e-5;

fn same(name: &str, found: &[f64], golden: &BTreeMap<String, Array>) {
    let expected = &golden[name].data;
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let b = f64::from(*b);
        assert!(
            (a - b).abs() <= TOLERANCE * (1.0 + b.abs()),
            "{name} {i}: {a}, and NumPy says {b}"
        );
    }
}

#[test]
fn modes_equal_those_of_numpy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/modes.npz");
    let golden: BTreeMap<String, Array> = array::read_npz(&path).unwrap().into_iter().collect();
    let (affine, latents) = formula();
    let modes = Modes::of(&affine).unwrap();

    // Each of NumPy's eigenvalues is one of ours.
    for theirs in golden["eigenvalues"].data.chunks(2) {
        let off = |m: &kdm_analysis::Mode| {
            let (re, im) = m.eigenvalue;
            (re - f64::from(theirs[0])).hypot(im - f64::from(theirs[1]).abs())
        };
        let nearest = modes.modes().iter().map(off).fold(f64::INFINITY, f64::min);
        assert!(nearest < TOLERANCE, "{theirs:?}: {nearest}");
    }
    let mut amplitudes = modes.amplitudes(&latents);
    amplitudes.sort_by(|a, b| b.total_cmp(a));
    same("amplitudes", &amplitudes, &golden);
    let ranked = modes.ranked(&latents);
    same("truncated", &modes.low_rank(&ranked[..3]).matrix(), &golden);
    let found = modes.conditioning(&affine).unwrap();
    same(
        "conditioning",
        &[found.norm, found.condition, found.departure, found.eigenvalue_condition.1],
        &golden,
    );
    let flow: Vec<f64> = modes.flow(&latents, &[], 0.3).into_iter().map(f64::from).collect();
    same("flow", &flow, &golden);
}
