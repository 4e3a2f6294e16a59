//! The modes of a Koopman operator: eigenvalues with right and left eigenvectors, how much each
//! carries, what is left of the operator when only the leading ones are kept, and its powers.
//!
//! With A = V diag(lambda) W, W = V^-1, an operator's step is z -> A z + b = sum_i lambda_i
//! phi_i(z) v_i + b, where phi_i(z) = w_i z are the Koopman eigenfunctions on the latent and v_i
//! the modes.

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, c64};
use kdm_koopman::operator::{Affine, Complex};
use kdm_koopman::{Decomposition, Error, LowRank};

use crate::Result;

/// One mode: a real eigenvalue, or a pair of conjugate ones, whose contribution to a real latent is
/// real.
#[derive(Clone, Debug, PartialEq)]
pub struct Mode {
    /// The eigenvalue; of a pair the one with positive imaginary part.
    pub eigenvalue: Complex,
    /// Its place among the eigenvalues (of a pair the first's).
    place: usize,
}

impl Mode {
    /// Eigenvalues that make the mode: 1 or 2.
    pub fn size(&self) -> usize {
        if self.eigenvalue.1 == 0.0 { 1 } else { 2 }
    }
}

/// All modes of an operator on latents of dimension n.
///
/// ```
/// use kdm_analysis::Modes;
/// use kdm_koopman::operator::Affine;
///
/// // Twice as long and turned by a right angle: the eigenvalues 2i and -2i, one mode.
/// let turn = Affine { n: 2, matrix: vec![0.0, -2.0, 2.0, 0.0], bias: vec![0.0; 2] };
/// let modes = Modes::of(&turn)?;
/// assert_eq!(modes.modes().len(), 1);
/// let (re, im) = modes.modes()[0].eigenvalue;
/// assert!(re.abs() < 1e-12 && (im - 2.0).abs() < 1e-12);
/// // Half of the step is a turn by 45 degrees, sqrt(2) as long.
/// let half = modes.flow(&[1.0, 0.0], &[], 0.5);
/// assert!((half[0] - 1.0).abs() < 1e-6 && (half[1] - 1.0).abs() < 1e-6);
/// # Ok::<(), kdm_analysis::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Modes {
    n: usize,
    bias: Vec<f64>,
    /// Largest modulus first.
    modes: Vec<Mode>,
    /// One right eigenvector a mode, of length 1, in columns.
    right: Mat<c64>,
    /// The left ones, in rows: w_i v_j = 1 where i = j, else 0.
    left: Mat<c64>,
}

/// How an operator's directions share and disturb each other.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Conditioning {
    /// Largest singular value: the most by which it stretches a latent (its Lipschitz constant).
    pub norm: f64,
    /// Largest over smallest singular value; infinite for a singular matrix.
    pub condition: f64,
    /// Henrici's departure from normality over the Frobenius norm, sqrt(1 - sum |lambda|^2 /
    /// |A|_F^2): 0 for a normal matrix.
    pub departure: f64,
    /// Median and largest condition number |w_i| |v_i| of an eigenvalue: 1 for a normal matrix.
    pub eigenvalue_condition: (f64, f64),
}

fn failed(decomposition: Decomposition, n: usize) -> Error {
    Error::NoConvergence { decomposition, n }
}

/// The length of a vector; none when it is not finite.
fn length_of(values: impl Iterator<Item = c64>) -> Option<f64> {
    Some(values.map(|x| x.re * x.re + x.im * x.im).sum::<f64>().sqrt())
        .filter(|length| length.is_finite())
}

/// The places of values, the largest first; of equal ones the first.
pub fn largest_first(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order
}

/// The principal power lambda^t, 0 at 0 (t above 0).
fn power(lambda: c64, t: f64) -> c64 {
    let modulus = lambda.re.hypot(lambda.im);
    if modulus == 0.0 {
        return c64::new(0.0, 0.0);
    }
    let (r, angle) = (modulus.powf(t), t * lambda.im.atan2(lambda.re));
    c64::new(r * angle.cos(), r * angle.sin())
}

