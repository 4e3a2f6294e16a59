//! Metrics beside other programs' values of the same arrays; `goldens/make.py` makes them.

use std::collections::BTreeMap;
use std::path::Path;

use kdm_data::{Array, array};
use kdm_metrics::inception_score::inception_score;
use kdm_metrics::kernel_distance::kernel_distance;
use kdm_metrics::manifold::manifold;
use kdm_metrics::{Moments, frechet_distance, images};

fn goldens() -> BTreeMap<String, Array> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/goldens.npz");
    array::read_npz(&path).unwrap().into_iter().collect()
}

/// The values are stored in single precision: 1e-6 of them is their own rounding.
fn same(name: &str, found: f64, golden: &BTreeMap<String, Array>, tolerance: f64) {
    let expected = f64::from(golden[name].data[0]);
    assert!(
        (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
        "{name}: {found}, and others say {expected}"
    );
}

/// pytorch-fid and torch-fidelity take roots of matrices that aren't symmetric, and with singular
/// covariances add 1e-6 to the diagonal: 1e-3 there, to which such distances are reported.
#[test]
fn distances_equal_those_of_pytorch_fid_and_torch_fidelity() {
    let g = goldens();
    let (real, fake) = (&g["real"].data, &g["fake"].data);
    let of = |x: &[f32]| frechet_distance(&Moments::of(x, 12), &Moments::of(real, 12)).unwrap();
    same("fid", of(fake), &g, 1e-6);
    same("fid_fidelity", of(fake), &g, 1e-6);
    same("fid_few", of(&fake[..8 * 12]), &g, 1e-3);
    // Sets of fewer than 1000 rows are one subset.
    let kid = kernel_distance(fake, &real[..250 * 12], 12, 0);
    same("kid", kid.mean, &g, 1e-5);
    assert!(kid.deviation < 1e-6);
}

#[test]
fn scores_and_manifolds_equal_those_of_torch_fidelity_and_prdc() {
    let g = goldens();
    same("isc", inception_score(&g["logits"].data, 7, 1).mean, &g, 1e-5);
    let found = manifold(&g["real"].data, &g["fake"].data, 12, 5);
    for (name, value) in [
        ("precision", found.precision),
        ("recall", found.recall),
        ("density", found.density),
        ("coverage", found.coverage),
    ] {
        same(name, value, &g, 1e-6);
    }
}

#[test]
fn likeness_of_images_equals_that_of_piq() {
    let g = goldens();
    let (a, b) = (&g["a"], &g["b"]);
    same("psnr", images::psnr(&a.data, &b.data, a.row_len()), &g, 1e-5);
    same("ssim", images::ssim(&a.data, &b.data, [2, 24, 20]), &g, 1e-5);
}
