//! Requests checked: what they ask for, or the field that is at fault.

use kdm::data::{Labels, Samples};
use kdm::koopman::Method;
use kdm::sample_picture::Arrangement;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::models::{About, Model};
use crate::request::{
    EditRequest, InterpolateRequest, InvertRequest, Limits, MoveRequest, SamplesRequest, Source,
    WayRequest,
};
use crate::response::Format;
use crate::work::{Direction, Draw, Explore, To, Whole, Work};

/// Strengths along directions, and noise in standard deviations, beyond this have no use.
const MOST_STRENGTH: f64 = 100.0;

/// What a request asks for, checked.
#[derive(Debug)]
pub struct Asked {
    /// The model's place.
    pub model: usize,
    /// What to compute.
    pub work: Work,
    /// The form of the answer.
    pub format: Format,
    /// How samples stand in a picture.
    pub arrangement: Arrangement,
}

/// A request that asks for something.
pub trait Request: DeserializeOwned + Send + 'static {
    /// What it asks for.
    ///
    /// # Errors
    /// 400 with the field at fault, 404 for a model that isn't served, 413 for too much.
    fn asked(self, models: &[Model], limits: &Limits) -> Result<Asked, ApiError>;
}

/// The model of a name, or the only one.
fn model_of(models: &[Model], name: Option<&str>) -> Result<usize, ApiError> {
    match name {
        Some(name) => place_of(models, name),
        None if models.len() == 1 => Ok(0),
        None => Err(ApiError::field("model", format!("give one of {}", names(models)))),
    }
}

fn names(models: &[Model]) -> String {
    models.iter().map(|model| model.about.name.as_str()).collect::<Vec<&str>>().join(", ")
}

/// The place of a model by its name.
///
/// # Errors
/// 404 where it isn't served.
pub fn place_of(models: &[Model], name: &str) -> Result<usize, ApiError> {
    models.iter().position(|model| model.about.name == name).ok_or_else(|| {
        let message = format!("there is no model `{name}`; there is {}", names(models));
        let mut error = ApiError::field("model", message);
        error.status = axum::http::StatusCode::NOT_FOUND;
        error
    })
}

impl Limits {
    /// Whether an answer of so many samples isn't too much.
    fn check(&self, field: &str, count: usize, about: &About) -> Result<(), ApiError> {
        let dim: usize = about.shape.iter().product();
        let most = self.samples.min((self.values / dim.max(1)).max(1));
        match count {
            0 => Err(ApiError::field(field, "ask for at least one sample")),
            count if count > most => Err(ApiError::too_large(
                field,
                format!("{count} samples are too many for one request; ask for {most} at most"),
            )),
            _ => Ok(()),
        }
    }

    fn check_steps(&self, steps: usize, least: usize) -> Result<(), ApiError> {
        match steps {
            steps if steps < least => {
                Err(ApiError::field("steps", format!("give at least {least}")))
            }
            steps if steps > self.steps => {
                Err(ApiError::too_large("steps", format!("give {} at most", self.steps)))
            }
            _ => Ok(()),
        }
    }
}

fn class_known(field: &str, class: u32, about: &About) -> Result<(), ApiError> {
    match about.classes {
        0 => Err(ApiError::field(field, "this model is unconditional; leave it out")),
        n if class as usize >= n => {
            Err(ApiError::field(field, format!("the model has classes 0 to {}", n - 1)))
        }
        _ => Ok(()),
    }
}

/// The labels that `class` or `classes` give to so many samples.
fn labels(
    class: Option<u32>,
    classes: Option<&[u32]>,
    count: usize,
    about: &About,
) -> Result<Option<Labels>, ApiError> {
    match (class, classes) {
        (Some(_), Some(_)) => Err(ApiError::field("classes", "give `class` or `classes`")),
        (Some(class), None) => {
            class_known("class", class, about)?;
            Ok(Some(Labels::all(class, count)))
        }
        (None, Some(classes)) if classes.len() != count => Err(ApiError::field(
            "classes",
            format!("{} classes for {count} samples; give one a sample", classes.len()),
        )),
        (None, Some(classes)) => {
            for (i, class) in classes.iter().enumerate() {
                class_known(&format!("classes[{i}]"), *class, about)?;
            }
            Ok(Some(Labels::of(classes)))
        }
        (None, None) => Ok(None),
    }
}

