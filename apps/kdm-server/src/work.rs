//! What the engine is asked to do, and does.

use std::ops::Range;

use kdm::data::{Labels, Samples};
use kdm::koopman::exploration::{self, Origins, Way};
use kdm::koopman::interpolation::InterpolationSpace;
use kdm::koopman::inversion::{Inversion, InversionConfig, invert};
use kdm::observer::Observer;
use kdm::studies::edit::edit_along;
use kdm::studies::interpolate::interpolate;
use kdm::{Failure, LoadedStudent, Outcome};

use crate::models::Model;

/// A piece of work on one model.
#[derive(Clone, Debug)]
pub enum Work {
    /// One-step samples, the same bits as `kdm sample` draws.
    Sample(Draw),
    /// The teacher's samples of the same noise.
    Teacher(Draw),
    /// What is done whole.
    Whole(Whole),
}

/// Work that is not shared out into batches.
#[derive(Clone, Debug)]
pub enum Whole {
    /// Samples from a mix of classes, on the way to others, or moved in the latent space.
    Explore(Explore),
    /// Rows from each sample to the next.
    Interpolate {
        /// The samples to go through.
        stops: Draw,
        /// Where to go along.
        space: InterpolationSpace,
        /// Samples of a row.
        steps: usize,
    },
    /// Rows along a direction.
    Edit {
        /// The samples to move.
        draw: Draw,
        /// The direction.
        direction: Direction,
        /// How far to either side, in the direction's lengths.
        reach: f64,
        /// Samples of a row.
        steps: usize,
    },
    /// Images brought back to noise.
    Invert {
        /// The images, with their labels.
        images: Samples,
        /// Steps of the refinement.
        steps: usize,
    },
}

/// Which samples to draw: of seeds, or of noise that was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draw {
    /// The seeds; empty where noise is given.
    pub seeds: Vec<u64>,
    /// x_T with its full standard deviation, `[N, dim]`; empty where seeds are given.
    pub noise: Vec<f32>,
    /// How many samples.
    pub count: usize,
    /// Their classes; none for each seed's own.
    pub labels: Option<Labels>,
}

/// Samples from anywhere in what a student draws from.
#[derive(Clone, Debug, PartialEq)]
pub struct Explore {
    /// The noise, and the classes where there is no mix.
    pub draw: Draw,
    /// Weights of the classes, of all samples alike.
    pub mix: Option<Vec<f32>>,
    /// The way to another sample.
    pub way: Option<To>,
    /// Directions with how far to move, in their lengths.
    pub moves: Vec<(Direction, f64)>,
}

/// Where a way ends, and how far to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct To {
    /// The seed of its end.
    pub seed: u64,
    /// The class of its end; none for the seed's own.
    pub class: Option<u32>,
    /// From 0 to 1.
    pub t: f64,
    /// Where to go along.
    pub space: InterpolationSpace,
}

/// A direction of the latent space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The mode of this rank, from 1.
    Mode(usize),
    /// The principal direction of this rank, from 1.
    Principal(usize),
    /// From one class to another.
    Classes(u32, u32),
}

/// What came of a piece of work.
#[derive(Debug)]
pub struct Done {
    /// Samples: with noise and labels where they have any.
    pub samples: Samples,
    /// How well images came back.
    pub inversion: Option<Inversion>,
}

impl From<Samples> for Done {
    fn from(samples: Samples) -> Self {
        Self { samples, inversion: None }
    }
}

impl Draw {
    /// Samples.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Noise and labels of some of them; no images yet.
    pub fn part(&self, student: &LoadedStudent, rows: Range<usize>) -> Samples {
        let dim = student.config().dim();
        let labels = self.labels.as_ref().map(|labels| labels.range(rows.clone()));
        if self.seeds.is_empty() {
            let labels = labels.unwrap_or_else(|| Labels::none(rows.len()));
            let noise = self.noise[rows.start * dim..rows.end * dim].to_vec();
            let shape = student.config().shape.clone();
            return Samples { shape, noise, labels, ..Samples::default() };
        }
        let mut samples = student.draw_noise(&self.seeds[rows]);
        if let Some(labels) = labels {
            samples.labels = labels;
        }
        samples
    }

    /// All of them with the images that were drawn.
    pub fn drawn(&self, student: &LoadedStudent, images: Vec<f32>) -> Samples {
        let labels = self.labels.clone().unwrap_or_else(|| match self.seeds.is_empty() {
            true => Labels::none(self.count),
            false => student.draw_labels(&self.seeds),
        });
        let (shape, seeds) = (student.config().shape.clone(), self.seeds.clone());
        Samples { shape, seeds, labels, images, ..Samples::default() }
    }

