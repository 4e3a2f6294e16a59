//! Operators on the levels of a latent, one matrix of channels a level, a place or a spatial
//! frequency: their cost grows with the pixels, not with the square of the latent's dimension
//! (after hierarchical Koopman diffusion, Bai et al., arXiv:2510.12220).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use kdm_nn::{Demand, InitSeed};

use super::affine::{Affine, Complex};
use super::cosine::{cosines, transform};
use super::eigen;
use crate::error::Result;
use crate::host::{narrow, values, wide};

/// A level of a latent: images `[channels, side, side]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentLevel {
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub side: usize,
}

impl LatentLevel {
    /// Places of an image.
    pub fn places(&self) -> usize {
        self.side.saturating_mul(self.side)
    }

    /// Values.
    pub fn dim(&self) -> usize {
        self.channels.saturating_mul(self.places())
    }
}

/// What has a matrix of its own at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelForm {
    /// The level: its matrix is shared over places, as in a 1x1 convolution.
    Shared,
    /// Each place.
    Places,
    /// Each spatial frequency, a coefficient of the two-dimensional orthonormal cosine transform
    /// (DCT-II).
    Frequencies,
}

/// C on a latent of levels, block-diagonal: at each level z^ = A z + b with matrices A of channels.
///
/// The levels follow each other in a flat latent, finest first; of a level the channels follow each
/// other, each an image by rows.
#[derive(Module, Debug)]
pub struct Levels {
    /// The operator of each level, finest first.
    pub levels: Vec<LevelOperator>,
}

/// The operator of a level.
#[derive(Module, Debug)]
pub struct LevelOperator {
    /// The matrices, `[1, c, c]` or one a place or frequency, `[places, c, c]`; row i gives channel
    /// i of the result.
    pub weight: Param<Tensor<3>>,
    /// b: `[c]` when shared over places, otherwise `[c places]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    level: LatentLevel,
    #[module(skip)]
    form: LevelForm,
}

impl Levels {
    /// Fresh weights: uniform in +-1/sqrt(c), as PyTorch's linear layer of c channels starts.
    pub fn init(
        form: LevelForm,
        levels: &[LatentLevel],
        seed: &mut InitSeed,
        device: &Device,
    ) -> Self {
        let of = |level: &LatentLevel| LevelOperator::init(form, *level, seed, device);
        Self { levels: levels.iter().map(of).collect() }
    }

    /// What it takes at a level.
    pub fn demand(form: LevelForm, level: &LatentLevel) -> Demand {
        let (c, places) = (level.channels as f64, level.places() as f64);
        let (matrices, biases) = match form {
            LevelForm::Shared => (1.0, c),
            LevelForm::Places | LevelForm::Frequencies => (places, c * places),
        };
        let transforms = match form {
            LevelForm::Shared | LevelForm::Places => 0.0,
            LevelForm::Frequencies => 8.0 * c * places * level.side as f64,
        };
        Demand {
            parameters: matrices * c * c + biases,
            operations: 2.0 * c * c * places + transforms,
            activations: c * places,
        }
    }

    /// The dimension of the latent.
    pub fn dim(&self) -> usize {
        self.levels.iter().map(|level| level.level.dim()).sum()
    }

    /// The device that its tensors lie on.
    pub fn device(&self) -> Device {
        self.levels[0].weight.val().device()
    }

    /// C z of every row: `[N, n]` -> `[N, n]`.
    pub fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        if let [only] = &self.levels[..] {
            return only.apply(z);
        }
        let (rows, mut start) = (z.dims()[0], 0);
        let level = |level: &LevelOperator| {
            let columns = start..start + level.level.dim();
            start = columns.end;
            level.apply(z.clone().slice([0..rows, columns]))
        };
        Tensor::cat(self.levels.iter().map(level).collect(), 1)
    }

    /// The matrix and the bias of all levels together. n x n numbers: for latents of some thousand
    /// values.
    pub fn matrix(&self) -> Affine {
        let n = self.dim();
        let (mut matrix, mut bias, mut start) = (vec![0.0; n * n], Vec::with_capacity(n), 0);
        for level in &self.levels {
            let part = level.matrix();
            for (i, row) in part.matrix.chunks_exact(part.n).enumerate() {
                let place = (start + i) * n + start;
                matrix[place..place + part.n].copy_from_slice(row);
            }
            bias.extend(part.bias);
            start += part.n;
        }
        Affine { n, matrix, bias }
    }

    /// The n eigenvalues, level by level.
    ///
    /// # Errors
    /// When a matrix has values that are not finite, or the computation doesn't converge.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        let mut all = Vec::with_capacity(self.dim());
        for level in &self.levels {
            let times = if level.form == LevelForm::Shared { level.level.places() } else { 1 };
            let distinct = level.eigenvalues()?;
            all.extend(distinct.iter().flat_map(|value| std::iter::repeat_n(*value, times)));
        }
        Ok(all)
    }
}