/// A number within [-most, most].
fn within(field: &str, value: f64, most: f64) -> Result<f64, ApiError> {
    if value.abs() <= most {
        return Ok(value);
    }
    Err(ApiError::field(field, format!("{value}: give a number from -{most} to {most}")))
}

/// Rows of a model's size, joined.
fn rows(field: &str, rows: &[Vec<f32>], about: &About, most: f64) -> Result<Vec<f32>, ApiError> {
    let dim: usize = about.shape.iter().product();
    for (i, row) in rows.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if row.len() != dim {
            let problem = format!("{} numbers, and the model has {dim}", row.len());
            return Err(ApiError::field(&field, problem));
        }
        for value in row {
            within(&field, f64::from(*value), most)?;
        }
    }
    Ok(rows.concat())
}

/// Whether the student has latents.
fn has_latents(field: &str, about: &About) -> Result<(), ApiError> {
    if about.method == Method::Koopman {
        return Ok(());
    }
    Err(ApiError::field(field, "a direct student has no latents; ask for plain samples"))
}

/// A direction of the latent space that the model has, by its rank.
fn direction(
    prefix: &str,
    mode: Option<usize>,
    principal: Option<usize>,
    about: &About,
) -> Result<Option<Direction>, ApiError> {
    let (name, rank, most) = match (mode, principal) {
        (Some(_), Some(_)) => {
            let field = format!("{prefix}principal");
            return Err(ApiError::field(&field, "give `mode` or `principal`"));
        }
        (Some(rank), None) => ("mode", rank, about.modes.len()),
        (None, Some(rank)) => ("principal", rank, about.principal.len()),
        (None, None) => return Ok(None),
    };
    let field = format!("{prefix}{name}");
    has_latents(&field, about)?;
    if most == 0 {
        return Err(ApiError::field(&field, "the modes of this model are not known here"));
    }
    if !(1..=most).contains(&rank) {
        return Err(ApiError::field(&field, format!("{rank}: give a rank from 1 to {most}")));
    }
    Ok(Some(if name == "mode" { Direction::Mode(rank) } else { Direction::Principal(rank) }))
}

impl SamplesRequest {
    /// Which noise, how much of it, and its classes.
    fn draw(&self, about: &About, limits: &Limits) -> Result<Draw, ApiError> {
        let given = [
            ("noise", self.noise.is_some()),
            ("count", self.count.is_some()),
            ("seeds", self.seeds.is_some()),
        ];
        let given: Vec<&str> =
            given.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        let [what] = given[..] else {
            let field = given.first().copied().unwrap_or("seeds");
            return Err(ApiError::field(field, "give one of `seeds`, `count` and `noise`"));
        };
        if self.first_seed.is_some() && what != "count" {
            return Err(ApiError::field("first_seed", "give it with `count`"));
        }
        let (seeds, noise, count) = match (&self.seeds, &self.noise, self.count) {
            (Some(seeds), ..) => (seeds.clone(), Vec::new(), seeds.len()),
            (_, Some(noise), _) => {
                let most = MOST_STRENGTH * about.noise_std;
                (Vec::new(), rows("noise", noise, about, most)?, noise.len())
            }
            (.., count) => {
                let count = count.unwrap_or_default();
                limits.check(what, count, about)?;
                let first = self.first_seed.unwrap_or_default();
                let Some(end) = first.checked_add(count as u64) else {
                    return Err(ApiError::field("first_seed", "too large"));
                };
                ((first..end).collect(), Vec::new(), count)
            }
        };
        limits.check(what, count, about)?;
        let labels = labels(self.class, self.classes.as_deref(), count, about)?;
        if what == "noise" && labels.is_none() && self.mix.is_none() && about.classes > 0 {
            let problem = "this model is conditional: give a class with noise";
            return Err(ApiError::field("class", problem));
        }
        Ok(Draw { seeds, noise, count, labels })
    }