impl Modes {
    /// The modes of an operator: 25 n^3 operations or so, and eight n x n matrices of f64 at most
    /// at a time.
    ///
    /// # Errors
    /// When values are not finite, or eigenvectors are linearly dependent
    /// ([`Error::NoEigenvectors`]).
    pub fn of(affine: &Affine) -> Result<Self> {
        let n = affine.n;
        if !affine.is_finite() {
            return Err(Error::NotFinite.into());
        }
        let eigen = Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j])
            .eigen()
            .map_err(|_| failed(Decomposition::Eigenvectors, n))?;
        let lambda: Vec<c64> = (0..n).map(|i| eigen.S()[i]).collect();
        let mut order: Vec<usize> = (0..n).filter(|i| lambda[*i].im >= 0.0).collect();
        let modulus = |i: &usize| lambda[*i].re.hypot(lambda[*i].im);
        order.sort_by(|a, b| modulus(b).total_cmp(&modulus(a)).then(a.cmp(b)));
        let v = eigen.U();
        // Lengths of 1; a pair's second vector is the first's conjugate.
        let inverse = v.partial_piv_lu().inverse();
        let mut right = Mat::<c64>::zeros(n, order.len());
        let mut left = Mat::<c64>::zeros(order.len(), n);
        for (k, i) in order.iter().enumerate() {
            let length = length_of((0..n).map(|j| v[(j, *i)])).unwrap_or(1.0);
            (0..n).for_each(|j| {
                right[(j, k)] = v[(j, *i)] * (1.0 / length);
                left[(k, j)] = inverse[(*i, j)] * length;
            });
        }
        // Where two vectors are one, the inverse is as large as rounding allows, or not finite.
        if (0..order.len())
            .any(|k| !length_of((0..n).map(|j| left[(k, j)])).is_some_and(|l| l < 1e13))
        {
            return Err(Error::NoEigenvectors { n }.into());
        }
        let modes = order
            .iter()
            .enumerate()
            .map(|(place, i)| Mode { eigenvalue: (lambda[*i].re, lambda[*i].im), place });
        Ok(Self { n, bias: affine.bias.clone(), modes: modes.collect(), right, left })
    }

    /// The modes, largest eigenvalue first.
    pub fn modes(&self) -> &[Mode] {
        &self.modes
    }

    /// phi(z) of every mode, for rows z of dimension n: column r is row r's.
    fn eigenfunctions(&self, latents: &[f32]) -> Mat<c64> {
        let rows = latents.len() / self.n;
        let z =
            Mat::from_fn(self.n, rows, |j, r| c64::new(f64::from(latents[r * self.n + j]), 0.0));
        &self.left * &z
    }

    /// The eigenfunction of one mode, phi(z), for rows z of dimension n.
    pub fn eigenfunction(&self, mode: &Mode, latents: &[f32]) -> Vec<Complex> {
        let value = |z: &[f32]| {
            let terms =
                z.iter().enumerate().map(|(j, z)| (self.left[(mode.place, j)], f64::from(*z)));
            terms.fold((0.0, 0.0), |sum, (w, z)| (sum.0 + w.re * z, sum.1 + w.im * z))
        };
        latents.chunks_exact(self.n).map(value).collect()
    }

    /// The direction of a mode in the latent space: the real vector along which a latent moves when
    /// its coordinate grows at `phase` (radians; 0 for the eigenvector's real part, a quarter turn
    /// for its imaginary part), of length 1.
    pub fn direction(&self, mode: &Mode, phase: f64) -> Vec<f64> {
        let (cos, sin) = (phase.cos(), phase.sin());
        let values: Vec<f64> = (0..self.n)
            .map(|j| {
                let v = self.right[(j, mode.place)];
                v.re * cos - v.im * sin
            })
            .collect();
        let length = values.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        values.into_iter().map(|x| x / length).collect()
    }

    /// What each mode carries on real latents (rows z_T): the deviation of its contribution 2
    /// Re(lambda phi(z) v) (Re for a real one) to the pushed latent from its mean, as a root mean
    /// square over rows.
    pub fn amplitudes(&self, latents: &[f32]) -> Vec<f64> {
        let phi = self.eigenfunctions(latents);
        let rows = phi.ncols();
        let amplitude = |mode: &Mode| {
            let k = mode.place;
            let (l, double) = (
                c64::new(mode.eigenvalue.0, mode.eigenvalue.1),
                (mode.size() * mode.size()) as f64,
            );
            let mean = (0..rows).fold(c64::new(0.0, 0.0), |sum, r| sum + phi[(k, r)])
                * (1.0 / rows as f64);
            // |Re(c v)|^2 = (|c|^2 |v|^2 + Re(c^2 v.v)) / 2, v.v without conjugation.
            let product = (0..self.n)
                .fold(c64::new(0.0, 0.0), |sum, j| sum + self.right[(j, k)] * self.right[(j, k)]);
            let square = |r: usize| {
                let c = l * (phi[(k, r)] - mean);
                let turned = c * c * product;
                0.5 * (c.re * c.re + c.im * c.im + turned.re)
            };
            (double * (0..rows).map(square).sum::<f64>() / rows as f64).max(0.0).sqrt()
        };
        self.modes.iter().map(amplitude).collect()
    }

    /// The modes' places, the one that carries most on `latents` first.
    pub fn ranked(&self, latents: &[f32]) -> Vec<usize> {
        largest_first(&self.amplitudes(latents))
    }

    /// The operator with only the modes at these places, as a map of low rank.
    pub fn low_rank(&self, kept: &[usize]) -> LowRank {
        let rank: usize = kept.iter().map(|k| self.modes[*k].size()).sum();
        let n = self.n;
        let (mut down, mut middle, mut up) =
            (vec![0.0; rank * n], vec![0.0; rank * rank], vec![0.0; n * rank]);
        let mut at = 0;
        for mode in kept.iter().map(|k| &self.modes[*k]) {
            let (place, (a, b)) = (mode.place, mode.eigenvalue);
            middle[at * rank + at] = a;
            for j in 0..n {
                down[at * n + j] = self.left[(place, j)].re;
                up[j * rank + at] = mode.size() as f64 * self.right[(j, place)].re;
            }
            // lambda phi v + its conjugate, phi = y_1 + i y_2: 2 (a y_1 - b y_2) Re v - 2 (b y_1 +
            // a y_2) Im v.
            if mode.size() == 2 {
                middle[at * rank + at + 1] = -b;
                middle[(at + 1) * rank + at] = b;
                middle[(at + 1) * rank + at + 1] = a;
                for j in 0..n {
                    down[(at + 1) * n + j] = self.left[(place, j)].im;
                    up[j * rank + at + 1] = -2.0 * self.right[(j, place)].im;
                }
            }
            at += mode.size();
        }
        LowRank { n, rank, down, middle, up }
    }

    /// The operator with only the modes at these places; the others give what they give the mean
    /// latent, so that nothing but their deviations is lost.
    pub fn truncated(&self, kept: &[usize], mean: &[f64]) -> Affine {
        let n = self.n;
        let full = self.low_rank(&(0..self.modes.len()).collect::<Vec<usize>>()).apply(mean);
        let low = self.low_rank(kept);
        let left = low.apply(mean);
        let bias = (0..n).map(|i| self.bias[i] + full[i] - left[i]).collect();
        Affine { n, matrix: low.matrix(), bias }
    }

    /// Eigenvalues on the negative real axis, where there is no principal logarithm: a fractional
    /// power of such a mode is complex, and its real part |lambda|^t cos(pi t) is taken.
    pub fn without_logarithm(&self) -> usize {
        self.modes.iter().filter(|mode| mode.eigenvalue.1 == 0.0 && mode.eigenvalue.0 < 0.0).count()
    }

    /// Latents after a part `t` (0 to 1) of the operator's step, for rows z_T and rows `shift` that
    /// are added in a whole step beside the bias (a control's; empty for none): the flow z(t) = A^t
    /// z + (A^t - I)(A - I)^-1 (b + shift), which is z at 0 and the operator's step at 1. Powers
    /// are principal ones; see [`Self::without_logarithm`].
    pub fn flow(&self, latents: &[f32], shift: &[f32], t: f64) -> Vec<f32> {
        if t == 0.0 {
            return latents.to_vec();
        }
        let n = self.n;
        let rows = latents.len() / n;
        let z = self.eigenfunctions(latents);
        let shifts: Vec<f32> = (0..rows * n)
            .map(|i| (self.bias[i % n] + shift.get(i).copied().map_or(0.0, f64::from)) as f32)
            .collect();
        let beta = self.eigenfunctions(&shifts);
        let mut moved = Mat::<c64>::zeros(self.modes.len(), rows);
        for mode in &self.modes {
            let lambda = c64::new(mode.eigenvalue.0, mode.eigenvalue.1);
            let to_t = power(lambda, t);
            let gap = lambda - c64::new(1.0, 0.0);
            let part = if gap.re.hypot(gap.im) < 1e-9 {
                c64::new(t, 0.0)
            } else {
                (to_t - c64::new(1.0, 0.0)) / gap
            };
            let k = mode.place;
            (0..rows).for_each(|r| {
                moved[(k, r)] = (to_t * z[(k, r)] + part * beta[(k, r)]) * mode.size() as f64
            });
        }
        let back = &self.right * &moved;
        (0..rows * n).map(|i| back[(i % n, i / n)].re as f32).collect()
    }

    /// See [`Conditioning`]; `affine` is the operator that these are the modes of.
    ///
    /// # Errors
    /// When the singular values can't be found.
    pub fn conditioning(&self, affine: &Affine) -> Result<Conditioning> {
        let n = self.n;
        let matrix = Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j]);
        let singular = matrix.singular_values().map_err(|_| failed(Decomposition::Svd, n))?;
        let (largest, smallest) = (singular[0], singular[n - 1]);
        let squares: f64 = affine.matrix.iter().map(|x| x * x).sum();
        let of_modes: f64 = self
            .modes
            .iter()
            .map(|m| m.size() as f64 * (m.eigenvalue.0.powi(2) + m.eigenvalue.1.powi(2)))
            .sum();
        let mut conditions: Vec<f64> = (0..self.modes.len())
            .map(|k| length_of((0..n).map(|j| self.left[(k, j)])).unwrap_or(f64::INFINITY))
            .collect();
        conditions.sort_by(f64::total_cmp);
        Ok(Conditioning {
            norm: largest,
            condition: largest / smallest,
            departure: if squares > 0.0 { (1.0 - of_modes / squares).max(0.0).sqrt() } else { 0.0 },
            eigenvalue_condition: (
                conditions[conditions.len() / 2],
                conditions[conditions.len() - 1],
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// Row-major `[rows, inner]` times `[inner, columns]`.
    fn product(a: &[f64], b: &[f64], inner: usize, columns: usize) -> Vec<f64> {
        let rows = a.len() / inner;
        let of = |x: &[f64], height: usize, width: usize| {
            Mat::from_fn(height, width, |i, j| x[i * width + j])
        };
        let c = of(a, rows, inner) * of(b, inner, columns);
        (0..rows * columns).map(|i| c[(i / columns, i % columns)]).collect()
    }

    /// A random operator, of modulus below 1.
    fn random(n: usize) -> Affine {
        let matrix: Vec<f64> = normal_vec(1, n * n)
            .into_iter()
            .map(|x| 0.8 * f64::from(x) / (n as f64).sqrt())
            .collect();
        Affine { n, matrix, bias: normal_vec(2, n).into_iter().map(f64::from).collect() }
    }

    fn step(affine: &Affine, z: &[f32]) -> Vec<f64> {
        let n = affine.n;
        let row = |i: usize, z: &[f32]| {
            affine.bias[i] + (0..n).map(|j| affine.matrix[i * n + j] * f64::from(z[j])).sum::<f64>()
        };
        z.chunks(n).flat_map(|z| (0..n).map(|i| row(i, z)).collect::<Vec<f64>>()).collect()
    }

    fn off(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> f64 {
        a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    /// All modes make the operator; a part of them is a projection of it that commutes with it.
    #[test]
    fn modes_make_the_operator() {
        let affine = random(31);
        let modes = Modes::of(&affine).unwrap();
        assert_eq!(modes.modes().iter().map(Mode::size).sum::<usize>(), 31);
        let all: Vec<usize> = (0..modes.modes().len()).collect();
        let whole = modes.truncated(&all, &vec![0.0; 31]);
        assert!(
            off(whole.matrix, affine.matrix.clone()) < 1e-12
                && off(whole.bias, affine.bias.clone()) == 0.0
        );
        let part = modes.low_rank(&[0, 2, 5]).matrix();
        let (ab, ba) =
            (product(&part, &affine.matrix, 31, 31), product(&affine.matrix, &part, 31, 31));
        assert!(off(ab, ba) < 1e-12);
    }

    /// Truncated, the mean latent is pushed to the same place.
    #[test]
    fn truncation_keeps_the_mean() {
        let affine = random(12);
        let modes = Modes::of(&affine).unwrap();
        let mean = normal_vec(5, 12);
        let wide: Vec<f64> = mean.iter().map(|x| f64::from(*x)).collect();
        for kept in [vec![], vec![1, 3]] {
            let part = modes.truncated(&kept, &wide);
            assert!(off(step(&part, &mean), step(&affine, &mean)) < 1e-12);
        }
    }

    /// diag(3, 1) on latents that vary by 1 and 9 in its two coordinates: the second mode carries
    /// more.
    #[test]
    fn amplitudes_by_hand() {
        let affine = Affine { n: 2, matrix: vec![3.0, 0.0, 0.0, 1.0], bias: vec![0.0; 2] };
        let modes = Modes::of(&affine).unwrap();
        let latents = [101.0, 9.0, 99.0, -9.0];
        assert!(off(modes.amplitudes(&latents), [3.0, 9.0]) < 1e-12);
        assert_eq!(modes.ranked(&latents), [1, 0]);
        // A rotation by a quarter turn, twice as long: one pair, which carries the whole deviation.
        let turn = Affine { n: 2, matrix: vec![0.0, -2.0, 2.0, 0.0], bias: vec![0.0; 2] };
        let modes = Modes::of(&turn).unwrap();
        assert_eq!(modes.modes().len(), 1);
        assert!(off(modes.amplitudes(&[1.0, 0.0, -1.0, 0.0]), [2.0]) < 1e-12);
        assert!(
            off([modes.direction(&modes.modes()[0], 0.3).iter().map(|x| x * x).sum()], [1.0])
                < 1e-12
        );
    }

    /// The flow is z at 0, the step at 1, and two halves are a whole; for a positive operator also
    /// in between: half of a rotation by a right angle is one of 45 degrees.
    #[test]
    fn flows_compose() {
        let affine = random(9);
        let modes = Modes::of(&affine).unwrap();
        let (z, shift) = (normal_vec(3, 27), normal_vec(4, 27));
        assert_eq!(modes.flow(&z, &shift, 0.0), z);
        let expected = step(&affine, &z).into_iter().zip(&shift).map(|(z, s)| z + f64::from(*s));
        let wide = |x: Vec<f32>| x.into_iter().map(f64::from);
        assert!(off(wide(modes.flow(&z, &shift, 1.0)), expected) < 1e-5);
        if modes.without_logarithm() == 0 {
            let half = modes.flow(&z, &shift, 0.5);
            assert!(
                off(wide(modes.flow(&half, &shift, 0.5)), wide(modes.flow(&z, &shift, 1.0))) < 1e-5
            );
        }
        let turn =
            Modes::of(&Affine { n: 2, matrix: vec![0.0, -1.0, 1.0, 0.0], bias: vec![0.0; 2] })
                .unwrap();
        let half = 0.5f64.sqrt();
        assert!(off(wide(turn.flow(&[1.0, 0.0], &[], 0.5)), [half, half]) < 1e-6);
        assert_eq!(turn.without_logarithm(), 0);
        // A pure shift moves evenly; a negative eigenvalue has no real root.
        let shift = Modes::of(&Affine { n: 1, matrix: vec![1.0], bias: vec![4.0] }).unwrap();
        assert!(off(wide(shift.flow(&[1.0], &[], 0.25)), [2.0]) < 1e-6);
        let negative = Modes::of(&Affine { n: 1, matrix: vec![-1.0], bias: vec![0.0] }).unwrap();
        assert_eq!(negative.without_logarithm(), 1);
        assert!(off(wide(negative.flow(&[1.0], &[], 0.5)), [0.0]) < 1e-6);
    }

    /// A symmetric matrix is normal; [[1, 1], [0, 2]] has singular values with sum of squares 6,
    /// product 2, and eigenvalues whose squares add up to 5; its eigenvalues' condition is sqrt(2).
    #[test]
    fn conditioning_by_hand() {
        let of = |matrix: Vec<f64>| {
            let affine = Affine { n: 2, matrix, bias: vec![0.0; 2] };
            Modes::of(&affine).unwrap().conditioning(&affine).unwrap()
        };
        let normal = of(vec![2.0, 1.0, 1.0, 3.0]);
        assert!(normal.departure < 1e-7 && off([normal.eigenvalue_condition.1], [1.0]) < 1e-12);
        let found = of(vec![1.0, 1.0, 0.0, 2.0]);
        let largest = (3.0 + 5.0f64.sqrt()).sqrt();
        assert!(off([found.norm, found.condition], [largest, largest * largest / 2.0]) < 1e-12);
        assert!(
            off(
                [found.departure, found.eigenvalue_condition.1],
                [(1.0f64 / 6.0).sqrt(), 2.0f64.sqrt()]
            ) < 1e-12
        );
    }

    #[test]
    fn what_has_no_modes_is_an_error() {
        let of = |matrix: Vec<f64>| Modes::of(&Affine { n: 2, matrix, bias: vec![0.0; 2] });
        assert!(of(vec![f64::NAN, 0.0, 0.0, 1.0]).unwrap_err().to_string().contains("finite"));
        assert!(
            of(vec![0.0, 1.0, 0.0, 0.0]).is_err_and(|e| matches!(
                e,
                crate::Error::Operator(Error::NoEigenvectors { n: 2 })
            ) && e.to_string().contains("basis"))
        );
    }
}
