//! Running a network on host rows in batches of one fixed size.
//!
//! Matrix products of different sizes may round differently. Cut into batches of one size, the last
//! one filled up with zeros, a row's answer has the same bits whatever other rows it came with.

use burn::tensor::{Device, Tensor, TensorData};

use crate::state::to_host;

/// Rows (points, latents) a batch of [`in_batches`].
pub const ROWS_PER_BATCH: usize = 256;
/// Images a batch of [`in_image_batches`].
pub const IMAGES_PER_BATCH: usize = 8;

/// Rows of `width` values each.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values, row by row; their number is a multiple of `width`.
    pub values: &'a [f32],
    /// Values a row, at least 1.
    pub width: usize,
}

/// `network` over all rows of the inputs (all with as many rows as the first), [`ROWS_PER_BATCH`]
/// at a time; its answers row by row. `network` is given `[ROWS_PER_BATCH, width]` of each input
/// and answers with as many rows, of any width.
pub fn in_batches<const N: usize>(
    inputs: [Rows; N],
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    run(inputs, ROWS_PER_BATCH, device, network)
}

/// [`in_batches`] for rows that are images, [`IMAGES_PER_BATCH`] at a time.
pub fn in_image_batches<const N: usize>(
    inputs: [Rows; N],
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    run(inputs, IMAGES_PER_BATCH, device, network)
}

fn run<const N: usize>(
    inputs: [Rows; N],
    batch_rows: usize,
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    let rows = inputs[0].values.len() / inputs[0].width;
    let mut out = Vec::new();
    for start in (0..rows).step_by(batch_rows) {
        let end = (start + batch_rows).min(rows);
        let tensors = inputs.map(|input| {
            let mut batch = input.values[start * input.width..end * input.width].to_vec();
            batch.resize(batch_rows * input.width, 0.0);
            Tensor::from_data(TensorData::new(batch, [batch_rows, input.width]), device)
        });
        let answer = network(tensors);
        let width = answer.dims()[1];
        out.extend_from_slice(&to_host(answer)[..(end - start) * width]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InitSeed, LinearConfig};

    #[test]
    fn a_rows_answer_has_the_same_bits_in_any_batch() {
        let device = Device::flex();
        let layer = LinearConfig { inputs: 19, outputs: 5 }.init(&mut InitSeed::new(1), &device);
        let answer = |values: &[f32]| {
            in_batches([Rows { values, width: 19 }], &device, |[x]| layer.forward(x))
        };
        let values = kdm_random::normal_vec(2, 300 * 19);
        let all = answer(&values);
        assert_eq!(all.len(), 300 * 5);
        for row in [0, 255, 256, 299] {
            let alone = answer(&values[row * 19..(row + 1) * 19]);
            assert_eq!(alone, all[row * 5..(row + 1) * 5]);
        }
        assert!(answer(&[]).is_empty());
    }
}
