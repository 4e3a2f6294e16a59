//! The factorized operator: C = Re(P diag(lambda) P_inv), with the spectrum as parameters of its
//! own (paper, section on the factorized Koopman matrix).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use faer::Mat;
use kdm_nn::InitSeed;

use super::affine::{Affine, Complex};
use crate::host::wide;

/// C = Re(P diag(lambda) P_inv): |lambda| = exp(-exp(nu)), arg lambda = exp(theta) (paper, section
/// on the factorized Koopman matrix). The rows of P's real and imaginary parts are normalised to
/// length 1; P_inv is free, and drawn to P's inverse by [`Factorized::consistency`].
///
/// A real latent enters with zero imaginary part; the real part of the result is kept.
#[derive(Module, Debug)]
pub struct Factorized {
    /// Real part of P before normalisation, `[n, n]`.
    pub p_re: Param<Tensor<2>>,
    /// Imaginary part of P before normalisation, `[n, n]`.
    pub p_im: Param<Tensor<2>>,
    /// Real part of P_inv, `[n, n]`.
    pub p_inv_re: Param<Tensor<2>>,
    /// Imaginary part of P_inv, `[n, n]`.
    pub p_inv_im: Param<Tensor<2>>,
    /// nu: ln(-ln |lambda|), `[n]`.
    pub nu_log: Param<Tensor<1>>,
    /// theta: ln(arg lambda), `[n]`.
    pub theta_log: Param<Tensor<1>>,
}

impl Factorized {
    /// |lambda| = sqrt(u1), arg lambda = 2 pi u2 with u1, u2 uniform in [0, 1]; P from two random
    /// orthonormal matrices and P_inv Gaussian, both scaled by 1/sqrt(2n).
    pub fn init(n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        let scale = 1.0 / (2.0 * n as f64).sqrt();
        let gaussian = |seed: u64| -> Vec<f64> {
            kdm_random::normal_vec(seed, n * n).into_iter().map(f64::from).collect()
        };
        let mut matrix = |orthonormal: bool| {
            let g = gaussian(seed.next_seed());
            let values = if orthonormal { orthonormal_of(&g, n) } else { g };
            parameter(values.iter().map(|x| (x * scale) as f32).collect(), [n, n], device)
        };
        let (p_re, p_im) = (matrix(true), matrix(true));
        let (p_inv_re, p_inv_im) = (matrix(false), matrix(false));
        // Kept away from 0 and 1, where the logarithms are infinite.
        let (a, b) = (seed.next_seed(), seed.next_seed());
        let unit = |seed: u64, i: u64| kdm_random::uniform_f64(seed, i).clamp(1e-6, 1.0 - 1e-6);
        let nu = (0..n as u64).map(|i| (-0.5 * unit(a, i).ln()).ln() as f32).collect();
        let theta =
            (0..n as u64).map(|i| (std::f64::consts::TAU * unit(b, i)).ln() as f32).collect();
        Self {
            p_re,
            p_im,
            p_inv_re,
            p_inv_im,
            nu_log: parameter(nu, [n], device),
            theta_log: parameter(theta, [n], device),
        }
    }

    /// lambda as real and imaginary parts, `[n]` each.
    pub fn lambda_tensors(&self) -> (Tensor<1>, Tensor<1>) {
        let radius = self.nu_log.val().exp().neg().exp();
        let angle = self.theta_log.val().exp();
        (radius.clone() * angle.clone().cos(), radius * angle.sin())
    }

    /// The spectrum's parameters lambda, n of them.
    pub fn lambda(&self) -> Vec<Complex> {
        let (re, im) = self.lambda_tensors();
        wide(re).into_iter().zip(wide(im)).collect()
    }

    /// P with the rows of both parts normalised.
    fn p(&self) -> (Tensor<2>, Tensor<2>) {
        let normalised = |m: Tensor<2>| {
            let length = m.clone().square().sum_dim(1).sqrt();
            m / length
        };
        (normalised(self.p_re.val()), normalised(self.p_im.val()))
    }

