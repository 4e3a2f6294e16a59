//! Products of affine layers, on the packed panels of convolutions.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::buffer_pool::{Scratch, scratch};
use super::flex::{dense, fits, from_values, zero_tensor};
use super::gemm::{BLOCK, Outer, Packed, Product};
use super::simd::vectorised;
use crate::ops::layout::padded;
use crate::ops::linear::{
    column_sums_plain, forward_plain, input_gradient_plain, weight_gradient_plain,
};

/// Rows that a task works on.
const ROWS: usize = 96;

/// Rows of x times a packed matrix, a task's worth at a time; `also` gets them with the same rows
/// of `more`.
pub(crate) fn rows_times(
    x: &[f32],
    depth: usize,
    matrix: &Packed,
    columns: usize,
    y: &mut [f32],
    more: &mut [f32],
    also: impl Fn(&mut [f32], &mut [f32]) + Sync,
) {
    let stride = padded(columns);
    let count = y.len() / columns;
    let task = ROWS.min(count.div_ceil(rayon::current_num_threads()).next_multiple_of(6));
    let mut parts = more.chunks_mut(task * columns);
    let parts: Vec<&mut [f32]> =
        (0..count.div_ceil(task)).map(|_| parts.next().unwrap_or_default()).collect();
    let rows = y.par_chunks_mut(task * columns).zip(x.par_chunks(task * depth));
    rows.zip(parts).for_each(|((y, x), more)| {
        let offsets: Vec<usize> = (0..x.len() / depth).map(|row| row * depth).collect();
        let product = |c: &mut [f32]| {
            Product {
                a: x,
                offsets: &offsets,
                taps: &[0],
                depth,
                b: matrix,
                matrix: 0,
                c,
                stride,
                add: false,
            }
            .run();
        };
        if stride == columns {
            product(y);
        } else {
            let mut sums = scratch(offsets.len() * stride);
            product(&mut sums);
            for (y, sums) in y.chunks_exact_mut(columns).zip(sums.chunks_exact(stride)) {
                y.copy_from_slice(&sums[..columns]);
            }
        }
        also(y, more);
    });
}

/// x weight^T into `y`, and while its rows are in the cache `also(rows, the same rows of more)`.
/// All dense.
pub(crate) fn products(
    x: &FlexTensor,
    weight: &FlexTensor,
    y: &mut [f32],
    more: &mut [f32],
    also: impl Fn(&mut [f32], &mut [f32]) + Sync,
) {
    let [outputs, inputs] = weight.shape().dims();
    let matrix = Packed::from_columns(weight.storage(), inputs, inputs, outputs);
    rows_times(x.storage(), inputs, &matrix, outputs, y, more, also);
}

pub(crate) fn forward(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    if !fits(&[&x, &weight]) {
        return forward_plain::<Flex>(x, weight);
    }
    let (x, weight) = (dense(x), dense(weight));
    let mut y = zero_tensor(Shape::new([x.shape()[0], weight.shape()[0]]));
    products(&x, &weight, y.storage_mut(), &mut [], |_, _| {});
    y
}

pub(crate) fn input_gradient(grad: FlexTensor, weight: FlexTensor) -> FlexTensor {
    if !fits(&[&grad, &weight]) {
        return input_gradient_plain::<Flex>(grad, weight);
    }
    let (grad, weight) = (dense(grad), dense(weight));
    let [outputs, inputs] = weight.shape().dims();
    let matrix = Packed::from_rows(weight.storage(), inputs, outputs, inputs);
    let mut dx = zero_tensor(Shape::new([grad.shape()[0], inputs]));
    rows_times(grad.storage(), outputs, &matrix, inputs, dx.storage_mut(), &mut [], |_, _| {});
    dx
}

/// Rows padded to whole blocks; none when they are already.
fn padded_rows(rows: &[f32], width: usize) -> Option<Scratch> {
    let to = padded(width);
    (to != width).then(|| {
        let mut out = scratch(rows.len() / width * to);
        out.par_chunks_mut(64 * to).zip(rows.par_chunks(64 * width)).for_each(|(out, rows)| {
            for (out, row) in out.chunks_exact_mut(to).zip(rows.chunks_exact(width)) {
                out[..width].copy_from_slice(row);
                out[width..].fill(0.0);
            }
        });
        out
    })
}

pub(crate) fn weight_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
    if !fits(&[&x, &grad]) {
        return weight_gradient_plain::<Flex>(x, grad);
    }
    let (x, grad) = (dense(x), dense(grad));
    let ([count, inputs], [_, outputs]) = (x.shape().dims(), grad.shape().dims());
    let (x, grad): (&[f32], &[f32]) = (x.storage(), grad.storage());
    let (padded_x, padded_grad) = (padded_rows(x, inputs), padded_rows(grad, outputs));
    let (x, grad) = (padded_x.as_deref().unwrap_or(x), padded_grad.as_deref().unwrap_or(grad));
    let (width, height) = (padded(inputs), padded(outputs));
    let x_at: Vec<usize> = (0..count).map(|row| row * width).collect();
    let grad_at: Vec<usize> = (0..count).map(|row| row * height).collect();
    let mut sums = vec![0.0; height * width];
    let task = height.div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK);
    sums.par_chunks_mut(task * width).enumerate().for_each(|(i, sums)| {
        Outer {
            x: &grad[i * task..],
            x_at: &grad_at,
            x_width: sums.len() / width,
            g: x,
            g_at: &x_at,
            g_width: width,
            c: sums,
            stride: width,
        }
        .run();
    });
    if width != inputs {
        sums = sums.chunks_exact(width).flat_map(|row| row[..inputs].iter().copied()).collect();
    }
    sums.truncate(outputs * inputs);
    from_values(sums, [outputs, inputs])
}

pub(crate) fn column_sums(x: FlexTensor) -> FlexTensor {
    if !fits(&[&x]) {
        return column_sums_plain::<Flex>(x);
    }
    let x = dense(x);
    let width = x.shape()[1];
    // Runs of a fixed number of rows, then the runs in order: the same bits on any number of
    // threads.
    let runs = |rows: &[f32]| {
        let mut sums = vec![0.0f32; width];
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
            },
        );
        sums
    };
    let parts: Vec<Vec<f32>> = x.storage::<f32>().par_chunks(256 * width).map(runs).collect();
    let total = |c: usize| parts.iter().map(|part| f64::from(part[c])).sum::<f64>() as f32;
    from_values((0..width).map(total).collect(), [width])
}
