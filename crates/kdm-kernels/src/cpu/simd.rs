//! Elementary functions written so that the compiler turns loops over them into vector code, and
//! the switch that compiles such a loop for every instruction set.

use std::sync::OnceLock;

use pulp::{Arch, Scalar128b, Simd, WithSimd};

/// Elements a task works on at a time: 64 KiB of f32, so that the arrays of one task stay in the
/// second-level cache.
pub(crate) const TASK: usize = 16 * 1024;

/// The environment variable that forces an instruction set: `portable`, `avx2`, `avx512` or `neon`.
pub const PATH_VARIABLE: &str = "KDM_SIMD";

/// The name of the instruction set that all kernels run on: what [`PATH_VARIABLE`] says, else the
/// best of this machine.
///
/// # Errors
/// When the variable names a set that this machine or this build doesn't have. The kernels then run
/// on the best one.
pub fn instruction_set() -> Result<&'static str, InstructionSetError> {
    let forced = std::env::var(PATH_VARIABLE).unwrap_or_default();
    check(&forced)?;
    Ok(NAMES
        .into_iter()
        .find(|name| named(name).is_some_and(|set| same(set, arch())))
        .expect("every set has a name"))
}

/// Whether `forced` names a set that there is; nothing forces none.
fn check(forced: &str) -> Result<(), InstructionSetError> {
    if forced.is_empty() || named(forced).is_some() {
        return Ok(());
    }
    Err(InstructionSetError::Unavailable {
        variable: PATH_VARIABLE,
        value: forced.to_string(),
        available: NAMES.into_iter().filter(|name| named(name).is_some()).collect(),
    })
}

/// What is wrong with the choice of an instruction set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructionSetError {
    /// The environment variable names a set that this machine or this build doesn't have.
    #[error(
        "{variable} is \"{value}\", and this machine has {}; set {variable} to one of these, or \
         unset it to run on the best",
        available.join(", ")
    )]
    Unavailable {
        /// The environment variable, [`PATH_VARIABLE`].
        variable: &'static str,
        /// What it holds.
        value: String,
        /// The names of the sets that this machine and this build have.
        available: Vec<&'static str>,
    },
}

const NAMES: [&str; 4] = ["portable", "avx2", "avx512", "neon"];

fn named(name: &str) -> Option<Arch> {
    match name {
        "portable" => Some(Arch::Scalar),
        #[cfg(target_arch = "x86_64")]
        "avx2" => pulp::x86::V3::try_new().map(Arch::V3),
        #[cfg(target_arch = "x86_64")]
        "avx512" => pulp::x86::V4::try_new().map(Arch::V4),
        #[cfg(target_arch = "aarch64")]
        "neon" => pulp::aarch64::Neon::try_new().map(Arch::Neon),
        _ => None,
    }
}

fn same(a: Arch, b: Arch) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| {
        std::env::var(PATH_VARIABLE).ok().and_then(|name| named(&name)).unwrap_or_default()
    })
}

/// Runs `loops` compiled for the instruction set in use.
#[inline(always)]
pub(crate) fn vectorised<R>(loops: impl FnOnce() -> R) -> R {
    arch().dispatch(loops)
}

/// Runs `work` with the vectors of the instruction set in use; four numbers at a time where there
/// are none.
#[inline(always)]
pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    match arch() {
        Arch::Scalar => work.with_simd(Scalar128b),
        arch => arch.dispatch(work),
    }
}

/// a * b + c, fused where there is an instruction for it. (Without one, a fused result takes a
/// hundred instructions.)
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if is_portable::<S>() {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}

/// c - a * b, as [`mul_add`].
#[inline(always)]
pub(crate) fn minus_mul<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if is_portable::<S>() {
        simd.sub_f32s(c, simd.mul_f32s(a, b))
    } else {
        simd.negate_mul_add_e_f32s(a, b, c)
    }
}

#[inline(always)]
fn is_portable<S: Simd>() -> bool {
    S::F32_LANES == 4 && S::REGISTER_COUNT < 32
}

/// e^x within 2 units in the last place for x in [-87, 88]; clamped outside. NaN stays NaN.
///
/// Cephes' scheme: x = n ln 2 + r, a polynomial for e^r, and 2^n put together from bits. Adding
/// 1.5 2^23 rounds to the nearest integer and leaves it in the low bits of the sum.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulps_of_the_library() {
        for i in -86_900..87_900 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}): relative error {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(sigmoid(-1e9) >= 0.0 && sigmoid(-1e9) < 1e-30);
        assert_eq!(sigmoid(1e9), 1.0);
    }

    #[test]
    fn an_unknown_set_is_told_with_those_that_there_are() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("portable"), Ok(()));
        let error = check("sse9").unwrap_err();
        let InstructionSetError::Unavailable { variable, value, available } = &error;
        assert_eq!((*variable, value.as_str(), available[0]), (PATH_VARIABLE, "sse9", "portable"));
        assert!(
            error.to_string().starts_with("KDM_SIMD is \"sse9\", and this machine has portable")
        );
        assert!(error.to_string().ends_with("unset it to run on the best"));
        available.iter().for_each(|name| assert_eq!(check(name), Ok(())));
    }
}