impl LevelOperator {
    fn init(form: LevelForm, level: LatentLevel, seed: &mut InitSeed, device: &Device) -> Self {
        let (c, places) = (level.channels, level.places());
        let (matrices, biases) = match form {
            LevelForm::Shared => (1, c),
            LevelForm::Places | LevelForm::Frequencies => (places, c * places),
        };
        let bound = 1.0 / (c as f64).sqrt();
        let mut uniform = |count: usize| -> Vec<f32> {
            let seed = seed.next_seed();
            let value = |i| (bound * (2.0 * kdm_random::uniform_f64(seed, i) - 1.0)) as f32;
            (0..count as u64).map(value).collect()
        };
        let weight = TensorData::new(uniform(matrices * c * c), [matrices, c, c]);
        let bias = TensorData::new(uniform(biases), [biases]);
        Self {
            weight: Param::from_tensor(Tensor::from_data(weight, device)),
            bias: Param::from_tensor(Tensor::from_data(bias, device)),
            level,
            form,
        }
    }

    /// Its level.
    pub fn level(&self) -> LatentLevel {
        self.level
    }

    /// What has a matrix of its own.
    pub fn form(&self) -> LevelForm {
        self.form
    }

    /// Of every row: `[N, c places]` -> `[N, c places]`.
    fn apply(&self, z: Tensor<2>) -> Tensor<2> {
        let (rows, LatentLevel { channels: c, side }) = (z.dims()[0], self.level);
        let places = side * side;
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if self.form == LevelForm::Shared {
            let columns = z.reshape([rows, c, places]).swap_dims(0, 1).reshape([c, rows * places]);
            let moved = weight.squeeze_dim::<2>(0).matmul(columns) + bias.reshape([c, 1]);
            return moved.reshape([c, rows, places]).swap_dims(0, 1).reshape([rows, c * places]);
        }
        let basis = (self.form == LevelForm::Frequencies).then(|| {
            let values = narrow(&cosines(side));
            Tensor::<2>::from_data(TensorData::new(values, [side, side]), &z.device())
        });
        let transformed = |z: Tensor<2>, basis: Tensor<2>| {
            let once = |images: Tensor<3>| {
                let lines = images.reshape([rows * c * side, side]).matmul(basis.clone());
                lines.reshape([rows * c, side, side]).swap_dims(1, 2)
            };
            once(once(z.reshape([rows * c, side, side]))).reshape([rows, c * places])
        };
        let z = match &basis {
            Some(basis) => transformed(z, basis.clone().transpose()),
            None => z,
        };
        let by_place = z.reshape([rows, c, places]).permute([2, 0, 1]);
        let moved = by_place.matmul(weight.swap_dims(1, 2));
        let moved = moved.permute([1, 2, 0]).reshape([rows, c * places]);
        let moved = match basis {
            Some(basis) => transformed(moved, basis),
            None => moved,
        };
        moved + bias.unsqueeze::<2>()
    }

    /// The matrix on all values of the level, and the bias.
    fn matrix(&self) -> Affine {
        let (n, c, places) = (self.level.dim(), self.level.channels, self.level.places());
        let weight = wide(self.weight.val());
        let mut matrix = vec![0.0; n * n];
        if self.form == LevelForm::Frequencies {
            let basis = cosines(self.level.side);
            let mut unit = vec![0.0; places];
            for place in 0..places {
                unit.fill(0.0);
                unit[place] = 1.0;
                let coefficients = transform(&unit, &basis, self.level.side, false);
                for (i, j) in (0..c).flat_map(|i| (0..c).map(move |j| (i, j))) {
                    let scaled = coefficients.iter().enumerate();
                    let scaled: Vec<f64> =
                        scaled.map(|(f, x)| x * weight[(f * c + i) * c + j]).collect();
                    let column = transform(&scaled, &basis, self.level.side, true);
                    for (to, value) in column.into_iter().enumerate() {
                        matrix[(i * places + to) * n + j * places + place] = value;
                    }
                }
            }
        } else {
            for (place, i) in (0..places).flat_map(|p| (0..c).map(move |i| (p, i))) {
                let block = if self.form == LevelForm::Shared { 0 } else { place };
                for j in 0..c {
                    let value = weight[(block * c + i) * c + j];
                    matrix[(i * places + place) * n + j * places + place] = value;
                }
            }
        }
        Affine { n, matrix, bias: self.whole_bias().into_iter().map(f64::from).collect() }
    }

