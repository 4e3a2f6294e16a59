//! The generator: one complex rate of change an eigenvalue, so that there is an operator between
//! any two times, C(s -> t) = Re(P exp(mu (t - s)) P_inv), and they compose exactly.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::InitSeed;

use super::affine::{Affine, Complex};
use crate::host::{values, wide};

/// C(s -> t) = exp(mu (t - s)) on latents in the generator's own coordinates.
///
/// A latent of n = 2k values holds the real parts of k complex coordinates, then their imaginary
/// parts; mu has one value a coordinate, with its conjugate the eigenvalues of the generator. P and
/// P_inv, from and to these coordinates, are the linear maps of the student's projection, or the
/// identity without one. As no matrix is inverted, C(s -> s) is the identity and
/// C(s -> t) C(r -> s) = C(r -> t) to rounding.
///
/// Time runs from 0 (noise) to 1 (image); Re mu = -exp(rate_log) is below 0.
#[derive(Module, Debug)]
pub struct Generator {
    /// ln(-Re mu), `[k]`.
    pub rate_log: Param<Tensor<1>>,
    /// Im mu in radians from noise to image, `[k]`.
    pub frequency: Param<Tensor<1>>,
}

impl Generator {
    /// |exp(mu)| = sqrt(u1) and Im mu = pi (2 u2 - 1) with u1, u2 uniform in [0, 1]; `n` is even.
    pub fn init(n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        let k = n / 2;
        let (a, b) = (seed.next_seed(), seed.next_seed());
        let unit = |seed: u64, i: u64| kdm_random::uniform_f64(seed, i).clamp(1e-6, 1.0 - 1e-6);
        let rate = (0..k as u64).map(|i| (-0.5 * unit(a, i).ln()).ln() as f32).collect();
        let angle = |i| (std::f64::consts::PI * (2.0 * unit(b, i) - 1.0)) as f32;
        let parameter = |values: Vec<f32>| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, [k]), device))
        };
        Self { rate_log: parameter(rate), frequency: parameter((0..k as u64).map(angle).collect()) }
    }

    /// mu, one of each conjugate pair.
    pub fn mu(&self) -> Vec<Complex> {
        let rates = wide(self.rate_log.val().exp().neg());
        rates.into_iter().zip(wide(self.frequency.val())).collect()
    }

    /// exp(mu) with the conjugates behind: the n eigenvalues of the operator from noise to image.
    pub fn eigenvalues(&self) -> Vec<Complex> {
        let of = |(rate, angle): Complex| (rate.exp() * angle.cos(), rate.exp() * angle.sin());
        let upper: Vec<Complex> = self.mu().into_iter().map(of).collect();
        let conjugates = upper.iter().map(|(re, im)| (*re, -im));
        upper.iter().copied().chain(conjugates).collect()
    }

    /// exp(mu) of each coordinate, from noise to image.
    pub(crate) fn factors(&self) -> Vec<(f32, f32)> {
        let one = Tensor::ones([1, 1], &self.rate_log.val().device());
        let (re, im) = self.exponential(one);
        values(re).into_iter().zip(values(im)).collect()
    }

    /// exp(mu t) for times `[N, 1]`: real and imaginary parts `[N, k]`.
    pub fn exponential(&self, time: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let rate = self.rate_log.val().exp().neg().unsqueeze::<2>();
        let radius = (time.clone() * rate).exp();
        let angle = time * self.frequency.val().unsqueeze::<2>();
        (radius.clone() * angle.clone().cos(), radius * angle.sin())
    }

    /// Latents `[N, n]` a time `[N, 1]` later: C(s -> s + time) z.
    pub fn advance(&self, z: Tensor<2>, time: Tensor<2>) -> Tensor<2> {
        times(z, self.exponential(time))
    }

    /// What a constant control has added after a time `[N, 1]`, when it adds `shift` `[N, n]` from
    /// noise to image: (exp(mu time) - 1) / (exp(mu) - 1) of it.
    pub fn control(&self, shift: Tensor<2>, time: Tensor<2>) -> Tensor<2> {
        let one = Tensor::ones([1, 1], &shift.device());
        let ((whole_re, whole_im), (re, im)) = (self.exponential(one), self.exponential(time));
        let (whole_re, re) = (whole_re - 1.0, re - 1.0);
        // Zero for no decay and whole turns alone, which leave no control.
        let size = whole_re.clone().square() + whole_im.clone().square() + 1e-12;
        let ratio_re =
            (re.clone() * whole_re.clone() + im.clone() * whole_im.clone()) / size.clone();
        let ratio_im = (im * whole_re - re * whole_im) / size;
        times(shift, (ratio_re, ratio_im))
    }

    /// From noise to image: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        let one = Tensor::ones([1, 1], &z.device());
        self.advance(z, one)
    }

    /// The matrix of the operator from noise to image; the bias is zero.
    pub fn matrix(&self) -> Affine {
        let eigenvalues = self.eigenvalues();
        let (n, k) = (eigenvalues.len(), eigenvalues.len() / 2);
        let mut matrix = vec![0.0; n * n];
        for (i, (re, im)) in eigenvalues[..k].iter().enumerate() {
            let mut set = |row: usize, column: usize, value: f64| matrix[row * n + column] = value;
            set(i, i, *re);
            set(i, i + k, -im);
            set(i + k, i, *im);
            set(i + k, i + k, *re);
        }
        Affine { n, matrix, bias: vec![0.0; n] }
    }

    /// No decay and no turn.
    #[cfg(test)]
    pub(super) fn identity(n: usize, device: &Device) -> Self {
        let full = |value: f32| Param::from_tensor(Tensor::<1>::full([n / 2], value, device));
        Self { rate_log: full(-40.0), frequency: full(0.0) }
    }
}

