//! Running a network on host rows in blocks of one size.
//!
//! Matrix products of different sizes may round differently. Cut into equal blocks, the last one
//! filled up with zeros, a row's answer has the same bits whatever batch it came in.

use burn::tensor::{Device, Tensor, TensorData};

/// Points a block.
pub const BLOCK: usize = 256;
/// Images a block.
pub const IMAGES: usize = 8;

/// Rows of `width` values each.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values, row by row.
    pub values: &'a [f32],
    /// Values a row.
    pub width: usize,
}

/// `network` over all rows of the inputs (all with as many rows as the first), [`BLOCK`] at a time;
/// its answers row by row.
pub fn in_blocks<const N: usize>(
    inputs: [Rows; N],
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    run(inputs, BLOCK, device, network)
}

/// [`in_blocks`] for images, [`IMAGES`] at a time.
pub fn in_image_blocks<const N: usize>(
    inputs: [Rows; N],
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    run(inputs, IMAGES, device, network)
}

fn run<const N: usize>(
    inputs: [Rows; N],
    block_rows: usize,
    device: &Device,
    network: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<f32> {
    let rows = inputs[0].values.len() / inputs[0].width;
    let mut out = Vec::new();
    for start in (0..rows).step_by(block_rows) {
        let end = (start + block_rows).min(rows);
        let tensors = inputs.map(|input| {
            let mut block = input.values[start * input.width..end * input.width].to_vec();
            block.resize(block_rows * input.width, 0.0);
            Tensor::from_data(TensorData::new(block, [block_rows, input.width]), device)
        });
        let answer = network(tensors);
        let width = answer.dims()[1];
        let values = answer.try_into_vec_as::<f32>().expect("networks compute in f32");
        out.extend_from_slice(&values[..(end - start) * width]);
    }
    out
}
