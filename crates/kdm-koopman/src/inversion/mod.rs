//! From an image back to its latent and its noise: by the clean encoder, by the operator's
//! pseudo-inverse, and by descent.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use faer::Mat;
use kdm_data::{Labels, Samples};
use kdm_metrics::paired;
use kdm_nn::ForwardMode;
use kdm_observer::{Observer, Stopped};
use kdm_train::{Optimizer, OptimizerConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Decomposition, Error, Result};
use crate::host::{self, values};
use crate::operator::Affine;
use crate::stepwise::Stepwise;
use crate::{Koopman, Sampler, StudentConfig};

/// Latents z `[N, n]` with A z + b + shift nearest to rows of pushed latents `[N, n]`, the shortest
/// where there are several: singular values below `cutoff` of the largest are taken for zero.
/// `shift`: rows that are added beside the bias, `[N, n]`, or empty.
///
/// # Errors
/// When the operator has values that are not finite, or its singular values can't be found.
pub fn pull_back(affine: &Affine, pushed: &[f32], shift: &[f32], cutoff: f64) -> Result<Vec<f32>> {
    let n = affine.n;
    let rows = pushed.len() / n;
    if !affine.is_finite() {
        return Err(Error::NotFinite);
    }
    let decomposition = Decomposition::Svd;
    let svd = Mat::from_fn(n, n, |i, j| affine.matrix[i * n + j])
        .svd()
        .map_err(|_| Error::NoConvergence { decomposition, n })?;
    let wanted = Mat::from_fn(n, rows, |i, r| {
        let more = shift.get(r * n + i).copied().map_or(0.0, f64::from);
        f64::from(pushed[r * n + i]) - affine.bias[i] - more
    });
    let mut coordinates = svd.U().transpose() * &wanted;
    let largest = svd.S()[0];
    for i in 0..n {
        let s = svd.S()[i];
        let factor = if s > cutoff * largest { 1.0 / s } else { 0.0 };
        (0..rows).for_each(|r| coordinates[(i, r)] *= factor);
    }
    let z = svd.V() * &coordinates;
    Ok((0..rows * n).map(|p| z[(p % n, p / n)] as f32).collect())
}

/// Rows that are moved by descent.
#[derive(Module, Debug)]
struct Sought {
    rows: Param<Tensor<2>>,
}

/// How rows are refined.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    /// Steps of Adam.
    pub steps: usize,
    /// Its rate in the first step, in units of the rows; it falls to zero along a half cosine.
    pub rate: f64,
    /// The length that rows are brought back to after each step; none to let them be.
    pub length: Option<f64>,
}

/// Moves rows of `width` values so that what `draw` makes of them comes near to `target` by mean
/// squared error, by steps of Adam. Each row is the best that it was on its way, the start
/// included. `device`: with autodiff. `task` is what the observer is told.
fn descend(
    start: &[f32],
    width: usize,
    target: &Tensor<2>,
    descent: Descent,
    device: &Device,
    draw: impl Fn(Tensor<2>) -> Tensor<2>,
    (task, observer): (&str, &dyn Observer),
) -> Result<Vec<f32>, Stopped> {
    let tensor = |rows: Vec<f32>| host::rows(rows, width, device);
    let mut sought = Sought { rows: Param::from_tensor(tensor(start.to_vec())) };
    let mut optimizer = Optimizer::new(
        OptimizerConfig { ema_decay: 0.0, ..OptimizerConfig::default() },
        &sought,
        "",
    );
    let mut best = Best::of(start, width);
    let mut progress = observer.begin(task, "steps");
    for step in 0..descent.steps {
        progress.advance(step as u64, descent.steps as u64, "")?;
        let squares = (draw(sought.rows.val()) - target.clone()).square();
        best.look(&sought.rows.val(), &squares);
        let loss = squares.mean();
        let rate = 0.5
            * descent.rate
            * (1.0 + (std::f64::consts::PI * step as f64 / descent.steps as f64).cos());
        (sought, _) = optimizer.step(sought, loss.backward(), rate);
        if let Some(length) = descent.length {
            let mut rows = values(sought.rows.val());
            for row in rows.chunks_mut(width) {
                let norm = row
                    .iter()
                    .map(|x| f64::from(*x).powi(2))
                    .sum::<f64>()
                    .sqrt()
                    .max(f64::MIN_POSITIVE);
                row.iter_mut().for_each(|x| *x = (f64::from(*x) * length / norm) as f32);
            }
            sought.rows = Param::from_tensor(tensor(rows));
        }
    }
    best.look(&sought.rows.val(), &(draw(sought.rows.val()) - target.clone()).square());
    progress.report(descent.steps as u64, descent.steps as u64, "");
    progress.finish("found");
    Ok(best.rows)
}