    /// The weights of all classes.
    fn weights(&self, about: &About) -> Result<Option<Vec<f32>>, ApiError> {
        let Some(mix) = &self.mix else { return Ok(None) };
        if self.class.is_some() || self.classes.is_some() {
            return Err(ApiError::field("mix", "give `mix` or a class"));
        }
        let mut weights = vec![0.0; about.classes];
        for (class, weight) in mix {
            let field = format!("mix.{class}");
            class_known(&field, *class, about)?;
            within(&field, f64::from(*weight), 2.0)?;
            weights[*class as usize] = *weight;
        }
        Ok(Some(weights))
    }

    fn way(&self, about: &About) -> Result<Option<To>, ApiError> {
        let Some(way) = self.way else { return Ok(None) };
        if let Some(class) = way.class {
            class_known("way.class", class, about)?;
        }
        if !(0.0..=1.0).contains(&way.t) {
            return Err(ApiError::field("way.t", format!("{}: give a number from 0 to 1", way.t)));
        }
        let WayRequest { seed, t, space, .. } = way;
        Ok(Some(To { seed, class: way.class.or(self.class), t, space: space.into() }))
    }

    fn moves(&self, about: &About) -> Result<Vec<(Direction, f64)>, ApiError> {
        if self.moves.len() > 64 {
            return Err(ApiError::too_large("moves", "give 64 at most"));
        }
        let one = |(i, way): (usize, &MoveRequest)| {
            let prefix = format!("moves[{i}].");
            let field = format!("{prefix}strength");
            let strength = within(&field, way.strength, MOST_STRENGTH)?;
            let found = direction(&prefix, way.mode, way.principal, about)?;
            let found = found.ok_or_else(|| {
                ApiError::field(&format!("{prefix}mode"), "give `mode` or `principal`")
            })?;
            Ok((found, strength))
        };
        self.moves.iter().enumerate().map(one).collect()
    }
}

impl Request for SamplesRequest {
    fn asked(self, models: &[Model], limits: &Limits) -> Result<Asked, ApiError> {
        let model = model_of(models, self.model.as_deref())?;
        let about = &models[model].about;
        let draw = self.draw(about, limits)?;
        let (mix, way, moves) = (self.weights(about)?, self.way(about)?, self.moves(about)?);
        let explores = match (&mix, &way, moves.is_empty()) {
            (Some(_), ..) => Some("mix"),
            (_, Some(_), _) => Some("way"),
            (.., false) => Some("moves"),
            _ => None,
        };
        let work = match (self.source, explores) {
            (Source::Teacher, Some(field)) => {
                return Err(ApiError::field(field, "a teacher draws plain samples alone"));
            }
            (Source::Teacher, None) => {
                if about.teacher_evaluations.is_none() {
                    let problem = "there is no teacher beside this model; start the server with \
                                   --teacher";
                    return Err(ApiError::field("source", problem));
                }
                if draw.len() > limits.taught {
                    let most = limits.taught;
                    let problem = format!("a teacher takes long; ask for {most} samples at most");
                    return Err(ApiError::too_large("source", problem));
                }
                Work::Teacher(draw)
            }
            (Source::Student, Some(field)) => {
                has_latents(field, about)?;
                Work::Whole(Whole::Explore(Explore { draw, mix, way, moves }))
            }
            (Source::Student, None) => Work::Sample(draw),
        };
        let arrangement = match self.columns {
            None => Arrangement::Square,
            Some(columns) if (1..=limits.samples).contains(&columns) => {
                Arrangement::Columns(columns)
            }
            Some(_) => {
                let most = limits.samples;
                return Err(ApiError::field("columns", format!("give 1 to {most}")));
            }
        };
        self.format.check(about)?;
        Ok(Asked { model, work, format: self.format, arrangement })
    }
}

