//! Reproducible random numbers: a counter-based generator, so that any number of a stream can be
//! drawn alone, in any order, by any thread, and comes out the same on every machine.
//!
//! Generator: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1,
//! 2, 3", SC 2011). Normal deviates: Box-Muller in f32 with our own polynomials, which use only
//! rounding-exact operations (no library functions, no fused multiply-add), so the bits don't
//! depend on the platform. Pair stores keep seeds in place of noise and rely on this: the functions
//! here may never change their output. [`GENERATOR`] names this definition.

use rayon::prelude::*;

use crate::vector::vectorised;

/// The name of this definition of seeded noise, written into every pair store.
pub const GENERATOR: &str = "threefry2x32-boxmuller-v1";

/// Normal deviates a task draws at a time.
const TASK: usize = 8 * 1024;

/// Threefry-2x32, 20 rounds: a keyed bijection of 64 bits.
#[inline(always)]
fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x0 = counter[0].wrapping_add(keys[0]);
    let mut x1 = counter[1].wrapping_add(keys[1]);
    let mut group = 0;
    while group < 5 {
        let mut round = 0;
        while round < 4 {
            x0 = x0.wrapping_add(x1);
            x1 = x1.rotate_left(ROTATIONS[(group % 2) * 4 + round]) ^ x0;
            round += 1;
        }
        group += 1;
        x0 = x0.wrapping_add(keys[group % 3]);
        x1 = x1.wrapping_add(keys[(group + 1) % 3]).wrapping_add(group as u32);
    }
    [x0, x1]
}

#[inline(always)]
fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// A seed for the sub-stream `index` of `seed`: distinct (seed, index) give unrelated streams.
pub fn derive_seed(seed: u64, index: u64) -> u64 {
    let [a, b] = threefry(halves(seed), halves(index));
    u64::from(a) | u64::from(b) << 32
}

/// Number `index` of the stream `seed`, uniform over all 64-bit integers.
pub fn uniform_u64(seed: u64, index: u64) -> u64 {
    derive_seed(seed, index)
}

