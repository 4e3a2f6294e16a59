//! Whether distances between latents predict distances between outputs (paper, the claim that
//! latents of similar images are close): correlations over independent pairs of samples, with
//! intervals, and how much operator and decoder stretch distances.

use kdm_data::images::shapes::{FACTORS, Factors, SIDE};
use kdm_koopman::Stepwise;
use serde::{Serialize, Serializer};

use crate::rows::{deviation, distances, pair_distances};
use crate::subject::{Activations, Subject};

/// The seed of the bootstrap, and of small steps in the latent space.
const BOOTSTRAP_SEED: u64 = 16;
const STEP_SEED: u64 = 17;
/// Length of small steps, against the latents' deviation, and samples that take one.
const SMALL: f64 = 1e-2;
const STEPPED: usize = 64;

/// Correlation of distances in two spaces.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Pearson's correlation coefficient.
    pub value: f64,
    /// 95% interval of it, by the percentile bootstrap.
    pub interval: (f64, f64),
    /// Spearman's rank correlation coefficient.
    pub of_ranks: f64,
    /// Independent pairs it was measured on.
    pub pairs: usize,
}

/// Draws of the bootstrap.
const DRAWS: usize = 2000;
/// Fewer pairs have no interval worth the name.
const LEAST: usize = 10;

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

/// Ranks from 0; equal values share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same =
            order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count();
        let mean = start as f64 + 0.5 * (same - 1) as f64;
        order[start..start + same].iter().for_each(|i| ranks[*i] = mean);
        start += same;
    }
    ranks
}

/// The correlation of two quantities of the same independent pairs; none where there are fewer than
/// ten of them or one quantity is constant.
pub fn correlation(x: &[f64], y: &[f64], seed: u64) -> Option<Correlation> {
    let n = x.len();
    if n < LEAST {
        return None;
    }
    let value = pearson(x, y);
    if !value.is_finite() {
        return None;
    }
    let mut draws: Vec<f64> = (0..DRAWS as u64)
        .map(|draw| {
            let stream = kdm_random::derive_seed(seed, draw);
            let place = |i: usize| (kdm_random::uniform_f64(stream, i as u64) * n as f64) as usize;
            let (x, y): (Vec<f64>, Vec<f64>) = (0..n).map(place).map(|i| (x[i], y[i])).unzip();
            pearson(&x, &y)
        })
        .filter(|r| r.is_finite())
        .collect();
    draws.sort_by(f64::total_cmp);
    let at = |share: f64| draws[((draws.len() - 1) as f64 * share).round() as usize];
    Some(Correlation {
        value,
        interval: (at(0.025), at(0.975)),
        of_ranks: pearson(&ranks(x), &ranks(y)),
        pairs: n,
    })
}

/// How much a map stretches distances: ratios of distances of its values to those of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// The median ratio.
    pub median: f64,
    /// The largest seen: a lower bound of the map's Lipschitz constant.
    pub largest: f64,
}

/// The stretch over pairs with input distances `given` and output distances `got`; none without
/// pairs that are apart.
pub fn stretch(given: &[f64], got: &[f64]) -> Option<Stretch> {
    let mut ratios: Vec<f64> =
        given.iter().zip(got).filter(|(d, _)| **d > 0.0).map(|(given, got)| got / given).collect();
    ratios.sort_by(f64::total_cmp);
    Some(Stretch { median: *ratios.get(ratios.len() / 2)?, largest: *ratios.last()? })
}

/// What outputs of two samples are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputDistance {
    /// Euclidean distance of the samples themselves.
    Pixels,
    /// Euclidean distance of their features.
    Features,
    /// Euclidean distance of all factors of the shapes they show.
    Factors,
    /// The same of one factor.
    Factor(&'static str),
    /// 0 for one label, 1 for two.
    Labels,
}

impl OutputDistance {
    fn key(self) -> String {
        match self {
            Self::Pixels => "pixels".into(),
            Self::Features => "features".into(),
            Self::Factors => "factors".into(),
            Self::Factor(name) => format!("factor_{name}"),
            Self::Labels => "labels".into(),
        }
    }
}

/// How distances between outputs correlate with those between noises and between latents of the
/// same pairs; none where there are too few pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DistanceCorrelations {
    /// What outputs are compared by.
    #[serde(skip)]
    pub output: OutputDistance,
    /// Over pairs of one label alone.
    #[serde(skip)]
    pub within_class: bool,
    /// With distances of x_T.
    pub noise: Option<Correlation>,
    /// With distances of z_T.
    pub latent: Option<Correlation>,
    /// With distances of C z_T.
    pub pushed: Option<Correlation>,
}

