//! Tensors of the CPU backend as slices, and back.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape, TensorData};
use burn_flex::FlexTensor;

use super::memory::zeros;

/// Whether the loops take these tensors; they are of f32, and some of it.
pub(crate) fn fits(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && t.shape().num_elements() > 0)
}

/// The tensor of f32 as one dense block in row-major order, copied only when it is a strided view.
pub(crate) fn dense(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.shape().num_elements() * size_of::<f32>();
    if whole { tensor } else { tensor.to_contiguous() }
}

/// A tensor of these values.
pub(crate) fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A tensor of zeros.
pub(crate) fn zero_tensor(shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(zeros(shape.num_elements()), shape))
}
