//! Latents and noise refined by descent through the student.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use kdm_data::Labels;
use kdm_nn::ForwardMode;
use kdm_observer::{Observer, Stopped};
use kdm_train::{Optimizer, OptimizerConfig};

use crate::host::{self, values};
use crate::stepwise::Stepwise;
use crate::{Koopman, StudentConfig};

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
/// squared error, by steps of Adam. `device`: with autodiff. `task` is what the observer is told.
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
    let mut progress = observer.begin(task, "steps");
    for step in 0..descent.steps {
        progress.advance(step as u64, descent.steps as u64, "")?;
        let loss = (draw(sought.rows.val()) - target.clone()).square().mean();
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
    progress.report(descent.steps as u64, descent.steps as u64, "");
    progress.finish("found");
    Ok(values(sought.rows.val()))
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
