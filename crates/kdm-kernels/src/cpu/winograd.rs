//! The transforms of Winograd's F(4x4, 3x3): sixteen outputs of a 3x3 convolution from 36 products
//! instead of 144 (Lavin and Gray, arXiv:1509.09308, section 4; interpolation at 0, 1, -1, 2, -2
//! and infinity).
//!
//! A tile of 4x4 outputs is y = A^T [(G w G^T) * (B^T d B)] A with d the 6x6 pixels that it sees.
//! All transforms work on vectors of channels. Gradients are those of the same formula, so they are
//! exact too.

use pulp::{Simd, WithSimd};

use super::gemm::{BLOCK, Lanes, Packed};
use super::simd::{minus_mul, mul_add};

/// Products a tile.
pub(crate) const PRODUCTS: usize = 36;
/// Side of a tile of outputs.
pub(crate) const TILE: usize = 4;

/// Rows or columns of B^T d.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let (two, four, five) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(5.0));
    let minus = |a, x, c| minus_mul(simd, a, x, c);
    let even = minus(four, d[2], d[4]);
    let odd = minus(four, d[1], d[3]);
    let (outer, inner) = (simd.sub_f32s(d[4], d[2]), simd.sub_f32s(d[3], d[1]));
    [
        mul_add(simd, four, d[0], minus(five, d[2], d[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        mul_add(simd, two, inner, outer),
        minus(two, inner, outer),
        mul_add(simd, four, d[1], minus(five, d[3], d[5])),
    ]
}

/// Rows or columns of A^T m.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (two, four, eight) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(8.0));
    let (s, d) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (wide, slope) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(s, wide)),
        mul_add(simd, two, slope, d),
        mul_add(simd, four, wide, s),
        simd.add_f32s(m[5], mul_add(simd, eight, slope, d)),
    ]
}

/// Rows or columns of A g.
#[inline(always)]
fn gradient<S: Simd>(simd: S, g: [S::f32s; 4]) -> [S::f32s; 6] {
    let (two, four) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0));
    let (even, odd) = (simd.add_f32s(g[0], g[2]), simd.add_f32s(g[1], g[3]));
    let wide = mul_add(simd, four, g[2], g[0]);
    let slope = simd.mul_f32s(two, mul_add(simd, four, g[3], g[1]));
    [
        g[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(wide, slope),
        simd.sub_f32s(wide, slope),
        g[3],
    ]
}

/// What lies where: a product's tiles start at distances of `depth`, products at distances of
/// `plane`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes {
    /// Channels, padded.
    pub depth: usize,
    /// Distance from a product to the next.
    pub plane: usize,
}

impl Planes {
    /// For `tiles` tiles. Products are kept from lying at distances of a power of two, which would
    /// share cache lines.
    pub fn new(depth: usize, tiles: usize) -> Self {
        Self { depth, plane: depth * tiles + BLOCK }
    }

    /// Numbers of all products.
    pub fn size(self) -> usize {
        self.plane * PRODUCTS
    }
}

/// B^T d B of tiles whose 6x6 pixels start at `tiles`, in rows of `row` numbers.
pub(crate) struct InputTransform<'a> {
    pub frames: &'a [f32],
    pub tiles: &'a [usize],
    pub row: usize,
    /// Distance between neighbouring pixels.
    pub pixel: usize,
    pub planes: Planes,
    pub out: &'a mut [f32],
}

impl WithSimd for InputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { frames, tiles, row, pixel, planes, out } = self;
        for (t, start) in tiles.iter().enumerate() {
            for c in (0..planes.depth).step_by(S::F32_LANES) {
                let mut columns = [[simd.splat_f32s(0.0); 6]; 6];
                for (x, column) in columns.iter_mut().enumerate() {
                    *column = input(
                        simd,
                        std::array::from_fn(|y| load::<S>(frames, start + y * row + x * pixel + c)),
                    );
                }
                for y in 0..6 {
                    let products = input(simd, std::array::from_fn(|x| columns[x][y]));
                    for (x, product) in products.into_iter().enumerate() {
                        store::<S>(out, (y * 6 + x) * planes.plane + t * planes.depth + c, product);
                    }
                }
            }
        }
    }
}

/// Where a tile's outputs go: their first pixel in the result, and how many rows and columns of
/// them are in the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub start: usize,
    pub rows: usize,
    pub columns: usize,
}

/// A^T m A of tiles, plus the bias, plus what is added.
pub(crate) struct OutputTransform<'a> {
    pub products: &'a [f32],
    pub planes: Planes,
    pub places: &'a [Place],
    /// Distance from a row of the result to the next; pixels are at distances of the products'
    /// depth.
    pub row: usize,
    pub bias: Option<&'a [f32]>,
    /// Added to the result: of the result's shape, and its factor.
    pub more: Option<(&'a [f32], f32)>,
    pub out: &'a mut [f32],
}

