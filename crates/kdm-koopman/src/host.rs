//! Between host arrays and tensors.

use burn::tensor::{Device, Tensor, TensorData};

/// A tensor's values.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("students compute in f32")
}

/// A tensor's values as f64.
pub(crate) fn wide<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// Values in single precision.
pub(crate) fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}

/// Rows of `width` values (at least 1) as a tensor `[rows, width]`.
pub(crate) fn rows(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let count = values.len() / width;
    Tensor::from_data(TensorData::new(values, [count, width]), device)
}