    /// All of them.
    pub fn all(&self, student: &LoadedStudent) -> Samples {
        self.part(student, 0..self.count)
    }
}

impl Work {
    /// Whether it takes no longer than drawing its samples: others may wait for it.
    pub fn is_quick(&self) -> bool {
        matches!(self, Self::Sample(_) | Self::Whole(Whole::Explore(_)))
    }

    /// How much work it is about, in samples.
    pub fn cost(&self) -> usize {
        match self {
            Self::Sample(draw) => draw.len(),
            // Some dozen passes of a network like the student's.
            Self::Teacher(draw) => 32 * draw.len(),
            Self::Whole(whole) => whole.cost(),
        }
    }
}

impl Whole {
    /// How much work it is about, in samples.
    fn cost(&self) -> usize {
        match self {
            Self::Explore(explore) => 2 * explore.draw.len(),
            Self::Interpolate { stops, steps, .. } => 2 * stops.len() * steps,
            Self::Edit { draw, steps, .. } => 2 * draw.len() * steps,
            // Two descents, a step of which is a pass forward and back.
            Self::Invert { images, steps } => 6 * images.len() * (1 + steps),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// When the model can't, or the observer stops the work.
    pub fn run(&self, model: &Model, observer: &dyn Observer) -> Outcome<Done> {
        let student = &model.student;
        match self {
            Self::Explore(explore) => explore.run(model, observer),
            Self::Interpolate { stops, space, steps } => {
                Ok(interpolate(student, *space, &[], &stops.all(student), *steps, observer)?.into())
            }
            Self::Edit { draw, direction, reach, steps } => {
                let vector = direction.vector(model, observer)?;
                let samples = draw.all(student);
                Ok(edit_along(student, samples, &vector, *reach, *steps, observer)?.into())
            }
            Self::Invert { images, steps } => {
                let config = InversionConfig { steps: *steps, ..InversionConfig::default() };
                let (parts, sampler) = (student.stepwise()?, &student.sampler);
                let mut found = invert(parts, sampler, images, config, observer)?;
                let samples = Samples {
                    images: std::mem::take(&mut found.drawn.refined_noise),
                    noise: std::mem::take(&mut found.noise),
                    ..images.clone()
                };
                Ok(Done { samples, inversion: Some(found) })
            }
        }
    }
}

impl Direction {
    /// The vector, as long as latents deviate along it, or classes are apart.
    fn vector(self, model: &Model, observer: &dyn Observer) -> Outcome<Vec<f64>> {
        if let Self::Classes(from, to) = self {
            return model.between((from, to), observer);
        }
        let Some((modes, principal)) = &model.directions else {
            let name = &model.about.name;
            return Err(Failure::Usage(format!("the modes of {name} are not known here")));
        };
        match self {
            Self::Principal(rank) => principal.direction(rank, "principal"),
            Self::Mode(rank) => modes.direction(rank, "mode"),
            Self::Classes(..) => unreachable!("answered above"),
        }
    }
}

impl Explore {
    fn run(&self, model: &Model, observer: &dyn Observer) -> Outcome<Done> {
        let student = &model.student;
        let (parts, label_dim) = (student.stepwise()?, student.config().label_dim);
        let samples = self.draw.all(student);
        let rows = samples.len();
        let labels = match &self.mix {
            Some(weights) => weights.repeat(rows),
            None => samples.labels.one_hot(label_dim),
        };
        let from = Origins { noise: samples.noise.clone(), labels };
        let end = self.way.map(|to| {
            let one = student.draw_noise(&[to.seed]);
            let labels = to.class.map_or(one.labels, |class| Labels::all(class, 1));
            let labels = labels.one_hot(label_dim).repeat(rows);
            (to, Origins { noise: one.noise.repeat(rows), labels })
        });
        let way = end.as_ref().map(|(to, end)| Way { to: end, space: to.space, t: to.t });
        let mut shift = Vec::new();
        for (direction, strength) in &self.moves {
            let vector = direction.vector(model, observer)?;
            shift.resize(vector.len(), 0.0);
            shift.iter_mut().zip(vector).for_each(|(s, v)| *s += strength * v);
        }
        let images = exploration::draw(parts, &from, way, &shift, observer)?;
        student.check_finite(&images)?;
        let labels = if self.mix.is_some() { Labels::none(rows) } else { samples.labels.clone() };
        Ok(Samples { images, labels, ..samples }.into())
    }
}
