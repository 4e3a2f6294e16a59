//! Images and what comes back of them.

use kdm_data::Samples;
use kdm_koopman::inversion::Inversion;

use crate::{Figure, Section, Table, grid};

/// The section on an inversion of `samples`' images.
pub fn inversion_section(found: &Inversion, samples: &Samples) -> Section {
    Section {
        figures: figure(found, samples).into_iter().collect(),
        tables: vec![inversion_table(found)],
        ..Section::new("Inversion")
    }
}

/// The errors of an inversion as a table.
pub fn inversion_table(found: &Inversion) -> Table {
    let errors = &found.coordinate_rmse;
    let rmse = "coordinate rmse:";
    let rows = [
        ("encoder", Some(errors.encoder), format!("{rmse} D(E_0(x)), by the clean encoder")),
        (
            "pulled_back",
            Some(errors.pulled_back),
            format!("{rmse} D(C z_T) for z_T by the operator's pseudo-inverse from E_0(x)"),
        ),
        (
            "refined_latent",
            Some(errors.refined_latent),
            format!("{rmse} D(z) for the latent found by descent from E_0(x)"),
        ),
        (
            "refined_noise",
            Some(errors.refined_noise),
            format!(
                "{rmse} the sample of the noise found by descent, from random noise of the same \
                 length"
            ),
        ),
        (
            "own_noise",
            errors.own_noise,
            format!("{rmse} the student's sample of the image's own noise"),
        ),
        (
            "noise_cosine",
            found.noise_cosine,
            "cosine of the noise found and the image's own; 0 for unrelated noise".into(),
        ),
        (
            "latent_cosine",
            found.latent_cosine,
            "cosine of z_T pulled back and E_T of the image's own noise".into(),
        ),
    ];
    let known = rows
        .into_iter()
        .filter_map(|(name, value, note)| Some([name.to_string(), format!("{:.4}", value?), note]));
    Table::of("How well images come back", known.collect())
}

fn figure(found: &Inversion, samples: &Samples) -> Option<Figure> {
    if !grid::shows(&samples.shape) {
        return None;
    }
    let drawn = &found.drawn;
    let rows = [
        &samples.images,
        &drawn.encoder,
        &drawn.pulled_back,
        &drawn.refined_latent,
        &drawn.refined_noise,
    ];
    let all: Vec<f32> = rows.into_iter().flatten().copied().collect();
    let caption = "The images; reconstructed by the clean encoder and the decoder; through the \
                   operator's pseudo-inverse; from a refined latent; as samples of the noise that \
                   was found.";
    Some(Figure::of_pixels("Inversion", grid::png(&all, &samples.shape, samples.len()), caption))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_data::Labels;
    use kdm_koopman::inversion::{InversionErrors, InvertedImages};

    #[test]
    fn what_is_not_known_has_no_row() {
        let one = vec![0.5; 4];
        let mut found = Inversion {
            images: 1,
            coordinate_rmse: InversionErrors {
                encoder: 0.1,
                pulled_back: 0.2,
                refined_latent: 0.05,
                refined_noise: 0.3,
                own_noise: None,
            },
            noise_cosine: None,
            latent_cosine: None,
            encoded: Vec::new(),
            pulled_back: Vec::new(),
            refined: Vec::new(),
            noise: Vec::new(),
            drawn: InvertedImages {
                encoder: one.clone(),
                pulled_back: one.clone(),
                refined_latent: one.clone(),
                refined_noise: one.clone(),
            },
        };
        let samples = Samples {
            shape: vec![1, 2, 2],
            images: one,
            labels: Labels::none(1),
            ..Samples::default()
        };
        assert_eq!(inversion_table(&found).rows.len(), 4);
        found.noise_cosine = Some(0.9);
        let section = inversion_section(&found, &samples);
        assert_eq!(section.tables[0].rows[4][..2], ["noise_cosine", "0.9000"]);
        // Five images of 2x2 pixels below each other, with gaps of 2.
        let picture = image::load_from_memory(&section.figures[0].picture.png()).unwrap();
        assert_eq!((picture.width(), picture.height()), (2, 5 * 2 + 4 * 2));
    }
}