/// Complex coordinates `[N, n]` (real parts, then imaginary ones) times factors.
fn times(z: Tensor<2>, (f_re, f_im): (Tensor<2>, Tensor<2>)) -> Tensor<2> {
    let [rows, n] = z.dims();
    let (re, im) = (z.clone().slice([0..rows, 0..n / 2]), z.slice([0..rows, n / 2..n]));
    let z_re = re.clone() * f_re.clone() - im.clone() * f_im.clone();
    Tensor::cat(vec![z_re, re * f_im + im * f_re], 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn latents(seed: u64, rows: usize, n: usize) -> Tensor<2> {
        let values = kdm_random::normal_vec(seed, rows * n);
        Tensor::from_data(TensorData::new(values, [rows, n]), &Device::flex())
    }

    fn at(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &Device::flex())
    }

    fn off(a: Tensor<2>, b: Tensor<2>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The semigroup: going on from s is going at once, with and without a control; no time
        /// leaves a latent alone; and two inverse steps undo each other.
        #[test]
        fn steps_compose(
            k in 1usize..12,
            seed in 0u64..1000,
            s in 0f32..1.0,
            t in 0f32..1.0,
        ) {
            let op = Generator::init(2 * k, &mut InitSeed::new(seed), &Device::flex());
            let (z, shift) = (latents(seed, 2, 2 * k), latents(seed + 1, 2, 2 * k));
            // A step for each row.
            let (first, then, both) = (at(&[s, t]), at(&[t, 0.5]), at(&[s + t, t + 0.5]));
            let once = op.advance(z.clone(), both.clone());
            let twice = op.advance(op.advance(z.clone(), first.clone()), then.clone());
            // f32 rounding of numbers of size 1, over some products.
            prop_assert!(off(once.clone(), twice) < 1e-5);
            prop_assert!(off(op.advance(z.clone(), at(&[0.0, 0.0])), z.clone()) == 0.0);
            let flow = |z: Tensor<2>, time: Tensor<2>| {
                op.advance(z, time.clone()) + op.control(shift.clone(), time)
            };
            let (once, twice) = (flow(z.clone(), both), flow(flow(z.clone(), first), then));
            // A control close to a whole turn is divided by little.
            let least = op.eigenvalues().iter().map(|l| (l.0 - 1.0).hypot(l.1)).fold(1.0, f64::min);
            prop_assert!(f64::from(off(once, twice)) < 3e-5 / least);
            // Over the whole time the control adds all of its shift.
            let whole = op.control(shift.clone(), at(&[1.0, 1.0]));
            prop_assert!(f64::from(off(whole, shift.clone())) < 1e-5 / least);
        }
    }

    /// The eigenvalues are those of the matrix, found from it.
    #[test]
    fn eigenvalues_are_the_matrixs() {
        let op = Generator::init(10, &mut InitSeed::new(3), &Device::flex());
        let affine = op.matrix();
        let sorted = |mut values: Vec<Complex>| {
            values.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            values
        };
        let found = sorted(super::super::eigen::eigenvalues(&affine.matrix, 10).unwrap());
        for (a, b) in found.iter().zip(sorted(op.eigenvalues())) {
            assert!((a.0 - b.0).hypot(a.1 - b.1) < 1e-9, "{a:?} {b:?}");
        }
        assert!(op.mu().iter().all(|mu| mu.0 < 0.0 && mu.1.abs() < std::f64::consts::PI));
    }

    /// A generator of a dimension whose matrix no memory holds has its spectrum all the same.
    #[test]
    fn a_large_generator_needs_no_matrix() {
        let op = Generator::init(400_000, &mut InitSeed::new(1), &Device::flex());
        let op = crate::Operator::Generator(op);
        assert_eq!((op.dim(), op.moduli().unwrap().len()), (400_000, 16));
        let leading = op.leading_eigenvalues(3).unwrap();
        assert!(leading.iter().all(|l| l.0.hypot(l.1) > 0.99));
        let z = latents(2, 1, 400_000);
        assert_eq!(op.apply(z).dims(), [1, 400_000]);
    }
}
