//! Small things that plain bodies share, on images `[N, C, H, W]`.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice, TensorData};

/// Values of a channel, `[C]`, as `[1, C, 1, 1]`.
pub(crate) fn by_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let c = values.shape().num_elements();
    B::float_reshape(values, Shape::new([1, c, 1, 1]))
}

/// The sums over pixels, `[N, C, 1]`.
fn pixel_sums<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, h, w] = x.shape().dims();
    B::float_sum_dim(B::float_reshape(x, Shape::new([n, c, h * w])), 2)
}

/// The sums over pixels, `[N, C]`.
pub(crate) fn image_sums<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, _, _] = x.shape().dims();
    B::float_reshape(pixel_sums::<B>(x), Shape::new([n, c]))
}

/// The sums over images and pixels, `[C]`.
pub(crate) fn channel_sums<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let c = x.shape()[1];
    B::float_reshape(B::float_sum_dim(pixel_sums::<B>(x), 0), Shape::new([c]))
}

/// Columns `first` to `end` of a dimension.
pub(crate) fn part<B: Backend>(
    x: FloatTensor<B>,
    dim: usize,
    first: usize,
    end: usize,
) -> FloatTensor<B> {
    let slice = |i: usize, size: usize| {
        let (a, b) = if i == dim { (first, end) } else { (0, size) };
        Slice::new(a as isize, Some(b as isize), 1)
    };
    let slices: Vec<Slice> =
        x.shape().iter().enumerate().map(|(i, size)| slice(i, *size)).collect();
    B::float_slice(x, &slices)
}

/// Constants on the device of `like`, of its type.
pub(crate) fn constants<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    like: &FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(values, shape).convert_dtype(like.dtype()), &like.device())
}