/// Number `index` of the stream `seed`, uniform in [0, 1) with 53 bits.
pub fn uniform_f64(seed: u64, index: u64) -> f64 {
    (uniform_u64(seed, index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Fills `out` with independent standard normal numbers: element i depends on `seed` and i alone.
/// Serial; see [`par_fill_normal`] for large arrays.
pub fn fill_normal(seed: u64, out: &mut [f32]) {
    fill_normal_from(seed, 0, out);
}

/// [`fill_normal`] on all threads; the same bits.
pub fn par_fill_normal(seed: u64, out: &mut [f32]) {
    out.par_chunks_mut(TASK)
        .enumerate()
        .for_each(|(i, chunk)| fill_normal_from(seed, (i * TASK / 2) as u64, chunk));
}

/// `n` standard normal numbers of the stream `seed`.
pub fn normal_vec(seed: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    par_fill_normal(seed, &mut out);
    out
}

/// Draws from the stream's pair number `first_pair` on. Pairs are laid out in blocks of 16, cosines
/// before sines, so that a block is whole vectors; where the array ends inside a block the rest of
/// the block is dropped.
fn fill_normal_from(seed: u64, first_pair: u64, out: &mut [f32]) {
    let key = halves(seed);
    vectorised(
        #[inline(always)]
        || {
            for (i, chunk) in out.chunks_mut(2 * LANES).enumerate() {
                let mut block = [0.0; 2 * LANES];
                normal_block(key, first_pair + (i * LANES) as u64, &mut block);
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        },
    );
}

const LANES: usize = 16;

#[inline(always)]
fn normal_block(key: [u32; 2], first_pair: u64, block: &mut [f32; 2 * LANES]) {
    let (cosines, sines) = block.split_at_mut(LANES);
    for lane in 0..LANES {
        let [a, b] = threefry(key, halves(first_pair + lane as u64));
        let radius = (-2.0 * ln_unit(a)).sqrt();
        let (sin, cos) = sin_cos_turn(b);
        cosines[lane] = radius * cos;
        sines[lane] = radius * sin;
    }
}

/// ln((2 k + 1) / 2^33), never positive; k = 0 gives -22.87, so no deviate exceeds 6.77.
#[inline(always)]
fn ln_unit(k: u32) -> f32 {
    // Split in two halves that convert exactly; their sum rounds once.
    let u = (k >> 16) as f32 * 65536.0 + ((k & 0xFFFF) as f32 + 0.5);
    let u = u * (1.0 / 4_294_967_296.0);
    // u = m 2^e with m in [sqrt(1/2), sqrt(2)); ln u = e ln 2 + ln(1 + f), f = m - 1 (Cephes'
    // polynomial).
    let bits = u.to_bits().wrapping_sub(0x3F35_04F3);
    let e = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(0x3F35_04F3));
    let f = m - 1.0;
    let z = f * f;
    let p = 7.037_683_6e-2;
    let p = p * f - 1.151_461e-1;
    let p = p * f + 1.167_699_9e-1;
    let p = p * f - 1.242_014_1e-1;
    let p = p * f + 1.424_932_3e-1;
    let p = p * f - 1.666_805_8e-1;
    let p = p * f + 2.000_071_5e-1;
    let p = p * f - 2.499_999_4e-1;
    let p = p * f + 3.333_333e-1;
    let tail = p * f * z - 2.121_944_4e-4 * e - 0.5 * z;
    let ln = f + tail + 0.693_359_4 * e;
    // Rounding may reach a hair above zero for u next to 1.
    if ln < 0.0 { ln } else { 0.0 }
}

/// sin and cos of 2 pi k / 2^32.
#[inline(always)]
fn sin_cos_turn(k: u32) -> (f32, f32) {
    // The nearest quarter turn q, and the rest r as a fraction of a quarter turn in [-1/2, 1/2).
    let shifted = k.wrapping_add(0x2000_0000);
    let quarter = shifted >> 30;
    let rest = (shifted & 0x3FFF_FFFF) as i32 - 0x2000_0000;
    let x = rest as f32 * (std::f32::consts::FRAC_PI_2 / 1_073_741_824.0);
    let z = x * x;
    let s = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 0.166_666_55) * z * x + x;
    let c = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    let (sin, cos) = if quarter & 1 == 0 { (s, c) } else { (c, s) };
    let sin = if quarter & 2 == 0 { sin } else { -sin };
    let cos = if quarter.wrapping_add(1) & 2 == 0 { cos } else { -cos };
    (sin, cos)
}

/// A random permutation of 0..n that can be asked for any single place: a four-round Feistel
/// network over the smallest even number of bits that holds n, walked until it lands inside.
/// Nothing is stored, so a shuffled epoch over a million pairs costs no memory and resumes
/// anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    seed: u64,
    n: u64,
    half_bits: u32,
}

impl Permutation {
    /// The permutation of 0..n drawn by `seed`; n at least 1.
    pub fn new(seed: u64, n: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { seed, n, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where place `i` (less than n) goes.
    pub fn at(&self, i: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let mut x = i;
        loop {
            let (mut left, mut right) = (x >> self.half_bits, x & mask);
            for round in 0..4 {
                let mixed = uniform_u64(self.seed, right | round << 60);
                (left, right) = (right, left ^ (mixed & mask));
            }
            x = left << self.half_bits | right;
            if x < self.n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the Random123 distribution (kat_vectors, threefry2x32 20).
    #[test]
    fn threefry_known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([!0, !0], [!0, !0]), [0x1cb9_96fc, 0xbb00_2be7]);
        let pi = threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(pi, [0xc492_3a9c, 0x483d_f7a0]);
    }

    /// Stored pair sets depend on these very numbers.
    #[test]
    fn the_definition_of_noise_is_frozen() {
        let bits: Vec<u32> = normal_vec(42, 40).iter().map(|x| x.to_bits()).collect();
        assert_eq!([bits[0], bits[1], bits[16], bits[39]], FROZEN);
    }
    const FROZEN: [u32; 4] = [0xbe48_8675, 0x3ff8_cb45, 0x3efc_0f8b, 0xbd96_21a4];

    #[test]
    fn elementary_functions_are_accurate() {
        for i in 0..200_000u32 {
            let k = i.wrapping_mul(0x9E37_79B1);
            let u = (f64::from(k) + 0.5) / 4_294_967_296.0;
            // f32 keeps 24 bits of u: near u = 1 that, not the polynomial, bounds ln.
            assert!((f64::from(ln_unit(k)) - u.ln()).abs() < 1e-6 * u.ln().abs() + 6.1e-8, "{k}");
            let (sin, cos) = sin_cos_turn(k);
            let angle = std::f64::consts::TAU * f64::from(k) / 4_294_967_296.0;
            assert!((f64::from(sin) - angle.sin()).abs() < 1.5e-7, "{k}");
            assert!((f64::from(cos) - angle.cos()).abs() < 1.5e-7, "{k}");
        }
    }

    /// Moments of 4 million deviates; the bounds are five standard errors.
    #[test]
    fn normal_moments() {
        let n = 4_000_000;
        let x = normal_vec(7, n);
        let moment = |p: i32| x.iter().map(|x| f64::from(*x).powi(p)).sum::<f64>() / n as f64;
        let root = (n as f64).sqrt();
        assert!(moment(1).abs() < 5.0 / root);
        assert!((moment(2) - 1.0).abs() < 5.0 * 2f64.sqrt() / root);
        assert!(moment(3).abs() < 5.0 * 15f64.sqrt() / root);
        assert!((moment(4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root);
        let beyond = x.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / n as f64;
        assert!((beyond - 0.05).abs() < 5.0 * (0.05f64 * 0.95).sqrt() / root);
        let neighbours: f64 = x.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / n as f64;
        assert!(neighbours.abs() < 5.0 / root);
    }

    #[test]
    fn threads_and_lengths_do_not_change_the_numbers() {
        let mut serial = vec![0.0; 50_001];
        fill_normal(3, &mut serial);
        assert_eq!(serial, normal_vec(3, 50_001));
        assert_eq!(serial[..33], normal_vec(3, 33)[..]);
    }

    #[test]
    fn permutation_visits_every_place_once() {
        for n in [1, 2, 3, 17, 1000, 65_537] {
            let p = Permutation::new(5, n);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let j = p.at(i) as usize;
                assert!(!seen[j], "{n}: {j} twice");
                seen[j] = true;
            }
        }
        let fixed = (0..1000).filter(|i| Permutation::new(5, 1000).at(*i) == *i).count();
        assert!(fixed < 10, "{fixed} fixed points; a random permutation has 1 on average");
    }
}
