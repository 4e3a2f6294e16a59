//! The distance d between samples.

use burn::module::Module;
use burn::tensor::Tensor;
use kdm_nn::Perceptual;

use super::config::Reconstruction;

/// c of the pseudo-Huber distance (paper).
pub const HUBER_C: f64 = 0.03;

/// The distance d between rows of samples.
#[derive(Clone, Debug)]
pub struct Distance {
    kind: Reconstruction,
    perceptual: Option<Perceptual>,
    shape: Vec<usize>,
}

impl Distance {
    /// The distance `kind` between samples of `shape`. The perceptual kinds need their network, and
    /// images that it sees: LPIPS those of one or three channels and sides of at least 16.
    pub fn new(kind: Reconstruction, perceptual: Option<Perceptual>, shape: &[usize]) -> Self {
        Self { kind, perceptual, shape: shape.to_vec() }
    }

    /// d, averaged: `[N, dim]` each -> one number.
    pub fn between(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
        let squares = || (a.clone() - b.clone()).square();
        match self.kind {
            Reconstruction::L2 => squares().mean(),
            Reconstruction::Huber => ((squares() + HUBER_C * HUBER_C).sqrt() - HUBER_C).mean(),
            Reconstruction::Lpips => self.perceptual(a, b),
            Reconstruction::L2Lpips | Reconstruction::L2Features => {
                squares().mean() + self.perceptual(a, b)
            }
        }
    }

    /// The same outside autodiff.
    pub fn valid(&self) -> Self {
        let perceptual = self.perceptual.as_ref().map(|network| network.valid());
        Self { perceptual, ..self.clone() }
    }

    /// Rows `[N, dim]` as the images `[N, C, H, W]` that they are.
    pub(super) fn images(&self, rows: Tensor<2>) -> Tensor<4> {
        let [channels, height, width] = self.shape[..] else {
            unreachable!("perceptual distances and discriminators are of images")
        };
        let n = rows.dims()[0];
        rows.reshape([n, channels, height, width])
    }

    fn perceptual(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
        self.perceptual
            .as_ref()
            .expect("given with the perceptual kinds")
            .forward(self.images(a), self.images(b))
            .mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::rows;
    use burn::tensor::Device;
    use kdm_random::normal_vec;

    #[test]
    fn distances_by_hand() {
        let device = Device::flex();
        let a = rows(normal_vec(1, 2), 2, &device);
        let b = a.clone() + 0.04;
        let value = |kind| {
            let distance = Distance::new(kind, None, &[2]);
            f64::from(distance.between(a.clone(), b.clone()).into_scalar::<f32>())
        };
        assert!((value(Reconstruction::L2) - 0.0016).abs() < 1e-7);
        assert!((value(Reconstruction::Huber) - 0.02).abs() < 1e-6);
    }
}
