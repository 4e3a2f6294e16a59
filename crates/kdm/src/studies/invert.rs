//! Images brought back to latents and noise.

use std::path::{Path, PathBuf};

use kdm_data::{Array, Samples, array, atomic};
use kdm_koopman::inversion::{Inversion, InversionConfig, invert};
use kdm_report::{Page, inversion_section};
use serde_json::json;

use crate::run_folder::pretty;
use crate::stages::examine::write_report;
use crate::student::LoadedStudent;
use crate::{Context, Failure, Outcome};

/// Recovers latents and noise of `samples`' images, writes them as `inversion.npz` in `folder` with
/// a page, and gives them with the page's path. Where the images' own noise is in `samples`, what
/// is found is compared with it.
///
/// # Errors
/// When the student is a direct one, its operator can't be inverted, files can't be written, or the
/// observer stops the work.
pub fn invert_images(
    student: &LoadedStudent,
    samples: &Samples,
    config: InversionConfig,
    folder: &Path,
    context: Context,
) -> Outcome<(Inversion, PathBuf)> {
    if samples.is_empty() {
        return Err(Failure::Usage("--count 0: give at least 1".into()));
    }
    if !(0.0..1.0).contains(&config.cutoff) {
        let cutoff = config.cutoff;
        return Err(Failure::Usage(format!("--cutoff {cutoff}: give at least 0 and below 1")));
    }
    let parts = student.stepwise()?;
    let found = invert(parts, &student.sampler, samples, config, context.observer)?;
    atomic::create_folder(folder)?;
    let (count, n) = (samples.len(), student.config().operator_dim());
    let latent = |values: &[f32]| Array::new([count, n], values.to_vec());
    let shape = [&[count], samples.shape.as_slice()].concat();
    array::write_npz(
        &folder.join("inversion.npz"),
        &[
            ("encoded", &latent(&found.encoded)),
            ("pulled_back", &latent(&found.pulled_back)),
            ("refined", &latent(&found.refined)),
            ("noise", &Array::new(shape, found.noise.clone())),
        ],
    )?;
    let page = Page {
        title: "Inversion".into(),
        summary: format!(
            "{count} images brought back to latents and noise of {}.",
            student.path.display()
        ),
        sections: vec![inversion_section(&found, samples)],
        config: pretty(&json!(student.file)),
        ..Page::default()
    };
    let report = write_report(folder, &page, context)?;
    Ok((found, report))
}
