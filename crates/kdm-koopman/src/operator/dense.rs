//! The dense operator: z^ = A z + b, one linear layer.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::{InitSeed, Linear, LinearConfig};

use super::affine::Affine;
use crate::host::{narrow, wide};

/// A full n x n matrix with bias: z^_0 = A z_T + b (the paper's C as a linear layer, which is
/// affine).
#[derive(Module, Debug)]
pub struct Dense {
    /// A as `[n, n]` (row i gives dimension i of z^_0) and b `[n]`.
    pub linear: Linear,
}

impl Dense {
    /// Fresh weights, as PyTorch's linear layer starts: uniform in +-1/sqrt(n).
    pub fn init(n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        Self { linear: LinearConfig { inputs: n, outputs: n }.init(seed, device) }
    }

    /// The operator of these numbers, rounded to f32.
    pub fn of(affine: &Affine, device: &Device) -> Self {
        let weight = TensorData::new(narrow(&affine.matrix), [affine.n, affine.n]);
        let bias = TensorData::new(narrow(&affine.bias), [affine.n]);
        Self {
            linear: Linear {
                weight: Param::from_tensor(Tensor::from_data(weight, device)),
                bias: Some(Param::from_tensor(Tensor::from_data(bias, device))),
            },
        }
    }

    /// A z + b of every row: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        self.linear.forward(z)
    }

    /// A and b.
    pub fn matrix(&self) -> Affine {
        let n = self.linear.weight.dims()[0];
        let bias = self.linear.bias.as_ref().map_or_else(|| vec![0.0; n], |bias| wide(bias.val()));
        Affine { n, matrix: wide(self.linear.weight.val()), bias }
    }

    #[cfg(test)]
    pub(super) fn identity(n: usize, device: &Device) -> Self {
        let (weight, bias) = (Tensor::eye(n, device), Tensor::zeros([n], device));
        Self {
            linear: Linear {
                weight: Param::from_tensor(weight),
                bias: Some(Param::from_tensor(bias)),
            },
        }
    }
}
