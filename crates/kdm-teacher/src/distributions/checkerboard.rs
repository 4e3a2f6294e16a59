//! The checkerboard teacher: data uniform on the dark squares of a board, the posterior mean by
//! error functions.
//!
//! The board is the usual toy of flow matching: 4 x 4 squares of side 1/0.45 centred on the origin,
//! the lower left one dark.

use kdm_data::Labels;

use crate::denoiser::{known_class, map_rows};
use crate::{Denoiser, Level};

/// Squares along an edge of the board.
pub const SQUARES: usize = 4;

/// Side of a square.
pub const SIDE: f64 = 1.0 / 0.45;

/// Data uniform on the dark squares; when conditional, a square is a class.
#[derive(Clone, Debug)]
pub struct Checkerboard {
    conditional: bool,
}

impl Checkerboard {
    /// The board; `conditional`: whether a square is a class.
    pub fn new(conditional: bool) -> Self {
        Self { conditional }
    }

    /// Column and row of every dark square, in the order of their class numbers.
    pub fn dark_squares() -> Vec<(usize, usize)> {
        (0..SQUARES)
            .flat_map(|row| (0..SQUARES).map(move |column| (column, row)))
            .filter(|(column, row)| (column + row) % 2 == 0)
            .collect()
    }

    /// Where square number `i` along an axis begins.
    fn edge(i: usize) -> f64 {
        (i as f64 - SQUARES as f64 / 2.0) * SIDE
    }

    /// Whether a point lies on a dark square.
    pub fn contains(point: &[f64]) -> bool {
        Self::square_of(point).is_some()
    }

    /// The class number of the dark square a point lies on; none off the board and on light
    /// squares.
    pub fn square_of(point: &[f64]) -> Option<usize> {
        let cell = |x: f64| (x / SIDE + SQUARES as f64 / 2.0).floor();
        let (column, row) = (cell(point[0]), cell(point[1]));
        let inside = |c: f64| (0.0..SQUARES as f64).contains(&c);
        if !inside(column) || !inside(row) {
            return None;
        }
        let square = (column as usize, row as usize);
        Self::dark_squares().iter().position(|s| *s == square)
    }

    /// `n` points, rows of 2 values, and the class numbers of their squares; the stream of `seed`.
    pub fn sample(seed: u64, n: usize) -> (Vec<f64>, Vec<u32>) {
        let squares = Self::dark_squares();
        let draw = |stream: u64, i: usize| {
            kdm_random::uniform_f64(kdm_random::derive_seed(seed, stream), i as u64)
        };
        let classes: Vec<u32> =
            (0..n).map(|i| (draw(0, i) * squares.len() as f64) as u32).collect();
        let points = classes
            .iter()
            .enumerate()
            .flat_map(|(i, class)| {
                let (column, row) = squares[*class as usize];
                [Self::edge(column) + SIDE * draw(1, i), Self::edge(row) + SIDE * draw(2, i)]
            })
            .collect();
        (points, classes)
    }
}

/// Mass and mean of a normal distribution cut to an interval, the mass without the factor e^-scale
/// that all intervals of an axis share.
struct Cut {
    mass: f64,
    mean: f64,
}

/// N(centre, std^2) cut to each of the board's intervals along one axis. What counts of the masses
/// is their ratios, and far out in a tail these are ratios of numbers that underflow; so the
/// exponent of the nearest interval is left out of all of them.
fn cuts(centre: f64, std: f64) -> [Cut; SQUARES] {
    if std > WIDE {
        return wide_cuts(centre, std);
    }
    let scaled = |x: f64| (x - centre) / (std * std::f64::consts::SQRT_2);
    let ends = |i: usize| (scaled(Checkerboard::edge(i)), scaled(Checkerboard::edge(i + 1)));
    let nearest = |(a, b): (f64, f64)| {
        if a > 0.0 {
            a
        } else if b < 0.0 {
            -b
        } else {
            0.0
        }
    };
    let least = (0..SQUARES).map(|i| nearest(ends(i))).fold(f64::INFINITY, f64::min);
    std::array::from_fn(|i| {
        let (a, b) = ends(i);
        // e^(least^2) times (erf(b) - erf(a)) / 2 and times the densities at the two ends.
        let factor = |u: f64| (least * least - u * u).exp();
        let mass = if a > 0.0 {
            0.5 * (factor(a) * erfcx(a) - factor(b) * erfcx(b))
        } else if b < 0.0 {
            0.5 * (factor(b) * erfcx(-b) - factor(a) * erfcx(-a))
        } else {
            0.5 * (libm::erf(b) - libm::erf(a))
        };
        let slope = std * (factor(a) - factor(b)) / (2.0 * std::f64::consts::PI).sqrt();
        let (low, high) = (Checkerboard::edge(i), Checkerboard::edge(i + 1));
        let mean =
            if mass > 0.0 { (centre + slope / mass).clamp(low, high) } else { 0.5 * (low + high) };
        Cut { mass: mass.max(0.0), mean }
    })
}

