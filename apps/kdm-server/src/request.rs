//! What requests say.

use std::collections::BTreeMap;

use kdm::koopman::interpolation::InterpolationSpace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::response::Format;

/// What one request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples of an answer.
    pub samples: usize,
    /// Numbers of an answer: samples by their size.
    pub values: usize,
    /// Steps of a row.
    pub steps: usize,
    /// Samples of a teacher.
    pub taught: usize,
    /// Images that are inverted at a time.
    pub inverted: usize,
    /// Steps of an inversion.
    pub inversion_steps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples: 1024,
            values: 16 << 20,
            steps: 101,
            taught: 64,
            inverted: 16,
            inversion_steps: 200,
        }
    }
}

/// Which samples: `seeds`, or `count` of them from `first_seed` on, or `noise`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesRequest {
    /// The model; may be left out where one is served.
    pub model: Option<String>,
    /// Seeds: a sample depends on its own alone.
    pub seeds: Option<Vec<u64>>,
    /// How many samples, with the seeds from `first_seed` on.
    pub count: Option<usize>,
    /// The first seed of `count`; 0 unless given.
    pub first_seed: Option<u64>,
    /// Noise x_T with its full standard deviation, a row a sample, in place of seeds.
    pub noise: Option<Vec<Vec<f32>>>,
    /// The class of all samples; each seed's own unless given.
    pub class: Option<u32>,
    /// The class of each sample.
    pub classes: Option<Vec<u32>>,
    /// A mix of classes, such as `{"3": 0.5, "8": 0.5}`, of all samples alike.
    pub mix: Option<BTreeMap<u32, f32>>,
    /// The way to another sample, and how far to go on it.
    pub way: Option<WayRequest>,
    /// Directions of the latent space with how far to move.
    pub moves: Vec<MoveRequest>,
    /// Who draws.
    pub source: Source,
    /// Columns of the picture; about as many as rows unless given.
    pub columns: Option<usize>,
    /// The form of the answer.
    pub format: Format,
}

/// Who draws samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The student, in one pass.
    #[default]
    Student,
    /// Its teacher, from the same noise, in all of its steps.
    Teacher,
}

/// The way from each sample to the one of a seed.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WayRequest {
    /// The seed of its end.
    pub seed: u64,
    /// The class of its end; unless given the class of the samples, or the seed's own.
    pub class: Option<u32>,
    /// How far to go, from 0 to 1.
    pub t: f64,
    /// Along the noise or in the latent space.
    #[serde(rename = "in", default)]
    pub space: Space,
}

/// Where a way goes along.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// The great circle between two noises.
    Noise,
    /// The straight line between two latents.
    #[default]
    Latent,
}

impl From<Space> for InterpolationSpace {
    fn from(space: Space) -> Self {
        match space {
            Space::Noise => Self::Noise,
            Space::Latent => Self::Latent,
        }
    }
}

/// A direction, and how far to move along it: a `mode`, or a `principal` direction.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The rank of a mode, from 1.
    pub mode: Option<usize>,
    /// The rank of a principal direction, from 1.
    pub principal: Option<usize>,
    /// How far, in deviations of latents along it.
    pub strength: f64,
}

/// Rows of samples from each to the next.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InterpolateRequest {
    /// The model; may be left out where one is served.
    pub model: Option<String>,
    /// The seeds to go through, at least two.
    pub seeds: Vec<u64>,
    /// Classes to go through, one a seed; each seed's own unless given.
    pub classes: Option<Vec<u32>>,
    /// One class for all.
    pub class: Option<u32>,
    /// Samples of a row, both ends among them; 8 unless given.
    pub steps: Option<usize>,
    /// Along the noise or in the latent space.
    #[serde(rename = "in", default)]
    pub space: Space,
    /// The form of the answer.
    #[serde(default)]
    pub format: Format,
}

/// Rows of samples moved along a direction: a `mode`, a `principal` direction, or `from_class` to
/// `to_class`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditRequest {
    /// The model; may be left out where one is served.
    pub model: Option<String>,
    /// The seeds of the samples to move, a row each.
    pub seeds: Vec<u64>,
    /// The class of all samples; each seed's own unless given.
    pub class: Option<u32>,
    /// The rank of a mode, from 1.
    pub mode: Option<usize>,
    /// The rank of a principal direction, from 1.
    pub principal: Option<usize>,
    /// The class to move away from.
    pub from_class: Option<u32>,
    /// The class to move to.
    pub to_class: Option<u32>,
    /// How far to either side; 2 deviations of latents, or once the distance of the classes, unless
    /// given.
    pub reach: Option<f64>,
    /// Samples of a row, the middle one the sample itself: an odd number, 9 unless given.
    pub steps: Option<usize>,
    /// The form of the answer.
    #[serde(default)]
    pub format: Format,
}

/// Images brought back to noise.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvertRequest {
    /// The model; may be left out where one is served.
    pub model: Option<String>,
    /// Images in [-1, 1], a row of numbers each: channels, then rows, then columns.
    pub images: Vec<Vec<f32>>,
    /// The class of each image.
    pub classes: Option<Vec<u32>>,
    /// One class for all.
    pub class: Option<u32>,
    /// Steps of the refinement; 50 unless given.
    pub steps: Option<usize>,
    /// The form of the answer: JSON with the noise, or the images as they come back.
    #[serde(default = "json")]
    pub format: Format,
}

fn json() -> Format {
    Format::Json
}

/// A request's body as what it says.
///
/// # Errors
/// 400 with the field where it isn't JSON, or says something else.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // An array would be taken for fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::field("body", "send a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        match path.as_str() {
            "." | "?" => ApiError::field("body", message),
            path => ApiError::field(path, message),
        }
    })?;
    json.end().map_err(|error| ApiError::field("body", error.to_string()))?;
    Ok(parsed)
}
