//! What is analyzed: a student, the noise it is looked at on, and what its samples are compared
//! with; and what the student computes from that noise.

use burn::tensor::Device;
use kdm_data::Samples;
use kdm_koopman::{Sampler, Stepwise, Student, StudentConfig};
use kdm_metrics::{Extractor, Features, Statistics};
use kdm_observer::Observer;

use crate::{Error, Result};

/// A student, and the noise it is looked at on.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its networks.
    pub student: &'a Student,
    /// Its configuration.
    pub config: &'a StudentConfig,
    /// The same student, ready to draw.
    pub sampler: &'a Sampler,
    /// Where its networks run.
    pub device: &'a Device,
    /// Noise x_T and labels; `images` are the teacher's samples from that noise where they are
    /// known, else empty.
    pub samples: &'a Samples,
    /// The network that turns images into features; none for no features.
    pub extractor: Option<&'a Extractor>,
    /// Features of the data set, for Fréchet distances.
    pub reference: Option<&'a Statistics>,
    /// The data set's name, or empty: samples of `shapes` have factors that can be measured.
    pub data: &'a str,
    /// The names of its classes in order; none where they are not known.
    pub class_names: &'a [String],
}

impl<'a> Subject<'a> {
    /// The student's networks one by one.
    ///
    /// # Errors
    /// For a direct student.
    pub(crate) fn stepwise(&self) -> Result<Stepwise<'a>> {
        let student = self.student.koopman().ok_or(Error::NoOperator)?;
        Ok(Stepwise { student, config: self.config, device: self.device })
    }

    /// The same student on other samples.
    pub(crate) fn on<'b>(&self, samples: &'b Samples) -> Subject<'b>
    where
        'a: 'b,
    {
        Subject { samples, ..*self }
    }

    /// # Errors
    /// When noise or images have another length than their labels say.
    pub(crate) fn check(&self) -> Result<()> {
        let values = self.samples.len() * self.config.dim();
        Error::check_length("noise", values, self.samples.noise.len())?;
        if !self.samples.images.is_empty() {
            Error::check_length("the teacher's samples", values, self.samples.images.len())?;
        }
        Ok(())
    }
}

/// What a Koopman student computes from noise, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Activations {
    /// z_T = E_T(x_T).
    pub latents: Vec<f32>,
    /// C z_T + B y.
    pub pushed: Vec<f32>,
    /// One-step samples.
    pub images: Vec<f32>,
    /// Of the samples; none without an extractor.
    pub features: Option<Features>,
}

impl Activations {
    pub(crate) fn of(
        subject: &Subject,
        stepwise: Stepwise,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let Subject { sampler, config, extractor, samples, .. } = subject;
        let (noise, labels) = (&samples.noise, &samples.labels);
        let images = sampler.sample_observed(noise, labels, observer)?;
        let latents =
            stepwise.observed("latents", noise, labels, observer, Stepwise::encode_noise)?;
        let pushed = stepwise.push(&latents, labels);
        let features =
            extractor.map(|e| e.inspect(&images, &config.shape, observer)).transpose()?;
        Ok(Self { latents, pushed, images, features })
    }
}
