//! Weights that a formula draws from the names of tensors.

use sha2::{Digest, Sha256};

/// `weight` of the generator.
pub fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let hash = Sha256::digest(name.as_bytes());
    let seed = u64::from_le_bytes(hash[..8].try_into().unwrap());
    let count: usize = shape.iter().product();
    let fan_in: usize = shape.iter().skip(1).product();
    let one = shape.len() == 1;
    let uniform = |i: u64| {
        let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 24)
    };
    let value = |u: f64| match () {
        () if name.ends_with("running_var") || (one && name.ends_with("weight")) => 0.5 + u,
        () if name.ends_with("freqs") => 4.0 * u - 2.0,
        () if one => 0.4 * (u - 0.5),
        () if name.ends_with("model.1.weight") => u,
        () => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
    };
    (0..count as u64).map(|i| value(uniform(i)) as f32).collect()
}
