//! Matrix products of rows that lie anywhere with a matrix that is packed in panels: the loop that
//! convolutions, their gradients and attention are made of.
//!
//! A product keeps six rows by one panel of sums in registers (four vectors wide where there are 32
//! registers, else two). Each sum is taken in the order of the depth, in parts of [`DEPTH`]; it
//! does not depend on the other rows, so a row's bits are the same in any batch.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer_pool::{Scratch, scratch};
use super::simd::{dispatch, mul_add, vectorised};
use crate::ops::layout::CHANNEL_BLOCK;

/// Columns come in blocks of as many as channels do.
pub(crate) const BLOCK: usize = CHANNEL_BLOCK;
/// Depth that is worked on at a time: a panel's part stays in the first-level cache.
const DEPTH: usize = 128;

/// Vectors side by side in a panel: a block of columns at least.
#[inline(always)]
fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 || S::F32_LANES < 8 { 4 } else { 2 }
}

/// Columns of a full panel: 16 or 64.
fn panel_columns() -> usize {
    struct Columns;
    impl WithSimd for Columns {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            vectors::<S>() * S::F32_LANES
        }
    }
    dispatch(Columns)
}

/// A block of numbers side by side.
pub(crate) type Lanes = [f32; BLOCK];

/// Matrices `[depth, columns]` of one size, in panels of columns, each `[depth, panel]`; the last
/// one is as wide as it needs, in whole blocks of [`BLOCK`].
#[derive(Debug)]
pub(crate) struct Packed {
    values: Scratch,
    depth: usize,
    /// In whole blocks.
    columns: usize,
}

impl Packed {
    /// One matrix: `fill(k, first)` gives row k's block of columns from `first` on, 0 beyond the
    /// last column.
    pub fn new(depth: usize, columns: usize, fill: impl Fn(usize, usize) -> Lanes + Sync) -> Self {
        Self::together(1, depth, columns, |k, first, out| out[0] = fill(k, first))
    }

    /// The matrix whose row k is the numbers from `k * stride` on.
    pub fn from_rows(values: &[f32], stride: usize, depth: usize, columns: usize) -> Self {
        Self::new(depth, columns, |k, first| {
            let mut block = [0.0; BLOCK];
            let some = BLOCK.min(columns - first);
            block[..some].copy_from_slice(&values[k * stride + first..][..some]);
            block
        })
    }

    /// The matrix whose column j is the numbers from `j * stride` on.
    pub fn from_columns(values: &[f32], stride: usize, depth: usize, columns: usize) -> Self {
        Self::new(depth, columns, |k, first| {
            let mut block = [0.0; BLOCK];
            (0..BLOCK.min(columns - first))
                .for_each(|i| block[i] = values[(first + i) * stride + k]);
            block
        })
    }

    /// `count` matrices: `fill(k, first, out)` gives that block of each.
    pub fn together(
        count: usize,
        depth: usize,
        columns: usize,
        fill: impl Fn(usize, usize, &mut [Lanes]) + Sync,
    ) -> Self {
        const ROWS: usize = 16;
        let columns = columns.next_multiple_of(BLOCK);
        let mut values = scratch(count * depth * columns);
        let panel = panel_columns();
        // For each run of rows of a panel: its place, and the run in each matrix.
        let mut runs: Vec<(usize, usize, usize, Vec<&mut [f32]>)> = Vec::new();
        for first in (0..columns).step_by(panel) {
            let width = panel.min(columns - first);
            runs.extend(
                (0..depth).step_by(ROWS).map(|k| (first, width, k, Vec::with_capacity(count))),
            );
        }
        for mut matrix in values.chunks_exact_mut((depth * columns).max(1)) {
            for (_, width, k, parts) in &mut runs {
                let (part, rest) = matrix.split_at_mut(ROWS.min(depth - *k) * *width);
                parts.push(part);
                matrix = rest;
            }
        }
        runs.into_par_iter().for_each(|(first, width, k, mut parts)| {
            vectorised(
                #[inline(always)]
                || {
                    let mut blocks = vec![[0.0; BLOCK]; count];
                    for i in 0..parts[0].len() / width {
                        for j in (0..width).step_by(BLOCK) {
                            fill(k + i, first + j, &mut blocks);
                            for (part, block) in parts.iter_mut().zip(&blocks) {
                                part[i * width + j..].as_chunks_mut().0[0] = *block;
                            }
                        }
                    }
                },
            );
        });
        Self { values, depth, columns }
    }
}

/// Result row r = (the row itself, or 0) + the sum over taps and depth of
/// a[offsets[r] + tap + k] b[(tap, k)].
pub(crate) struct Product<'a> {
    pub a: &'a [f32],
    /// Where each row starts.
    pub offsets: &'a [usize],
    /// Distances from a row's start to runs of `depth` values.
    pub taps: &'a [usize],
    pub depth: usize,
    /// Of depth `taps * depth`.
    pub b: &'a Packed,
    /// Which of its matrices.
    pub matrix: usize,
    /// Result rows at distances of `stride`, which is at least the columns in whole blocks.
    pub c: &'a mut [f32],
    pub stride: usize,
    /// Whether the result is added to.
    pub add: bool,
}

