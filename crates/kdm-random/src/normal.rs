//! Normal numbers (Box and Muller, "A note on the generation of random normal deviates", 1958).

use std::ops::Range;
use std::sync::OnceLock;

use pulp::Arch;
use rayon::prelude::*;

use crate::streams::{halves, threefry};

/// Normal deviates a task draws at a time.
const TASK: usize = 8 * 1024;

/// The best instruction set of this machine; all give the same bits.
fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}

/// Fills `out` with independent standard normal numbers, of magnitude 6.77 at most: element i
/// depends on `seed` and i alone. Serial; see [`par_fill_normal`] for large arrays.
pub fn fill_normal(seed: u64, out: &mut [f32]) {
    fill_normal_from(arch(), seed, 0, out);
}

/// [`fill_normal`] on all threads; the same bits.
pub fn par_fill_normal(seed: u64, out: &mut [f32]) {
    out.par_chunks_mut(TASK)
        .enumerate()
        .for_each(|(i, chunk)| fill_normal_from(arch(), seed, (i * TASK / 2) as u64, chunk));
}

/// The first `n` standard normal numbers of the stream `seed`, drawn on all threads.
pub fn normal_vec(seed: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    par_fill_normal(seed, &mut out);
    out
}

/// The numbers `range` of the stream `seed`, those of [`normal_vec`] at these places, drawn on all
/// threads; what lies before them is not drawn.
pub fn normal_range(seed: u64, range: Range<usize>) -> Vec<f32> {
    let start = range.start / (2 * LANES) * (2 * LANES);
    let mut out = vec![0.0; range.end.saturating_sub(start)];
    out.par_chunks_mut(TASK).enumerate().for_each(|(i, chunk)| {
        fill_normal_from(arch(), seed, ((start + i * TASK) / 2) as u64, chunk);
    });
    out.drain(..(range.start - start).min(out.len()));
    out
}

/// Draws from the stream's pair number `first_pair` on. Pairs are laid out in blocks of 16, cosines
/// before sines, so that a block is whole vectors; where the array ends inside a block the rest of
/// the block is dropped.
pub(crate) fn fill_normal_from(arch: Arch, seed: u64, first_pair: u64, out: &mut [f32]) {
    let key = halves(seed);
    arch.dispatch(
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
pub(crate) fn ln_unit(k: u32) -> f32 {
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
pub(crate) fn sin_cos_turn(k: u32) -> (f32, f32) {
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
