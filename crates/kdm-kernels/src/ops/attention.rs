//! Self-attention over the pixels of an image (Vaswani et al., arXiv:1706.03762, equation 1):
//! softmax(q k^T / sqrt(depth)) v for every head. Residual blocks contain it.
//!
//! Channels of queries, keys and values `[N, 3C, H, W]` are read as (head, channel, [q, k, v]), as
//! NVlabs' U-Nets have them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::planes::part;

/// Queries, keys and values of all images' heads, `[N heads, depth, pixels]`, the queries divided
/// by sqrt(depth); and the weights `[N heads, pixels, pixels]`, a row a query.
struct Heads<B: Backend> {
    queries: FloatTensor<B>,
    keys: FloatTensor<B>,
    values: FloatTensor<B>,
    weights: FloatTensor<B>,
    /// 1 / sqrt(depth).
    factor: f64,
}

fn split<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> Heads<B> {
    let [n, channels, height, width] = qkv.shape().dims();
    let (depth, pixels) = (channels / 3 / heads, height * width);
    let qkv = B::float_reshape(qkv, Shape::new([n * heads, depth, 3, pixels]));
    let of = |i: usize| {
        let one = part::<B>(qkv.clone(), 2, i, i + 1);
        B::float_reshape(one, Shape::new([n * heads, depth, pixels]))
    };
    let factor = 1.0 / (depth as f64).sqrt();
    let queries = B::float_mul_scalar(of(0), factor.into());
    let keys = of(1);
    let products = B::float_matmul(B::float_swap_dims(queries.clone(), 1, 2), keys.clone());
    Heads { queries, keys, values: of(2), weights: B::softmax(products, 2), factor }
}

/// `[N, 3C, H, W]` -> `[N, C, H, W]`.
pub(crate) fn forward_plain<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let [n, channels, height, width] = qkv.shape().dims();
    let Heads { values, weights, .. } = split::<B>(qkv, heads);
    let mixed = B::float_matmul(values, B::float_swap_dims(weights, 1, 2));
    B::float_reshape(mixed, Shape::new([n, channels / 3, height, width]))
}

/// The gradient of [`forward_plain`]'s input from that of its result.
pub(crate) fn backward_plain<B: Backend>(
    qkv: FloatTensor<B>,
    grad: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    let shape = qkv.shape();
    let Heads { queries, keys, values, weights, factor } = split::<B>(qkv, heads);
    let [rows, depth, pixels] = values.shape().dims();
    let turned = |x: FloatTensor<B>| B::float_swap_dims(x, 1, 2);
    let grad = B::float_reshape(grad, Shape::new([rows, depth, pixels]));

    // The result is v w^T with w = softmax(s), s = q^T k.
    let to_values = B::float_matmul(grad.clone(), weights.clone());
    let to_weights = B::float_matmul(turned(grad), values);
    let along = B::float_sum_dim(B::float_mul(to_weights.clone(), weights.clone()), 2);
    let to_products = B::float_mul(weights, B::float_sub(to_weights, along));
    let to_queries = B::float_matmul(keys, turned(to_products.clone()));
    let to_queries = B::float_mul_scalar(to_queries, factor.into());
    let to_keys = B::float_matmul(queries, to_products);

    let one = |x: FloatTensor<B>| B::float_reshape(x, Shape::new([rows, depth, 1, pixels]));
    let all = B::float_cat(vec![one(to_queries), one(to_keys), one(to_values)], 2);
    B::float_reshape(all, shape)
}
