//! The distance of the directions of activations, which perceptual distances are made of (Zhang et
//! al., arXiv:1801.03924, equation 1).

use burn::tensor::Tensor;

/// Keeps a zero activation's direction finite.
const EPSILON: f64 = 1e-10;

/// Squared distance of the directions of two activations `[N, C, H, W]`, place by place: weighted
/// by channel (`[1, C, 1, 1]`), summed over channels and averaged over places: `[N]`.
pub(crate) fn direction_distance(
    a: Tensor<4>,
    b: Tensor<4>,
    weight: Option<Tensor<4>>,
) -> Tensor<1> {
    let unit = |x: Tensor<4>| {
        let length = x.clone().square().sum_dim(1).sqrt();
        x / (length + EPSILON)
    };
    let [n, c, h, w] = a.dims();
    let squares = (unit(a) - unit(b)).square();
    let squares = match weight {
        Some(weight) => squares * weight,
        None => squares,
    };
    squares.reshape([n, c * h * w]).sum_dim(1).squeeze_dim::<1>(1) / (h * w) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// Directions (1, 0) and (0.6, 0.8) are sqrt(0.8) apart, whatever their lengths; weights 1 and
    /// 2 make 0.16 + 2 * 0.64.
    #[test]
    fn directions_are_compared_place_by_place() {
        let device = Device::flex();
        let of = |x: [f32; 4]| {
            Tensor::<4>::from_data(TensorData::new(x.to_vec(), [1, 2, 1, 2]), &device)
        };
        let (a, b) = (of([3.0, 1.0, 0.0, 1.0]), of([0.6, 2.0, 0.8, 2.0]));
        let weight =
            Tensor::<4>::from_data(TensorData::new(vec![1.0f32, 2.0], [1, 2, 1, 1]), &device);
        let found = |weight| direction_distance(a.clone(), b.clone(), weight).into_scalar::<f32>();
        assert!((found(None) - 0.4).abs() < 1e-6, "{}", found(None));
        assert!((found(Some(weight.clone())) - 0.72).abs() < 1e-6);
    }
}