impl DistanceCorrelations {
    /// Its key in JSON, such as "pixels_within_class".
    pub fn key(&self) -> String {
        self.output.key() + if self.within_class { "_within_class" } else { "" }
    }
}

/// How much parts of the student stretch distances; none without pairs that are apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stretches {
    /// C, between samples.
    pub operator: Option<Stretch>,
    /// D, between samples.
    pub decoder: Option<Stretch>,
    /// D, for small steps in random directions.
    pub decoder_small_steps: Option<Stretch>,
}

/// What distances between latents mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Semantics {
    /// In the order of display; in JSON an object by [`DistanceCorrelations::key`].
    #[serde(rename = "semantics", serialize_with = "by_key")]
    pub correlations: Vec<DistanceCorrelations>,
    /// Lipschitz constants are at least these.
    pub stretch: Stretches,
}

fn by_key<S: Serializer>(rows: &[DistanceCorrelations], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rows.iter().map(|row| (row.key(), row)))
}

/// Distances between pairs of images `[3, 32, 32]` by the factors of the shapes they show, by all
/// and by each; not finite where an image shows no shape.
fn factor_distances(images: &[f32], dim: usize) -> Vec<(OutputDistance, Vec<f64>)> {
    let width = FACTORS.map(|(_, range)| range.end).into_iter().max().unwrap_or(0);
    let missing = vec![f64::NAN; width];
    let numbers: Vec<Vec<f64>> = images
        .chunks_exact(dim)
        .map(|image| {
            Factors::measure(image).map_or_else(|| missing.clone(), |factors| factors.numbers())
        })
        .collect();
    let by = |range: std::ops::Range<usize>| {
        let part: Vec<f32> =
            numbers.iter().flat_map(|row| &row[range.clone()]).map(|x| *x as f32).collect();
        pair_distances(&part, range.len())
    };
    let each = FACTORS.map(|(name, range)| (OutputDistance::Factor(name), by(range)));
    [(OutputDistance::Factors, by(0..width))].into_iter().chain(each).collect()
}