/// From this width on, differences of error functions lose more digits than the expansion in
/// [`wide_cuts`] neglects.
const WIDE: f64 = 1e4;

/// [`cuts`] for a density that hardly changes over the board: exp(-(x - c)^2 / 2 s^2) is taken as
/// exponential in each interval. Neglects (SIDE / std)^2.
fn wide_cuts(centre: f64, std: f64) -> [Cut; SQUARES] {
    let middle = |i: usize| Checkerboard::edge(i) + 0.5 * SIDE;
    let exponent = |i: usize| -0.5 * ((middle(i) - centre) / std).powi(2);
    let top = (0..SQUARES).map(exponent).fold(f64::NEG_INFINITY, f64::max);
    std::array::from_fn(|i| {
        let slope = (centre - middle(i)) / (std * std);
        let mean = middle(i) + (slope * SIDE * SIDE / 12.0).clamp(-0.5 * SIDE, 0.5 * SIDE);
        Cut { mass: (exponent(i) - top).exp(), mean }
    })
}

/// e^(u^2) erfc(u) for u >= 0.
fn erfcx(u: f64) -> f64 {
    if u < 10.0 {
        return (u * u).exp() * libm::erfc(u);
    }
    // Asymptotic series; at u = 10 the first term left out is 2e-13 of the sum.
    let z = 1.0 / (2.0 * u * u);
    let series = 1.0 - z * (1.0 - 3.0 * z * (1.0 - 5.0 * z * (1.0 - 7.0 * z * (1.0 - 9.0 * z))));
    series / (u * std::f64::consts::PI.sqrt())
}

impl Denoiser for Checkerboard {
    fn shape(&self) -> Vec<usize> {
        vec![2]
    }

    fn label_dim(&self) -> usize {
        if self.conditional { Self::dark_squares().len() } else { 0 }
    }

