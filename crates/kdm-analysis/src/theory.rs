//! Numbers of experiments with exact answers (paper, the claim that a finite-dimensional Koopman
//! operator carries noise to data): the flow of Gaussian data is affine, so that its operator is
//! known; the flow of a mixture is not linear in any finite dictionary, so that an operator's error
//! must fall as the dictionary grows.

use kdm_koopman::operator::eigen::eigenvalues;
use serde::Serialize;

use crate::Result;
use crate::edmd::{Dictionary, Edmd};
use crate::rows::root_mean_square;

/// A map of rows of points `[N, dim]`.
pub type PointMap<'a> = &'a dyn Fn(&[f64]) -> Vec<f64>;

/// Points and their values under a map, rows of the same length each.
#[derive(Clone, Copy, Debug)]
pub struct MappedPoints<'a> {
    /// The points.
    pub from: &'a [f64],
    /// Their values.
    pub to: &'a [f64],
}

/// A trained affine student beside the exact flow of Gaussian data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AffineStudent {
    /// Root mean square of a coordinate's distance to the exact flow, on noise of unseen seeds.
    pub flow_error: f64,
    /// Moduli of the eigenvalues of the exact flow's linear part, on noise of deviation 1.
    pub exact: Vec<f64>,
    /// Those of the student's.
    pub learned: Vec<f64>,
    /// The largest distance of the two.
    pub eigenvalue_error: f64,
}

/// Error of a mixture's flow on a dictionary of polynomials up to one degree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DegreeRow {
    /// Degree of the polynomials.
    pub degree: usize,
    /// Functions in the dictionary.
    pub functions: usize,
    /// Root mean square of a coordinate's error on the points of the fit.
    pub fitted: f64,
    /// The same on other points.
    pub tested: f64,
}

/// Error of a trained student of a mixture with one latent dimension.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatentRow {
    /// Latent dimension.
    pub latent: usize,
    /// Root mean square of a coordinate's error on noise of unseen seeds.
    pub tested: f64,
}

/// All experiments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Theory {
    /// Gaussian data: the student.
    pub gaussian: AffineStudent,
    /// Gaussian data: polynomials of degree 2; the largest distance of the operator's eigenvalues
    /// from the products of the flow's.
    pub gaussian_products: f64,
    /// Mixture data, by degree.
    pub mixture: Vec<DegreeRow>,
    /// Mixture data, by latent dimension.
    pub sizes: Vec<LatentRow>,
}

/// The linear part `[dim, dim]`, by rows, of an affine map, from its values at 0 and at the unit
/// vectors.
pub fn linear_part(dim: usize, map: PointMap) -> Vec<f64> {
    let points: Vec<f64> =
        (0..=dim).flat_map(|k| (0..dim).map(move |i| f64::from(u8::from(k == i + 1)))).collect();
    let values = map(&points);
    (0..dim * dim).map(|p| values[(p % dim + 1) * dim + p / dim] - values[p / dim]).collect()
}

/// Moduli of the eigenvalues of a matrix `[n, n]` by rows, largest first.
///
/// # Errors
/// When values are not finite.
pub fn moduli(matrix: &[f64], n: usize) -> Result<Vec<f64>> {
    let found = eigenvalues(matrix, n)?;
    let mut moduli: Vec<f64> = found.into_iter().map(|l| l.0.hypot(l.1)).collect();
    moduli.sort_by(|a, b| b.total_cmp(a));
    Ok(moduli)
}

/// Moduli of the eigenvalues that an affine map's Koopman operator has on polynomials up to degree
/// 2, largest first: 1, those of its linear part, and the products of any two of these.
pub fn products(moduli: &[f64]) -> Vec<f64> {
    let n = moduli.len();
    let mut products = vec![1.0];
    products.extend(moduli);
    products.extend(
        (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| moduli[i] * moduli[j]),
    );
    products.sort_by(|a, b| b.total_cmp(a));
    products
}