/// The best that rows have been, by the mean of their squared errors.
struct Best {
    rows: Vec<f32>,
    width: usize,
    errors: Vec<f32>,
}

impl Best {
    fn of(rows: &[f32], width: usize) -> Self {
        Self { rows: rows.to_vec(), width, errors: vec![f32::INFINITY; rows.len() / width] }
    }

    /// Takes those of `rows` that are better; `squares`: their squared errors.
    fn look(&mut self, rows: &Tensor<2>, squares: &Tensor<2>) {
        let (rows, errors) = (values(rows.clone()), values(squares.clone().mean_dim(1)));
        let best = self.rows.chunks_mut(self.width).zip(&mut self.errors);
        for ((best, least), (row, error)) in best.zip(rows.chunks(self.width).zip(errors)) {
            if error < *least {
                *least = error;
                best.copy_from_slice(row);
            }
        }
    }
}

/// A student that rows are refined through.
#[derive(Debug)]
pub struct Inverter<'a> {
    student: Koopman,
    config: &'a StudentConfig,
    labels: Option<Tensor<2>>,
    device: Device,
}

impl<'a> Inverter<'a> {
    /// For images with these labels. Takes a copy of the student with autodiff, its weights frozen.
    pub fn new(parts: Stepwise<'a>, labels: &Labels) -> Self {
        let device = parts.device.clone().autodiff();
        let (config, k) = (parts.config, parts.config.label_dim);
        let labels = (k > 0).then(|| host::rows(labels.one_hot(k), k, &device));
        Self { student: kdm_nn::frozen(parts.student.on(&device)), config, labels, device }
    }

    fn target(&self, images: &[f32]) -> Tensor<2> {
        host::rows(images.to_vec(), self.config.dim(), &self.device)
    }

    /// Pushed latents `[N, n]` whose decoded images D(z) are nearer to the images `[N, dim]`.
    ///
    /// # Errors
    /// When the observer asks for a stop; nothing is kept.
    pub fn refine_latents(
        &self,
        latents: &[f32],
        images: &[f32],
        descent: Descent,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>, Stopped> {
        let draw = |z| self.student.decode(z, self.labels.clone(), &ForwardMode::evaluation());
        let (n, target, told) =
            (self.config.operator_dim(), self.target(images), ("refining latents", observer));
        descend(latents, n, &target, descent, &self.device, draw, told)
    }

    /// Noise x_T `[N, dim]` whose samples D(C E_T(x_T) + B y) are nearer to the images `[N, dim]`.
    ///
    /// # Errors
    /// When the observer asks for a stop; nothing is kept.
    pub fn refine_noise(
        &self,
        noise: &[f32],
        images: &[f32],
        descent: Descent,
        observer: &dyn Observer,
    ) -> Result<Vec<f32>, Stopped> {
        let draw = |x| self.student.generate(x, self.labels.clone(), &ForwardMode::evaluation());
        let (dim, target, told) =
            (self.config.dim(), self.target(images), ("refining noise", observer));
        descend(noise, dim, &target, descent, &self.device, draw, told)
    }
}

/// How images are inverted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InversionConfig {
    /// Steps of the refinements.
    pub steps: usize,
    /// The operator's singular values below this share of the largest (at least 0, below 1) are
    /// taken for zero.
    pub cutoff: f64,
}

impl Default for InversionConfig {
    fn default() -> Self {
        Self { steps: 200, cutoff: 1e-3 }
    }
}

