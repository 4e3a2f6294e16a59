//! The dense operator: z^ = A z + b, one linear layer.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use kdm_nn::{InitSeed, Linear, LinearConfig};

use super::Affine;

/// A full n x n matrix with bias.
#[derive(Module, Debug)]
pub struct Dense {
    /// A as `[n, n]` (row i gives number i of z^) and b.
    pub linear: Linear,
}

impl Dense {
    /// Fresh weights, as PyTorch's linear layer starts.
    pub fn init(n: usize, seed: &mut InitSeed, device: &Device) -> Self {
        Self { linear: LinearConfig { inputs: n, outputs: n }.init(seed, device) }
    }

    /// The operator of these numbers.
    pub fn of(affine: &Affine, device: &Device) -> Self {
        let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let weight = TensorData::new(narrow(&affine.matrix), [affine.n, affine.n]);
        let bias = TensorData::new(narrow(&affine.bias), [affine.n]);
        let parameter = Param::from_tensor(Tensor::from_data(weight, device));
        Self {
            linear: Linear {
                weight: parameter,
                bias: Some(Param::from_tensor(Tensor::from_data(bias, device))),
            },
        }
    }

    /// A z + b for every row of `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        self.linear.forward(z)
    }

    /// A and b.
    pub fn matrix(&self) -> Affine {
        let n = self.linear.weight.dims()[0];
        let bias = self.linear.bias.as_ref().map_or_else(|| vec![0.0; n], |bias| host(bias.val()));
        Affine { n, matrix: host(self.linear.weight.val()), bias }
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

/// A tensor's values as f64.
pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let data = tensor.into_data_dtype(DType::F32);
    data.as_slice::<f32>().expect("cast to f32 above").iter().map(|x| f64::from(*x)).collect()
}