/// A student's affine map beside the exact one, and both on rows of `noise`.
///
/// # Errors
/// When the student's values are not finite.
pub fn affine_student(
    dim: usize,
    exact: PointMap,
    student: PointMap,
    noise: &[f64],
) -> Result<AffineStudent> {
    let of_exact = moduli(&linear_part(dim, exact), dim)?;
    let learned = moduli(&linear_part(dim, student), dim)?;
    Ok(AffineStudent {
        flow_error: root_mean_square(&student(noise), &exact(noise)),
        eigenvalue_error: of_exact
            .iter()
            .zip(&learned)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max),
        exact: of_exact,
        learned,
    })
}

/// The largest distance of the moduli of the operator's eigenvalues on polynomials up to degree 2
/// from the products of an affine map's `moduli`.
///
/// # Errors
/// When the operator's eigenvalues can't be found.
pub fn product_error(dim: usize, points: MappedPoints, moduli: &[f64]) -> Result<f64> {
    let found = Edmd::fit(Dictionary::polynomials(dim, 2), points.from, points.to).eigenvalues()?;
    Ok(found
        .iter()
        .zip(products(moduli))
        .map(|(a, b)| (a.0.hypot(a.1) - b).abs())
        .fold(0.0, f64::max))
}

/// Errors of operators on polynomials of degree 1 to `degree`, fitted on one set of points and
/// tested on another.
pub fn errors_by_degree(
    dim: usize,
    degree: usize,
    fit: MappedPoints,
    test: MappedPoints,
) -> Vec<DegreeRow> {
    let row = |degree| {
        let dictionary = Dictionary::polynomials(dim, degree);
        let functions = dictionary.len();
        let edmd = Edmd::fit(dictionary, fit.from, fit.to);
        let error = |points: MappedPoints| root_mean_square(&edmd.predict(points.from), points.to);
        DegreeRow { degree, functions, fitted: error(fit), tested: error(test) }
    };
    (1..=degree).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(points: &[f64]) -> Vec<f64> {
        points.chunks(2).flat_map(|p| [0.5 * p[0] + p[1] + 3.0, -0.25 * p[1] - 1.0]).collect()
    }

    #[test]
    fn affine_maps_are_read_off() {
        assert_eq!(linear_part(2, &map), [0.5, 1.0, 0.0, -0.25]);
        let moduli = moduli(&linear_part(2, &map), 2).unwrap();
        assert!((moduli[0] - 0.5).abs() < 1e-12 && (moduli[1] - 0.25).abs() < 1e-12);
        assert_eq!(products(&[0.5, 0.25]), [1.0, 0.5, 0.25, 0.25, 0.125, 0.0625]);
    }

    /// A map beside itself has no error, its operator has the products, and a square is met by
    /// polynomials of degree 2 and not of degree 1.
    #[test]
    fn errors_by_hand() {
        let noise: Vec<f64> = kdm_random::normal_vec(1, 400).into_iter().map(f64::from).collect();
        let found = affine_student(2, &map, &map, &noise).unwrap();
        assert_eq!((found.flow_error, found.eigenvalue_error), (0.0, 0.0));
        let to = map(&noise);
        let points = MappedPoints { from: &noise, to: &to };
        assert!(product_error(2, points, &found.exact).unwrap() < 1e-10);
        let squares: Vec<f64> = noise.chunks(2).flat_map(|p| [p[0] * p[0], p[0] * p[1]]).collect();
        let (fit, test) = (
            MappedPoints { from: &noise[..200], to: &squares[..200] },
            MappedPoints { from: &noise[200..], to: &squares[200..] },
        );
        let rows = errors_by_degree(2, 2, fit, test);
        assert_eq!((rows[0].functions, rows[1].functions), (3, 6));
        assert!(rows[0].tested > 0.5 && rows[1].tested < 1e-10, "{rows:?}");
    }
}
