//! An operator cut to a lower rank on real latents: by the directions in which pushed latents vary
//! most, or by the modes that carry most.

use kdm_koopman::LowRank;
use kdm_koopman::editing::mean_row;
use kdm_koopman::low_rank::RankBy;
use kdm_koopman::operator::Affine;

use crate::{Modes, Principal, Result};

/// An operator of lower rank, and what is added to what it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ReducedOperator {
    /// The linear part.
    pub low: LowRank,
    /// What is added, `[n]`, so that the mean latent is mapped as by the whole operator.
    pub added: Vec<f64>,
}

/// `affine` cut to at most `rank` coordinates on latents z_T, `[N, n]`. Modes of conjugate
/// eigenvalues take two coordinates, so that the rank may be one lower; 0 where not even one fits.
///
/// # Errors
/// When values are not finite, or modes are asked for and there is no basis of eigenvectors.
pub fn reduce_rank(
    affine: &Affine,
    latents: &[f32],
    by: RankBy,
    rank: usize,
) -> Result<ReducedOperator> {
    let low = match by {
        RankBy::Principal => Principal::of(affine, latents)?.low_rank(rank),
        RankBy::Modes => {
            let modes = Modes::of(affine)?;
            let (mut kept, mut size) = (Vec::new(), 0);
            // Where only one coordinate is left, a real mode may still fit.
            for k in modes.ranked(latents) {
                if size + modes.modes()[k].size() <= rank {
                    size += modes.modes()[k].size();
                    kept.push(k);
                }
            }
            modes.low_rank(&kept)
        }
    };
    let centre = mean_row(latents, affine.n);
    let left = low.apply(&centre);
    let whole = |row: &[f64]| row.iter().zip(&centre).map(|(a, z)| a * z).sum::<f64>();
    let rows = affine.matrix.chunks_exact(affine.n).zip(&affine.bias).zip(left);
    let added = rows.map(|((row, bias), left)| bias + whole(row) - left).collect();
    Ok(ReducedOperator { low, added })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_random::normal_vec;

    /// The mean latent is mapped as by the whole operator at any rank; at full rank, all are.
    #[test]
    fn the_mean_stays_where_it_was() {
        let n = 6;
        let wide = |seed, len| normal_vec(seed, len).into_iter().map(f64::from).collect::<Vec<_>>();
        let affine = Affine { n, matrix: wide(1, n * n), bias: wide(2, n) };
        let latents = normal_vec(3, 40 * n);
        let mapped = |reduced: &ReducedOperator, z: &[f64]| -> Vec<f64> {
            reduced.low.apply(z).iter().zip(&reduced.added).map(|(x, c)| x + c).collect()
        };
        let apart =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let centre = mean_row(&latents, n);
        let other: Vec<f64> = latents[..n].iter().map(|z| f64::from(*z)).collect();
        for by in [RankBy::Principal, RankBy::Modes] {
            for rank in [1, 3, n] {
                let reduced = reduce_rank(&affine, &latents, by, rank).unwrap();
                assert!(reduced.low.rank <= rank && reduced.low.rank + 1 >= rank);
                assert!(apart(&mapped(&reduced, &centre), &affine.apply(&centre)) < 1e-9);
                if rank == n {
                    assert!(apart(&mapped(&reduced, &other), &affine.apply(&other)) < 1e-9);
                }
            }
        }
    }
}