    /// The likelihood of x / alpha under N(x_0, (sigma / alpha)^2) is a product over the axes, so a
    /// square's posterior mass is a product of two interval masses, and its mean a pair of interval
    /// means.
    fn denoise(&self, x: &[f64], level: Level, labels: &Labels) -> Vec<f64> {
        let squares = Self::dark_squares();
        // At alpha = 0 the sample says nothing; a very wide likelihood says as much.
        let alpha = level.alpha.max(1e-9);
        let std = (level.sigma / alpha).max(1e-12);
        map_rows(x, 2, |row, x, out| {
            let (across, up) = (cuts(x[0] / alpha, std), cuts(x[1] / alpha, std));
            let class = known_class(labels, self.label_dim(), row);
            let mut total = 0.0;
            for (k, (i, j)) in squares.iter().enumerate() {
                if class.is_some_and(|class| class != k) {
                    continue;
                }
                let mass = across[*i].mass * up[*j].mass;
                total += mass;
                out[0] += mass * across[*i].mean;
                out[1] += mass * up[*j].mean;
            }
            if total > 0.0 {
                out.iter_mut().for_each(|v| *v /= total);
            } else {
                // All masses underflow: far from every allowed square in units of the noise. The
                // nearest point counts.
                let allowed = squares
                    .iter()
                    .enumerate()
                    .filter(|(k, _)| class.is_none_or(|class| class == *k));
                let clamp = |x: f64, i: usize| (x / alpha).clamp(Self::edge(i), Self::edge(i + 1));
                let candidates = allowed.map(|(_, (i, j))| [clamp(x[0], *i), clamp(x[1], *j)]);
                let distance =
                    |p: &[f64; 2]| (p[0] - x[0] / alpha).powi(2) + (p[1] - x[1] / alpha).powi(2);
                if let Some(p) = candidates.min_by(|a, b| distance(a).total_cmp(&distance(b))) {
                    out.copy_from_slice(&p);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against numerical integration over the squares, at many noise levels and places.
    #[test]
    fn posterior_mean_equals_quadrature() {
        let (board, none) = (Checkerboard::new(false), Labels::none(1));
        let n = 600;
        for sigma in [0.2, 0.7, 3.0, 30.0] {
            for point in [[0.1, 0.2], [-4.0, 4.0], [1.1, -6.0], [0.0, 0.0]] {
                let (mut total, mut mean) = (0.0, [0.0, 0.0]);
                for (i, j) in Checkerboard::dark_squares() {
                    for a in 0..n {
                        for b in 0..n {
                            let at =
                                |edge: f64, k: usize| edge + SIDE * (k as f64 + 0.5) / n as f64;
                            let p = [at(Checkerboard::edge(i), a), at(Checkerboard::edge(j), b)];
                            let d2 = (p[0] - point[0]).powi(2) + (p[1] - point[1]).powi(2);
                            let w = (-0.5 * d2 / (sigma * sigma)).exp();
                            total += w;
                            mean[0] += w * p[0];
                            mean[1] += w * p[1];
                        }
                    }
                }
                let exact = board.denoise(&point, Level { alpha: 1.0, sigma }, &none);
                for k in 0..2 {
                    // The midpoint rule's own error: (h / sigma)^2 / 24 of a side.
                    assert!(
                        (exact[k] - mean[k] / total).abs() < 1e-4,
                        "{sigma} {point:?} {exact:?} {mean:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn far_tails_stay_finite_and_on_the_board() {
        let board = Checkerboard::new(true);
        for sigma in [1e-9, 1e-3, 0.01, 1.0, 80.0] {
            for point in [[100.0, -70.0], [2.3, 2.2], [-4.5, 0.01], [1e6, 0.0]] {
                for class in [None, Some(0), Some(7)] {
                    let labels = Labels::from_iter([class]);
                    let d = board.denoise(&point, Level { alpha: 1.0, sigma }, &labels);
                    let bound = 2.0 * SIDE + 1e-9;
                    assert!(d.iter().all(|v| v.abs() <= bound), "{sigma} {point:?} {d:?}");
                }
            }
        }
    }

    #[test]
    fn pure_noise_gives_the_board_s_mean() {
        let (board, noise) = (Checkerboard::new(false), Level { alpha: 0.0, sigma: 1.0 });
        let d = board.denoise(&[0.4, -1.0], noise, &Labels::none(1));
        assert!(d.iter().all(|v| v.abs() < 1e-6), "{d:?}");
    }

    /// The two formulas meet where one takes over from the other.
    #[test]
    fn wide_and_narrow_formulas_agree() {
        for centre in [-2e4, -30.0, 0.0, 5e3] {
            for (a, b) in cuts(centre, WIDE).iter().zip(&wide_cuts(centre, WIDE)) {
                // Masses are compared as shares: their common factor differs.
                let share = |c: &Cut, all: &[Cut]| c.mass / all.iter().map(|c| c.mass).sum::<f64>();
                let (x, y) = (share(a, &cuts(centre, WIDE)), share(b, &wide_cuts(centre, WIDE)));
                assert!(
                    (x / y - 1.0).abs() < 1e-6 && (a.mean - b.mean).abs() < 1e-6,
                    "{centre} {x} {y} {} {}",
                    a.mean,
                    b.mean
                );
            }
        }
    }

    #[test]
    fn erfcx_is_continuous_where_the_formula_changes() {
        assert!((erfcx(10.0 - 1e-9) / erfcx(10.0) - 1.0).abs() < 1e-9);
        // 1 / (u sqrt(pi)) bounds it from above, ever more closely.
        assert!((erfcx(1e4) * 1e4 * std::f64::consts::PI.sqrt() - 1.0).abs() < 1e-7);
    }

    #[test]
    fn samples_lie_on_dark_squares_evenly() {
        let (points, classes) = Checkerboard::sample(3, 80_000);
        let mut counts = [0usize; 8];
        for (p, class) in points.chunks(2).zip(&classes) {
            assert_eq!(Checkerboard::square_of(p), Some(*class as usize));
            counts[*class as usize] += 1;
        }
        // Five standard deviations of a binomial count.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 470), "{counts:?}");
    }
}