/// Images brought back to latents and noise. Serialises as its numbers, without the arrays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inversion {
    /// Images.
    pub images: usize,
    /// How well they come back.
    pub coordinate_rmse: InversionErrors,
    /// Cosine of the noise found and the image's own (0 for unrelated noise), of all values
    /// together: rows of noise have one length. None where the image's own noise is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_cosine: Option<f64>,
    /// Cosine of z_T pulled back and E_T of the image's own noise, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_cosine: Option<f64>,
    /// z_0 = E_0(x_0), `[N, n]`.
    #[serde(skip)]
    pub encoded: Vec<f32>,
    /// z_T with C z_T + B y nearest to z_0, `[N, n]`.
    #[serde(skip)]
    pub pulled_back: Vec<f32>,
    /// Pushed latents found by descent from z_0, `[N, n]`.
    #[serde(skip)]
    pub refined: Vec<f32>,
    /// Noise found by descent from random noise of the same length, `[N, dim]`.
    #[serde(skip)]
    pub noise: Vec<f32>,
    /// The images as they come back.
    #[serde(skip)]
    pub drawn: InvertedImages,
}

/// How well images come back: the root mean square of a coordinate's (a pixel's) error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InversionErrors {
    /// Of D(E_0(x_0)), by the clean encoder.
    pub encoder: f64,
    /// Of D(C z_T + B y), for z_T by the operator's pseudo-inverse from E_0(x_0).
    pub pulled_back: f64,
    /// Of D(z), for the latent found by descent from E_0(x_0).
    pub refined_latent: f64,
    /// Of the sample of the noise found by descent.
    pub refined_noise: f64,
    /// Of the student's sample of the image's own noise; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_noise: Option<f64>,
}

/// Images as they come back, `[N, dim]` each; see [`InversionErrors`].
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the same fields")]
pub struct InvertedImages {
    pub encoder: Vec<f32>,
    pub pulled_back: Vec<f32>,
    pub refined_latent: Vec<f32>,
    pub refined_noise: Vec<f32>,
}

/// The seed of the noise that the search begins at.
const START_SEED: u64 = 20;
/// The first step, in units of the noise's and of the latents' deviation.
const RATE: f64 = 0.1;

/// Brings images (with their labels, and their own noise where it is known) back to latents and
/// noise: by the clean encoder, by the operator's pseudo-inverse, and by descent. `sampler` is the
/// same student's.
///
/// # Errors
/// When the operator can't be taken apart, or the observer asks for a stop.
pub fn invert(
    parts: Stepwise,
    sampler: &Sampler,
    samples: &Samples,
    config: InversionConfig,
    observer: &dyn Observer,
) -> Result<Inversion> {
    let (images, labels, dim) = (&samples.images, &samples.labels, parts.config.dim());
    let encoded = parts.encode_clean(images, labels);
    let shift = parts.control(labels);
    let affine = parts.student.operator.matrix_in_reach()?;
    let pulled_back = pull_back(&affine, &encoded, &shift, config.cutoff)?;

    let inverter = Inverter::new(parts, labels);
    let steps = config.steps;
    let deviation =
        (encoded.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / encoded.len() as f64).sqrt();
    let descent = Descent { steps, rate: RATE * deviation, length: None };
    let refined = inverter.refine_latents(&encoded, images, descent, observer)?;
    let std = parts.config.noise_std;
    let start: Vec<f32> = kdm_random::normal_vec(START_SEED, images.len())
        .iter()
        .map(|e| (std * f64::from(*e)) as f32)
        .collect();
    let length = Some(std * (dim as f64).sqrt());
    let descent = Descent { steps, rate: RATE * std, length };
    let noise = inverter.refine_noise(&start, images, descent, observer)?;

    let drawn = InvertedImages {
        encoder: parts.decode(&encoded, labels),
        pulled_back: parts.decode(&parts.push(&pulled_back, labels), labels),
        refined_latent: parts.decode(&refined, labels),
        refined_noise: sampler.sample(&noise, labels),
    };
    let own = (!samples.noise.is_empty()).then_some(&samples.noise);
    let error = |drawn: &[f32]| paired(drawn, images, dim).coordinate_rmse;
    Ok(Inversion {
        images: samples.len(),
        coordinate_rmse: InversionErrors {
            encoder: error(&drawn.encoder),
            pulled_back: error(&drawn.pulled_back),
            refined_latent: error(&drawn.refined_latent),
            refined_noise: error(&drawn.refined_noise),
            own_noise: own.map(|own| error(&sampler.sample(own, labels))),
        },
        noise_cosine: own.map(|own| cosine(&noise, own)),
        latent_cosine: own.map(|own| cosine(&pulled_back, &parts.encode_noise(own, labels))),
        encoded,
        pulled_back,
        refined,
        noise,
        drawn,
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[cfg(test)]
mod tests;
