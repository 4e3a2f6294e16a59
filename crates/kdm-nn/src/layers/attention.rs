//! Attention (Vaswani et al., arXiv:1706.03762, equation 1) over the pixels of images.

use burn::tensor::{Tensor, activation};

/// softmax(q^T k / sqrt(channels)) over keys, applied to v. All `[B, channels, pixels]`.
pub(crate) fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    let channels = q.dims()[1] as f64;
    let weights = activation::softmax((q / channels.sqrt()).swap_dims(1, 2).matmul(k), 2);
    v.matmul(weights.swap_dims(1, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use kdm_random::normal_vec;

    /// Attention's gradient with respect to queries, keys and values, against central differences.
    #[test]
    fn gradients_of_attention_equal_finite_differences() {
        let device = Device::flex().autodiff();
        let shape = [3, 4, 2, 6];
        let values = normal_vec(1, 144);
        let weights =
            Tensor::<3>::from_data(TensorData::new(normal_vec(2, 48), [4, 2, 6]), &device);
        let loss = |values: Vec<f32>| {
            let qkv =
                Tensor::<4>::from_data(TensorData::new(values, shape), &device).require_grad();
            let part = |i: usize| qkv.clone().slice([i..i + 1]).squeeze_dim::<3>(0);
            ((attention(part(0), part(1), part(2)) * weights.clone()).sum(), qkv)
        };
        let (value, qkv) = loss(values.clone());
        let grad = qkv.grad(&value.backward()).unwrap().into_data();
        let grad = grad.as_slice::<f32>().unwrap();
        for k in (0..144).step_by(5) {
            let moved = |delta: f32| {
                let mut values = values.clone();
                values[k] += delta;
                loss(values).0.into_scalar::<f32>()
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            // f32 rounds a sum of size 10 by 1e-6, over 2e-2; the third derivative times 1e-4 / 6.
            assert!((difference - grad[k]).abs() < 1e-3, "{k}: {difference} {}", grad[k]);
        }
    }
}