    /// b of every value of the level.
    pub(super) fn whole_bias(&self) -> Vec<f32> {
        let bias = values(self.bias.val());
        let times = self.level.dim() / bias.len();
        bias.into_iter().flat_map(|b| std::iter::repeat_n(b, times)).collect()
    }

    /// The eigenvalues of its matrices: c when one is shared (each then counts once a place),
    /// otherwise all, place by place.
    ///
    /// # Errors
    /// When a matrix has values that are not finite, or the computation doesn't converge.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        let (c, weight) = (self.level.channels, wide(self.weight.val()));
        let mut all = Vec::with_capacity(weight.len() / c);
        for block in weight.chunks_exact(c * c) {
            all.extend(eigen::eigenvalues(block, c)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frozen_levels::FrozenLevels;
    use super::*;
    use proptest::prelude::*;

    const FORMS: [LevelForm; 3] = [LevelForm::Shared, LevelForm::Places, LevelForm::Frequencies];

    fn operator(form: LevelForm, seed: u64) -> Levels {
        let level = |channels, side| LatentLevel { channels, side };
        let levels = [level(2, 4), level(3, 2), level(5, 1)];
        Levels::init(form, &levels, &mut InitSeed::new(seed), &Device::flex())
    }

    fn latents(seed: u64, rows: usize, n: usize) -> (Vec<f32>, Tensor<2>) {
        let values = kdm_random::normal_vec(seed, rows * n);
        let data = TensorData::new(values.clone(), [rows, n]);
        (values, Tensor::from_data(data, &Device::flex()))
    }

    fn off(a: &[f32], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Applying, the matrix, and what samples with are one map, on several levels; rows don't
        /// see each other.
        #[test]
        fn all_ways_are_one_map(seed in 0u64..1000, form in proptest::sample::select(&FORMS[..])) {
            let op = operator(form, seed);
            let n = 2 * 16 + 3 * 4 + 5;
            prop_assert_eq!(op.dim(), n);
            let (z, tensor) = latents(seed + 1, 3, n);
            let applied = values(op.apply(tensor));
            let frozen = FrozenLevels::new(&op);
            let run = frozen.run(&z);
            let affine = op.matrix();
            for (i, z) in z.chunks(n).enumerate() {
                let wide: Vec<f64> = z.iter().map(|x| f64::from(*x)).collect();
                let expected = affine.apply(&wide);
                // f32 rounding of sums of products of size 1.
                prop_assert!(off(&applied[i * n..(i + 1) * n], &expected) < 1e-5);
                prop_assert!(off(&run[i * n..(i + 1) * n], &expected) < 1e-5);
                prop_assert_eq!(&frozen.run(z), &run[i * n..(i + 1) * n]);
            }
        }
    }

    /// The eigenvalues found block by block are those of the whole matrix: of a matrix with given
    /// eigenvalues its trace and the trace of its square are their sum and the sum of their
    /// squares, level by level as well.
    #[test]
    fn eigenvalues_are_the_matrixs() {
        for form in FORMS {
            let op = operator(form, 7);
            let affine = op.matrix();
            let (n, a) = (affine.n, &affine.matrix);
            let found = op.eigenvalues().unwrap();
            assert_eq!(found.len(), n);
            let sum: f64 = found.iter().map(|(re, _)| re).sum();
            let squares: f64 = found.iter().map(|(re, im)| re * re - im * im).sum();
            let trace: f64 = (0..n).map(|i| a[i * n + i]).sum();
            let of_square: f64 =
                (0..n).flat_map(|i| (0..n).map(move |j| a[i * n + j] * a[j * n + i])).sum();
            // f64 throughout; the orthonormal transform drops out.
            assert!((sum - trace).abs() < 1e-9, "{form:?} {sum} {trace}");
            assert!((squares - of_square).abs() < 1e-9, "{form:?} {squares} {of_square}");
        }
    }

    #[test]
    fn parameters_and_demand() {
        for (form, matrices, biases) in [
            (LevelForm::Shared, [1, 1, 1], [2, 3, 5]),
            (LevelForm::Places, [16, 4, 1], [32, 12, 5]),
            (LevelForm::Frequencies, [16, 4, 1], [32, 12, 5]),
        ] {
            let op = operator(form, 1);
            let shapes = op.levels.iter().map(|l| (l.weight.dims()[0], l.bias.dims()[0]));
            let expected: Vec<(usize, usize)> = matrices.into_iter().zip(biases).collect();
            assert_eq!(shapes.collect::<Vec<_>>(), expected);
            let demand: Demand = op.levels.iter().map(|l| Levels::demand(form, &l.level)).sum();
            assert_eq!(demand.parameters, op.num_params() as f64);
        }
    }
}
