//! Answers: samples as a picture, as an archive of pictures, as an array or as JSON.

use std::io::{Cursor, Write};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kdm::data::{Array, Samples, array};
use kdm::report::{PlotFormat, grid};
use kdm::sample_picture::{Arrangement, picture};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::error::ApiError;
use crate::json::json;
use crate::models::About;
use crate::work::Done;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One picture: images in a grid, points in the plane.
    #[default]
    Png,
    /// A zip of one PNG an image, named by seeds.
    Zip,
    /// A NumPy array, float32, `[N, ...]`.
    Npy,
    /// Numbers, with seeds and classes.
    Json,
}

impl Format {
    /// Whether samples of the model can be given so.
    ///
    /// # Errors
    /// 400 where they have no picture.
    pub fn check(self, about: &About) -> Result<(), ApiError> {
        let points = about.shape.iter().product::<usize>() == 2;
        let shown = grid::shows(&about.shape);
        if matches!((self, points, shown), (Self::Png, false, false) | (Self::Zip, _, false)) {
            let problem = "samples of this model are no images; ask for `npy` or `json`";
            return Err(ApiError::field("format", problem));
        }
        Ok(())
    }

    /// The answer.
    pub fn response(self, done: Done, arrangement: Arrangement) -> Response {
        let typed = |kind: &'static str, bytes: Vec<u8>| {
            ([(header::CONTENT_TYPE, kind)], bytes).into_response()
        };
        let Done { samples, inversion } = done;
        match self {
            Self::Png => typed("image/png", picture(&samples, arrangement, PlotFormat::Png)),
            Self::Zip => typed("application/zip", zipped(&samples)),
            Self::Npy => {
                let shape = [&[samples.len()], samples.shape.as_slice()].concat();
                let array = Array::new(shape, samples.images);
                typed("application/x-npy", array::npy_bytes(&array))
            }
            Self::Json => {
                let mut body = numbers(&samples);
                if let Some(found) = inversion {
                    body["inversion"] = serde_json::json!(found);
                    body["noise"] = by_row(&samples.noise, samples.dim());
                }
                json(StatusCode::OK, &body)
            }
        }
    }
}

/// Rows of numbers.
fn by_row(values: &[f32], width: usize) -> Value {
    values.chunks(width.max(1)).map(|row| serde_json::json!(row)).collect()
}

/// Samples as JSON.
fn numbers(samples: &Samples) -> Value {
    let classes: Vec<Option<u32>> = samples.labels.iter().collect();
    serde_json::json!({
        "shape": samples.shape,
        "seeds": samples.seeds,
        "classes": classes,
        "samples": by_row(&samples.images, samples.dim()),
    })
}

/// Images as a zip of PNG files.
fn zipped(samples: &Samples) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // PNG is compressed already.
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (i, image) in samples.images.chunks(samples.dim()).enumerate() {
        let name = match samples.seeds.get(i) {
            Some(seed) => format!("{i:04}-seed-{seed}.png"),
            None => format!("{i:04}.png"),
        };
        archive.start_file(name, options).expect("writing to memory");
        let png = grid::png(image, &samples.shape, 1);
        archive.write_all(&png).expect("writing to memory");
    }
    archive.finish().expect("writing to memory").into_inner()
}