impl Request for InterpolateRequest {
    fn asked(self, models: &[Model], limits: &Limits) -> Result<Asked, ApiError> {
        let model = model_of(models, self.model.as_deref())?;
        let about = &models[model].about;
        has_latents("model", about)?;
        let (count, steps) = (self.seeds.len(), self.steps.unwrap_or(8));
        if count < 2 {
            return Err(ApiError::field("seeds", "give at least two"));
        }
        limits.check_steps(steps, 2)?;
        limits.check("seeds", (count - 1).saturating_mul(steps), about)?;
        let labels = labels(self.class, self.classes.as_deref(), count, about)?;
        let stops = Draw { seeds: self.seeds, noise: Vec::new(), count, labels };
        self.format.check(about)?;
        let work = Work::Whole(Whole::Interpolate { stops, space: self.space.into(), steps });
        Ok(Asked { model, work, format: self.format, arrangement: Arrangement::Ways(steps) })
    }
}

impl Request for EditRequest {
    fn asked(self, models: &[Model], limits: &Limits) -> Result<Asked, ApiError> {
        let model = model_of(models, self.model.as_deref())?;
        let about = &models[model].about;
        has_latents("model", about)?;
        let (count, steps) = (self.seeds.len(), self.steps.unwrap_or(9));
        limits.check_steps(steps, 3)?;
        if steps.is_multiple_of(2) {
            return Err(ApiError::field("steps", "give an odd number"));
        }
        limits.check("seeds", count.saturating_mul(steps), about)?;
        let (direction, usual) = self.direction(about)?;
        let reach = within("reach", self.reach.unwrap_or(usual), MOST_STRENGTH)?;
        let class = match direction {
            Direction::Classes(from, _) => Some(from),
            _ => self.class,
        };
        let labels = labels(class, None, count, about)?;
        let draw = Draw { seeds: self.seeds, noise: Vec::new(), count, labels };
        self.format.check(about)?;
        let work = Work::Whole(Whole::Edit { draw, direction, reach, steps });
        Ok(Asked { model, work, format: self.format, arrangement: Arrangement::Ways(steps) })
    }
}

impl EditRequest {
    /// The direction, and how far samples are usually moved along it.
    fn direction(&self, about: &About) -> Result<(Direction, f64), ApiError> {
        let ranked = direction("", self.mode, self.principal, about)?;
        match (ranked, self.from_class, self.to_class) {
            (Some(ranked), None, None) => Ok((ranked, 2.0)),
            (None, Some(from), Some(to)) => {
                class_known("from_class", from, about)?;
                class_known("to_class", to, about)?;
                if self.class.is_some() {
                    return Err(ApiError::field("class", "samples begin in `from_class`"));
                }
                if from == to {
                    let problem = "there is no way from a class to itself";
                    return Err(ApiError::field("to_class", problem));
                }
                Ok((Direction::Classes(from, to), 1.0))
            }
            _ => Err(ApiError::field(
                "mode",
                "give `mode`, `principal`, or `from_class` and `to_class`",
            )),
        }
    }
}

impl Request for InvertRequest {
    fn asked(self, models: &[Model], limits: &Limits) -> Result<Asked, ApiError> {
        let model = model_of(models, self.model.as_deref())?;
        let about = &models[model].about;
        has_latents("model", about)?;
        let (count, steps) = (self.images.len(), self.steps.unwrap_or(50));
        limits.check("images", count, about)?;
        if count > limits.inverted {
            let problem = format!("give {} at most", limits.inverted);
            return Err(ApiError::too_large("images", problem));
        }
        if steps > limits.inversion_steps {
            let problem = format!("give {} at most", limits.inversion_steps);
            return Err(ApiError::too_large("steps", problem));
        }
        let images = rows("images", &self.images, about, MOST_STRENGTH)?;
        let labels = labels(self.class, self.classes.as_deref(), count, about)?;
        let labels = match labels {
            Some(labels) => labels,
            None if about.classes == 0 => Labels::none(count),
            None => {
                let problem = "this model is conditional: give the images' classes";
                return Err(ApiError::field("classes", problem));
            }
        };
        self.format.check(about)?;
        let images = Samples { shape: about.shape.clone(), images, labels, ..Samples::default() };
        let work = Work::Whole(Whole::Invert { images, steps });
        Ok(Asked { model, work, format: self.format, arrangement: Arrangement::Square })
    }
}
