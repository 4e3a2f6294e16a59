//! Extended dynamic mode decomposition (Williams, Kevrekidis and Rowley, J. Nonlinear Sci. 25,
//! 2015): the Koopman operator of a map, on functions of a dictionary, by least squares over pairs
//! of points and their images.
//!
//! The dictionary holds products of Hermite polynomials up to a degree, orthonormal for standard
//! normal points, so that on noise the least squares are well conditioned.

use faer::Mat;
use faer::linalg::solvers::SolveLstsqCore;
use kdm_koopman::operator::Complex;
use kdm_koopman::{Decomposition, Error};

use crate::Result;

/// Polynomials of `dim` variables of degree up to `degree`, lowest degrees first.
#[derive(Clone, Debug)]
pub struct Dictionary {
    dim: usize,
    /// Each function's degree in each variable.
    exponents: Vec<Vec<usize>>,
}

impl Dictionary {
    /// All products of Hermite polynomials of total degree up to `degree`.
    pub fn polynomials(dim: usize, degree: usize) -> Self {
        fn extend(dim: usize, left: usize, head: &[usize], all: &mut Vec<Vec<usize>>) {
            if dim == 1 {
                return all.push([head, &[left]].concat());
            }
            for first in (0..=left).rev() {
                extend(dim - 1, left - first, &[head, &[first]].concat(), all);
            }
        }
        let mut exponents = Vec::new();
        (0..=degree).for_each(|total| extend(dim, total, &[], &mut exponents));
        Self { dim, exponents }
    }

    /// Functions in it.
    pub fn len(&self) -> usize {
        self.exponents.len()
    }

    /// Whether there are none; never so.
    pub fn is_empty(&self) -> bool {
        self.exponents.is_empty()
    }

    /// The values of all functions at rows of points: `[points, functions]`.
    pub fn at(&self, points: &[f64]) -> Mat<f64> {
        let most = self.exponents.iter().flatten().copied().max().unwrap_or(0);
        // h_0 = 1, h_1 = x, h_(k+1) = (x h_k - sqrt(k) h_(k-1)) / sqrt(k+1).
        let hermite = |x: f64| {
            let mut h = vec![1.0, x];
            for k in 1..most {
                h.push((x * h[k] - (k as f64).sqrt() * h[k - 1]) / ((k + 1) as f64).sqrt());
            }
            h
        };
        let rows: Vec<Vec<f64>> = points
            .chunks_exact(self.dim)
            .map(|point| {
                let h: Vec<Vec<f64>> = point.iter().map(|x| hermite(*x)).collect();
                let value = |e: &Vec<usize>| e.iter().zip(&h).map(|(k, h)| h[*k]).product();
                self.exponents.iter().map(value).collect()
            })
            .collect();
        Mat::from_fn(rows.len(), self.len(), |i, j| rows[i][j])
    }
}

/// The least-squares solution B of X B = Y; X has at least as many rows as columns.
fn least_squares(x: &Mat<f64>, y: &Mat<f64>) -> Mat<f64> {
    let mut solution = y.clone();
    let columns = x.ncols();
    x.qr().solve_lstsq_in_place_with_conj(faer::Conj::No, solution.as_mut());
    solution.subrows(0, columns).to_owned()
}

/// The least-squares approximation of a map on a dictionary, fitted on one set of points.
#[derive(Clone, Debug)]
pub struct Edmd {
    dictionary: Dictionary,
    /// From functions at x to functions at the image.
    koopman: Mat<f64>,
    /// From functions at x to the image's coordinates.
    coordinates: Mat<f64>,
}

impl Edmd {
    /// Of points and their images, rows of equal numbers; more rows than the dictionary has
    /// functions.
    pub fn fit(dictionary: Dictionary, from: &[f64], to: &[f64]) -> Self {
        let (x, y) = (dictionary.at(from), dictionary.at(to));
        let koopman = least_squares(&x, &y);
        let points = Mat::from_fn(x.nrows(), dictionary.dim, |i, j| to[i * dictionary.dim + j]);
        let coordinates = least_squares(&x, &points);
        Self { dictionary, koopman, coordinates }
    }

    /// Eigenvalues of the operator on the dictionary, largest modulus first. For an affine map
    /// these are all products of its linear part's eigenvalues up to the degree, exactly.
    ///
    /// # Errors
    /// When they can't be found.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        let mut found: Vec<Complex> = self
            .koopman
            .eigenvalues()
            .map_err(|_| Error::NoConvergence {
                decomposition: Decomposition::Eigenvalues,
                n: self.dictionary.len(),
            })?
            .into_iter()
            .map(|l| (l.re, l.im))
            .collect();
        found.sort_by(|a, b| b.0.hypot(b.1).total_cmp(&a.0.hypot(a.1)));
        Ok(found)
    }

    /// The images that the dictionary predicts: rows of coordinates.
    pub fn predict(&self, from: &[f64]) -> Vec<f64> {
        rows(&(self.dictionary.at(from) * &self.coordinates))
    }
}

fn rows(x: &Mat<f64>) -> Vec<f64> {
    let width = x.ncols();
    (0..x.nrows() * width).map(|i| x[(i / width, i % width)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    fn normal(seed: u64, count: usize) -> Vec<f64> {
        normal_vec(seed, count).into_iter().map(f64::from).collect()
    }

    /// Functions are orthonormal for normal points (to the noise of 40 000 samples), and (d + 2)(d
    /// + 1) / 2 in the plane.
    #[test]
    fn polynomials_are_orthonormal() {
        let dictionary = Dictionary::polynomials(2, 3);
        assert_eq!(dictionary.len(), 10);
        let n = 40_000;
        let values = dictionary.at(&normal(1, 2 * n));
        let gram = values.transpose() * &values;
        for i in 0..10 {
            for j in 0..10 {
                let expected = if i == j { 1.0 } else { 0.0 };
                // Variances of products of third degree reach 30: four deviations are 0.11.
                assert!(
                    (gram[(i, j)] / n as f64 - expected).abs() < 0.12,
                    "{i} {j}: {}",
                    gram[(i, j)] / n as f64
                );
            }
        }
    }

    /// A linear map's Koopman operator on polynomials of degree 3 has the products of its
    /// eigenvalues, and its image is met.
    #[test]
    fn linear_maps_have_products_of_eigenvalues() {
        let (a, b) = (0.9, -0.4);
        let from = normal(2, 600);
        // Eigenvectors (1, 1) and (1, -2), a shift besides.
        let map = |p: &[f64]| {
            let (u, v) = ((2.0 * p[0] + p[1]) / 3.0, (p[0] - p[1]) / 3.0);
            [a * u + b * v + 0.3, a * u - 2.0 * b * v - 0.1]
        };
        let to: Vec<f64> = from.chunks(2).flat_map(map).collect();
        let edmd = Edmd::fit(Dictionary::polynomials(2, 3), &from, &to);
        let found = edmd.eigenvalues().unwrap();
        let mut expected: Vec<f64> =
            (0..=3).flat_map(|i| (0..=3 - i).map(move |j| a.powi(i) * f64::powi(b, j))).collect();
        expected.sort_by(|x, y| y.abs().total_cmp(&x.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found.0.abs() - expected.abs()).abs() < 1e-9 && found.1.abs() < 1e-9,
                "{found:?} {expected}"
            );
        }
        let off = |predicted: Vec<f64>| {
            predicted.iter().zip(&to).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(off(edmd.predict(&from)) < 1e-10);
    }
}