    /// Re(P diag(lambda) P_inv z) of every row: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        let (p_re, p_im) = self.p();
        let (l_re, l_im) = self.lambda_tensors();
        let (l_re, l_im) = (l_re.unsqueeze::<2>(), l_im.unsqueeze::<2>());
        let w_re = z.clone().matmul(self.p_inv_re.val().transpose());
        let w_im = z.matmul(self.p_inv_im.val().transpose());
        let v_re = w_re.clone() * l_re.clone() - w_im.clone() * l_im.clone();
        let v_im = w_re * l_im + w_im * l_re;
        v_re.matmul(p_re.transpose()) - v_im.matmul(p_im.transpose())
    }

    /// How far P_inv is from P's inverse: MSE(P_inv P, I) + MSE(P P_inv, I), each in the real
    /// 2n x 2n block form `[[re, -im], [im, re]]`. One number.
    pub fn consistency(&self) -> Tensor<1> {
        let (p_re, p_im) = self.p();
        let p = (p_re, p_im);
        let q = (self.p_inv_re.val(), self.p_inv_im.val());
        distance_to_identity(&q, &p) + distance_to_identity(&p, &q)
    }

    /// The matrix C, `[n, n]`; the bias is zero.
    pub fn matrix(&self) -> Affine {
        let n = self.nu_log.dims()[0];
        let rows = self.apply(Tensor::eye(n, &self.nu_log.val().device()).set_require_grad(false));
        Affine { n, matrix: wide(rows.transpose()), bias: vec![0.0; n] }
    }

    /// The identity: lambda = 1, P = I + i I, P_inv = I, so that Re(P P_inv) = I.
    #[cfg(test)]
    pub(super) fn identity(n: usize, device: &Device) -> Self {
        let eye = || Tensor::<2>::eye(n, device);
        let param = Param::from_tensor;
        Self {
            p_re: param(eye()),
            p_im: param(eye()),
            p_inv_re: param(eye()),
            p_inv_im: param(Tensor::zeros([n, n], device)),
            nu_log: Param::from_tensor(Tensor::full([n], -40.0, device)),
            theta_log: Param::from_tensor(Tensor::full([n], -40.0, device)),
        }
    }
}

/// Mean over the real 2n x 2n block form of (a b - I)^2: every entry of the complex product stands
/// there twice.
fn distance_to_identity(a: &(Tensor<2>, Tensor<2>), b: &(Tensor<2>, Tensor<2>)) -> Tensor<1> {
    let n = a.0.dims()[0];
    let eye = Tensor::eye(n, &a.0.device());
    let re = a.0.clone().matmul(b.0.clone()) - a.1.clone().matmul(b.1.clone()) - eye;
    let im = a.0.clone().matmul(b.1.clone()) + a.1.clone().matmul(b.0.clone());
    (re.square().sum() + im.square().sum()) / (2 * n * n) as f64
}

fn parameter<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(burn::tensor::TensorData::new(values, shape), device))
}

/// The orthonormal factor of a square matrix.
fn orthonormal_of(values: &[f64], n: usize) -> Vec<f64> {
    let q = Mat::from_fn(n, n, |i, j| values[i * n + j]).qr().compute_Q();
    (0..n * n).map(|k| q[(k / n, k % n)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consistency_vanishes_for_an_inverse() {
        let device = Device::flex();
        let op = Factorized::identity(5, &device);
        // P = I + i I has the inverse (I - i I) / 2.
        let half = |sign: f32| Param::from_tensor(Tensor::<2>::eye(5, &device) * (0.5 * sign));
        let op = Factorized { p_inv_re: half(1.0), p_inv_im: half(-1.0), ..op };
        assert!(op.consistency().into_scalar::<f32>() < 1e-12);
        let off = Factorized { p_inv_re: half(2.0), ..op };
        // (1 + i)(1 - i/2) = 1.5 + 0.5i on the diagonal: both products are off by 0.5 in five of 50
        // places.
        assert!((off.consistency().into_scalar::<f32>() - 0.1).abs() < 1e-6);
    }

    #[test]
    fn initial_spectrum_fills_the_disc() {
        let op = Factorized::init(400, &mut InitSeed::new(3), &Device::flex());
        let lambda = op.lambda();
        let radii: Vec<f64> = lambda.iter().map(|(re, im)| re.hypot(*im)).collect();
        assert!(radii.iter().all(|r| *r < 1.0));
        // sqrt(u) has mean 2/3 and variance 1/18: five standard errors.
        let mean = radii.iter().sum::<f64>() / 400.0;
        assert!((mean - 2.0 / 3.0).abs() < 5.0 / (18f64 * 400.0).sqrt(), "{mean}");
        let right = lambda.iter().filter(|(re, _)| *re > 0.0).count();
        assert!(right.abs_diff(200) < 50, "{right}");
    }
}