impl WithSimd for OutputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { products, planes, places, row, bias, more, out } = self;
        for (t, place) in places.iter().enumerate() {
            for c in (0..planes.depth).step_by(S::F32_LANES) {
                let mut columns = [[simd.splat_f32s(0.0); 4]; 6];
                for (x, column) in columns.iter_mut().enumerate() {
                    let at = |y: usize| (y * 6 + x) * planes.plane + t * planes.depth + c;
                    *column = output(simd, std::array::from_fn(|y| load::<S>(products, at(y))));
                }
                let bias = bias.map_or(simd.splat_f32s(0.0), |bias| load::<S>(bias, c));
                for y in 0..place.rows {
                    let sums = output(simd, std::array::from_fn(|x| columns[x][y]));
                    for (x, sum) in sums.into_iter().enumerate().take(place.columns) {
                        let at = place.start + y * row + x * planes.depth + c;
                        let mut sum = simd.add_f32s(sum, bias);
                        if let Some((more, factor)) = more {
                            sum = mul_add(simd, simd.splat_f32s(factor), load::<S>(more, at), sum);
                        }
                        store::<S>(out, at, sum);
                    }
                }
            }
        }
    }
}

/// A g A^T of tiles of gradients, 0 outside the image.
pub(crate) struct GradientTransform<'a> {
    pub grads: &'a [f32],
    pub places: &'a [Place],
    pub row: usize,
    pub planes: Planes,
    pub out: &'a mut [f32],
}

impl WithSimd for GradientTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { grads, places, row, planes, out } = self;
        for (t, place) in places.iter().enumerate() {
            for c in (0..planes.depth).step_by(S::F32_LANES) {
                let mut columns = [[simd.splat_f32s(0.0); 6]; 4];
                for (x, column) in columns.iter_mut().enumerate().take(place.columns) {
                    let mut pixels = [simd.splat_f32s(0.0); 4];
                    for (y, pixel) in pixels.iter_mut().enumerate().take(place.rows) {
                        *pixel = load::<S>(grads, place.start + y * row + x * planes.depth + c);
                    }
                    *column = gradient(simd, pixels);
                }
                for y in 0..6 {
                    let products = gradient(simd, std::array::from_fn(|x| columns[x][y]));
                    for (x, product) in products.into_iter().enumerate() {
                        store::<S>(out, (y * 6 + x) * planes.plane + t * planes.depth + c, product);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0]
}

#[inline(always)]
fn store<S: Simd>(values: &mut [f32], at: usize, value: S::f32s) {
    S::as_mut_simd_f32s(&mut values[at..at + S::F32_LANES]).0[0] = value;
}

/// Three numbers of a kernel's row or column times G.
#[inline(always)]
fn weights(w: [Lanes; 3]) -> [Lanes; 6] {
    let mut g = [[0.0; BLOCK]; 6];
    for i in 0..BLOCK {
        let (outer, inner) = (w[0][i] + w[2][i], w[1][i]);
        let (wide, slope) = (w[0][i] / 24.0 + w[2][i] / 6.0, inner / 12.0);
        g[0][i] = w[0][i] / 4.0;
        g[1][i] = -(outer + inner) / 6.0;
        g[2][i] = (inner - outer) / 6.0;
        g[3][i] = wide + slope;
        g[4][i] = wide - slope;
        g[5][i] = w[2][i];
    }
    g
}

/// G^T of six numbers.
#[inline(always)]
fn weight_gradients(u: [Lanes; 6]) -> [Lanes; 3] {
    let mut w = [[0.0; BLOCK]; 3];
    for i in 0..BLOCK {
        let (near, far) = (u[1][i] + u[2][i], u[3][i] + u[4][i]);
        w[0][i] = u[0][i] / 4.0 - near / 6.0 + far / 24.0;
        w[1][i] = (u[2][i] - u[1][i]) / 6.0 + (u[3][i] - u[4][i]) / 12.0;
        w[2][i] = (far - near) / 6.0 + u[5][i];
    }
    w
}

/// G w G^T of 16 kernels: nine taps to 36 products.
#[inline(always)]
pub(crate) fn kernel_transform(taps: &[Lanes; 9], mut each: impl FnMut(usize, &Lanes)) {
    let columns: [[Lanes; 6]; 3] =
        std::array::from_fn(|x| weights(std::array::from_fn(|y| taps[y * 3 + x])));
    for y in 0..6 {
        let products = weights(std::array::from_fn(|x| columns[x][y]));
        products.iter().enumerate().for_each(|(x, product)| each(y * 6 + x, product));
    }
}

/// G^T u G: the gradients of 16 kernels from those of their 36 products.
#[inline(always)]
pub(crate) fn kernel_gradient(products: &[Lanes; PRODUCTS]) -> [Lanes; 9] {
    let columns: [[Lanes; 3]; 6] =
        std::array::from_fn(|x| weight_gradients(std::array::from_fn(|y| products[y * 6 + x])));
    let mut taps = [[0.0; BLOCK]; 9];
    for y in 0..3 {
        let row = weight_gradients(std::array::from_fn(|x| columns[x][y]));
        taps[y * 3..y * 3 + 3].copy_from_slice(&row);
    }
    taps
}

/// The 36 packed matrices `[inputs, outputs]` of a kernel, whose nine weights of (output, input)
/// are `weights`.
pub(crate) fn pack(
    inputs: usize,
    padded_inputs: usize,
    outputs: usize,
    weights: impl Fn(usize, usize) -> [f32; 9] + Sync,
) -> Packed {
    Packed::together(PRODUCTS, padded_inputs, outputs, |k, first, out| {
        let mut taps = [[0.0; BLOCK]; 9];
        if k < inputs {
            for i in 0..BLOCK.min(outputs - first) {
                let weights = weights(first + i, k);
                (0..9).for_each(|t| taps[t][i] = weights[t]);
            }
        }
        kernel_transform(&taps, |p, product| out[p] = *product);
    })
}