/// Correlations of distances and stretches, on pairs of the subject's samples.
pub(crate) fn semantics(
    subject: &Subject,
    stepwise: Stepwise,
    activations: &Activations,
) -> Semantics {
    let config = subject.config;
    let (dim, n) = (config.dim(), config.operator_dim());
    let Activations { latents, pushed, images, features } = activations;
    let labels = &subject.samples.labels;
    let inputs = [
        pair_distances(&subject.samples.noise, dim),
        pair_distances(latents, n),
        pair_distances(pushed, n),
    ];
    let pixels = pair_distances(images, dim);
    let mut outputs = vec![(OutputDistance::Pixels, pixels.clone())];
    if let Some(seen) = features {
        outputs.push((OutputDistance::Features, pair_distances(&seen.features, seen.dim)));
    }
    if subject.data == "shapes" && config.shape == [3, SIDE, SIDE] {
        outputs.extend(factor_distances(images, dim));
    }
    let same: Option<Vec<bool>> = (config.label_dim > 0).then(|| {
        (0..labels.len() / 2).map(|i| labels.class(2 * i) == labels.class(2 * i + 1)).collect()
    });
    if let Some(same) = &same {
        let apart = same.iter().map(|same| f64::from(u8::from(!same))).collect();
        outputs.push((OutputDistance::Labels, apart));
    }

    let correlate = |output: OutputDistance, distances: &[f64], within: Option<&[bool]>| {
        let counts = |i: usize| distances[i].is_finite() && within.is_none_or(|same| same[i]);
        let places: Vec<usize> = (0..distances.len()).filter(|i| counts(*i)).collect();
        let pick = |all: &[f64]| places.iter().map(|i| all[*i]).collect::<Vec<f64>>();
        let [noise, latent, pushed] = inputs
            .each_ref()
            .map(|input| correlation(&pick(input), &pick(distances), BOOTSTRAP_SEED));
        DistanceCorrelations { output, within_class: within.is_some(), noise, latent, pushed }
    };
    let mut correlations = Vec::new();
    for (output, distances) in &outputs {
        correlations.push(correlate(*output, distances, None));
        if let Some(same) = same.as_ref().filter(|_| *output != OutputDistance::Labels) {
            correlations.push(correlate(*output, distances, Some(same)));
        }
    }

    let few = subject.samples.first(STEPPED);
    let start = &pushed[..few.len() * n];
    let step = (SMALL * deviation(pushed, n)) as f32;
    let steps = kdm_random::normal_vec(STEP_SEED, start.len());
    let moved: Vec<f32> = start.iter().zip(steps).map(|(z, e)| z + step * e).collect();
    let (before, after) =
        (stepwise.decode(start, &few.labels), stepwise.decode(&moved, &few.labels));
    let stretch = Stretches {
        operator: stretch(&inputs[1], &inputs[2]),
        decoder: stretch(&inputs[2], &pixels),
        decoder_small_steps: stretch(
            &distances(start, &moved, n),
            &distances(&before, &after, dim),
        ),
    };
    Semantics { correlations, stretch }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_data::images::shapes;
    use kdm_random::normal_vec;

    /// Distances by factors of drawn images are those of the factors they were drawn from; a pair
    /// with an image of nothing has none.
    #[test]
    fn factors_of_images_are_compared() {
        let (set, truth) = shapes::draw(5, 6);
        let dim = 3 * SIDE * SIDE;
        let mut images = set.images(0..6);
        images[5 * dim..].fill(-0.8);
        let found = factor_distances(&images, dim);
        let names: Vec<String> = found.iter().map(|(output, _)| output.key()).collect();
        assert_eq!(names, ["factors", "factor_shape", "factor_hue", "factor_size", "factor_place"]);
        for pair in 0..2 {
            let (a, b) = (truth[2 * pair].numbers(), truth[2 * pair + 1].numbers());
            for ((output, distances), range) in
                found[1..].iter().zip(FACTORS.map(|(_, range)| range))
            {
                let square = range.map(|i| (a[i] - b[i]).powi(2)).sum::<f64>();
                // What the measurement of rounded pixels leaves of hue, size and place.
                assert!(
                    (distances[pair] - square.sqrt()).abs() < 0.1,
                    "{output:?}: {} {}",
                    distances[pair],
                    square.sqrt()
                );
            }
        }
        assert!(found.iter().all(|(_, distances)| distances.len() == 3 && distances[2].is_nan()));
    }

    #[test]
    fn keys_say_what_was_compared() {
        let row = |output, within_class| DistanceCorrelations {
            output,
            within_class,
            noise: None,
            latent: None,
            pushed: None,
        };
        let none = Stretches { operator: None, decoder: None, decoder_small_steps: None };
        let rows = vec![row(OutputDistance::Pixels, false), row(OutputDistance::Pixels, true)];
        let json = serde_json::to_value(Semantics { correlations: rows, stretch: none }).unwrap();
        let empty = serde_json::json!({"noise": null, "latent": null, "pushed": null});
        assert_eq!(json["semantics"]["pixels"], empty);
        assert_eq!(json["semantics"]["pixels_within_class"], empty);
    }

    /// y = 2 x has correlation 1; a decreasing curve has rank correlation -1; ties share ranks.
    #[test]
    fn closed_forms() {
        let x: Vec<f64> = (1..=20).map(f64::from).collect();
        let line = correlation(&x, &x.iter().map(|x| 2.0 * x).collect::<Vec<f64>>(), 1).unwrap();
        assert!((line.value - 1.0).abs() < 1e-12 && (line.interval.0 - 1.0).abs() < 1e-12);
        let falling = correlation(&x, &x.iter().map(|x| 1.0 / x).collect::<Vec<f64>>(), 1).unwrap();
        assert!((falling.of_ranks + 1.0).abs() < 1e-12 && falling.value > -1.0);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert_eq!(correlation(&x, &[4.0; 20], 1), None);
        assert_eq!(correlation(&x[..9], &x[..9], 1), None);
        assert_eq!(
            stretch(&[1.0, 2.0, 0.0, 1.0], &[3.0, 1.0, 5.0, 1.0]),
            Some(Stretch { median: 1.0, largest: 3.0 })
        );
        assert_eq!(stretch(&[0.0], &[1.0]), None);
    }

    /// Jointly normal quantities of correlation 0.6: about 95% of intervals hold it (a binomial of
    /// 100 draws: at least 88), and they are as wide as theory says, 2 * 1.96 (1 - r^2) / sqrt(n).
    #[test]
    fn intervals_hold_the_truth() {
        let n = 200;
        let mut held = 0;
        let mut width = 0.0;
        for seed in 0..100 {
            let e = normal_vec(seed, 2 * n);
            let x: Vec<f64> = e[..n].iter().map(|x| f64::from(*x)).collect();
            let y: Vec<f64> =
                x.iter().zip(&e[n..]).map(|(x, e)| 0.6 * x + 0.8 * f64::from(*e)).collect();
            let found = correlation(&x, &y, seed).unwrap();
            held += usize::from((found.interval.0..=found.interval.1).contains(&0.6));
            width += (found.interval.1 - found.interval.0) / 100.0;
        }
        assert!((88..=100).contains(&held), "{held}");
        let theory = 2.0 * 1.96 * (1.0 - 0.36) / (n as f64).sqrt();
        assert!((width - theory).abs() < 0.1 * theory, "{width} {theory}");
    }
}
