//! Reproducible random numbers: a counter-based generator, so that any number of a stream can be
//! drawn alone, in any order, by any thread, and comes out the same on every machine.
//!
//! Generator: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1,
//! 2, 3", SC 2011). Normal deviates: Box-Muller in f32 with our own polynomials, which use only
//! rounding-exact operations (no library functions, no fused multiply-add), so the bits don't
//! depend on the platform. Pair stores keep seeds in place of noise and rely on this: the functions
//! here may never change their output. [`GENERATOR`] names this definition.
//!
//! Normal numbers are drawn on the machine's best instruction set, which does not change them.
//!
//! ```
//! use kdm_random::{Permutation, derive_seed, fill_normal, normal_vec, uniform_f64};
//!
//! // The first numbers of a stream don't depend on how many are drawn.
//! let noise = normal_vec(42, 1000);
//! let mut first = [0.0; 10];
//! fill_normal(42, &mut first);
//! assert_eq!(noise[..10], first);
//!
//! // Streams of a stream, and single numbers of one.
//! let labels = derive_seed(42, 1);
//! assert!((0.0..1.0).contains(&uniform_f64(labels, 7)));
//!
//! // A shuffled epoch without a table.
//! let order = Permutation::new(labels, 3);
//! let mut places = [order.at(0), order.at(1), order.at(2)];
//! places.sort();
//! assert_eq!(places, [0, 1, 2]);
//! ```
//!
//! `streams.rs` has the generator, `normal.rs` and `permutation.rs` what is made of it.

mod normal;
mod permutation;
mod streams;

pub use normal::{fill_normal, normal_range, normal_vec, par_fill_normal};
pub use permutation::Permutation;
pub use streams::{derive_seed, uniform_f64, uniform_u64};

/// The name of this definition of seeded noise, written into every pair store.
pub const GENERATOR: &str = "threefry2x32-boxmuller-v1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normal::{fill_normal_from, ln_unit, sin_cos_turn};
    use crate::streams::threefry;

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
        for range in [0..0, 5..5, 0..33, 7..8, 31..33, 64..20_000, 33_001..50_001] {
            assert_eq!(serial[range.clone()], normal_range(3, range.clone()), "{range:?}");
        }
    }

    /// Rounding-exact operations in a fixed order: 1 million numbers, and a last block that isn't
    /// whole.
    #[test]
    fn instruction_sets_do_not_change_the_numbers() {
        let n = 1_000_017;
        for seed in [0, 42, u64::MAX] {
            let mut portable = vec![0.0; n];
            fill_normal_from(pulp::Arch::Scalar, seed, 0, &mut portable);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            assert!(bits(&portable) == bits(&normal_vec(seed, n)), "seed {seed}");
        }
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