impl Product<'_> {
    pub fn run(self) {
        debug_assert_eq!(self.b.depth, self.taps.len() * self.depth);
        dispatch(self);
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let panel = vectors::<S>() * S::F32_LANES;
        for first in (0..self.b.columns).step_by(panel) {
            let width = panel.min(self.b.columns - first);
            let matrix = &self.b.values[self.matrix * self.b.depth * self.b.columns..];
            let b = &matrix[first * self.b.depth..][..width * self.b.depth];
            match width / S::F32_LANES {
                1 => self.panel::<S, 1>(simd, first, b),
                2 => self.panel::<S, 2>(simd, first, b),
                3 => self.panel::<S, 3>(simd, first, b),
                _ => self.panel::<S, 4>(simd, first, b),
            }
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, first: usize, b: &[f32]) {
        let width = V * S::F32_LANES;
        let mut add = self.add;
        for (t, tap) in self.taps.iter().enumerate() {
            for k in (0..self.depth).step_by(DEPTH) {
                let part = DEPTH.min(self.depth - k);
                let b = S::as_simd_f32s(&b[(t * self.depth + k) * width..][..part * width]).0;
                let mut row = 0;
                while row < self.offsets.len() {
                    let offsets = &self.offsets[row..];
                    let c = &mut self.c[row * self.stride + first..];
                    let at = tap + k;
                    row += match offsets.len() {
                        6.. => {
                            tile::<S, 6, V>(simd, self.a, offsets, at, part, b, c, self.stride, add)
                        }
                        4 | 5 => {
                            tile::<S, 4, V>(simd, self.a, offsets, at, part, b, c, self.stride, add)
                        }
                        2 | 3 => {
                            tile::<S, 2, V>(simd, self.a, offsets, at, part, b, c, self.stride, add)
                        }
                        _ => {
                            tile::<S, 1, V>(simd, self.a, offsets, at, part, b, c, self.stride, add)
                        }
                    };
                }
                add = true;
            }
        }
    }
}

/// `R` rows by `V` vectors over a part of the depth; gives R.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: &[f32],
    offsets: &[usize],
    at: usize,
    depth: usize,
    b: &[S::f32s],
    c: &mut [f32],
    stride: usize,
    add: bool,
) -> usize {
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a[offsets[r] + at..][..depth]);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let (blocks, rest) = b[..depth * V].as_chunks::<V>().0.as_chunks::<BLOCK>();
    for (i, block) in blocks.iter().enumerate() {
        let rows: [&[f32; BLOCK]; R] =
            rows.map(|row| row[i * BLOCK..(i + 1) * BLOCK].try_into().expect("a block of values"));
        for k in 0..BLOCK {
            for r in 0..R {
                let x = simd.splat_f32s(rows[r][k]);
                for v in 0..V {
                    sums[r][v] = mul_add(simd, x, block[k][v], sums[r][v]);
                }
            }
        }
    }
    for (k, b) in rest.iter().enumerate() {
        for r in 0..R {
            let x = simd.splat_f32s(rows[r][blocks.len() * BLOCK + k]);
            for v in 0..V {
                sums[r][v] = mul_add(simd, x, b[v], sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let out = S::as_mut_simd_f32s(&mut c[r * stride..][..V * S::F32_LANES]).0;
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if add { simd.add_f32s(*out, *sum) } else { *sum };
        }
    }
    R
}

/// c[i, j] += sum over p of x[x_at[p] + i] * g[g_at[p] + j], for i below `x_width` and j below
/// `g_width`: the gradient of a product's matrix.
pub(crate) struct Outer<'a> {
    pub x: &'a [f32],
    pub x_at: &'a [usize],
    /// A multiple of [`BLOCK`].
    pub x_width: usize,
    pub g: &'a [f32],
    pub g_at: &'a [usize],
    /// A multiple of [`BLOCK`].
    pub g_width: usize,
    /// Rows at distances of `stride`.
    pub c: &'a mut [f32],
    pub stride: usize,
}

impl Outer<'_> {
    pub fn run(self) {
        debug_assert!(self.x_width.is_multiple_of(BLOCK) && self.g_width.is_multiple_of(BLOCK));
        dispatch(self);
    }
}

/// Numbers of either factor that are worked on at a time.
const OUTER_PART: usize = 4096;
/// Rows of sums kept in registers.
const OUTER_ROWS: usize = 4;

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let part = (OUTER_PART / self.x_width.max(self.g_width)).max(16);
        let panel = vectors::<S>() * S::F32_LANES;
        for first in (0..self.x_at.len()).step_by(part) {
            let end = (first + part).min(self.x_at.len());
            for j in (0..self.g_width).step_by(panel) {
                match panel.min(self.g_width - j) / S::F32_LANES {
                    1 => self.columns::<S, 1>(simd, first..end, j),
                    2 => self.columns::<S, 2>(simd, first..end, j),
                    3 => self.columns::<S, 3>(simd, first..end, j),
                    _ => self.columns::<S, 4>(simd, first..end, j),
                }
            }
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn columns<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        points: std::ops::Range<usize>,
        j: usize,
    ) {
        let (x_at, g_at) = (&self.x_at[points.clone()], &self.g_at[points]);
        for i in (0..self.x_width).step_by(OUTER_ROWS) {
            let mut sums = [[simd.splat_f32s(0.0); V]; OUTER_ROWS];
            for (x_at, g_at) in x_at.iter().zip(g_at) {
                let x: &[f32; OUTER_ROWS] =
                    self.x[x_at + i..][..OUTER_ROWS].try_into().expect("as many values as rows");
                let g: &[S::f32s; V] = S::as_simd_f32s(&self.g[g_at + j..][..V * S::F32_LANES])
                    .0
                    .try_into()
                    .expect("V vectors");
                for r in 0..OUTER_ROWS {
                    let x = simd.splat_f32s(x[r]);
                    for v in 0..V {
                        sums[r][v] = mul_add(simd, x, g[v], sums[r][v]);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let out = S::as_mut_simd_f32s(
                    &mut self.c[(i + r) * self.stride + j..][..V * S::F32_LANES],
                )
                .0;
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = simd.add_f32s(*out, *sum);
                }
            }
        }
    }
}
