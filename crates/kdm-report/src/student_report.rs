//! The sections of a student's analysis.

use kdm_analysis::Analysis;

use crate::{Section, cluster_section, memorization_section, operator_section, sample_section};

/// All sections of an analysis, in the order of the page.
pub fn analysis_sections(found: &Analysis) -> Vec<Section> {
    let mut sections = vec![sample_section(&found.gallery)];
    if let Some(operator) = &found.operator {
        sections.push(operator_section(operator, &found.notes));
        sections.push(cluster_section(operator, &found.notes));
    }
    sections.extend(found.memorization.as_ref().map(memorization_section));
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use kdm_analysis::gallery::PointClustering;
    use kdm_analysis::memorization::NearestImages;
    use kdm_analysis::{
        ClusterConfig, KnownStates, KnownTeacher, Memorization, Note, Subject, TeacherPath, analyze,
    };
    use kdm_data::pairs::StateTime;
    use kdm_data::{Labels, Samples};
    use kdm_koopman::{
        Method, NetworkConfig, OperatorConfig, OperatorKind, Sampler, StudentConfig,
    };
    use kdm_observer::Silent;

    use crate::Page;

    /// An analysis of a student of small images with fresh weights, and its page: every part has
    /// its figure and its table, and each title is on the page once as a caption.
    #[test]
    fn the_page_holds_every_part() {
        let config = StudentConfig {
            method: Method::Koopman,
            shape: vec![1, 2, 2],
            label_dim: 2,
            noise_std: 1.0,
            latent: 8,
            levels: Vec::new(),
            network: NetworkConfig::Mlp { hidden: 16, layers: 2 },
            operator: OperatorConfig { kind: OperatorKind::Dense, projection: None, control: true },
        };
        let device = Device::flex();
        let student = config.init(0, &device);
        let sampler = Sampler::new(student.clone(), &config, &device);
        let samples = Samples {
            shape: config.shape.clone(),
            noise: kdm_random::normal_vec(1, 4 * 40),
            labels: Labels::of(&(0..40).map(|i| i % 2).collect::<Vec<u32>>()),
            images: kdm_random::normal_vec(2, 4 * 40),
            ..Samples::default()
        };
        let subject = Subject {
            student: &student,
            config: &config,
            sampler: &sampler,
            device: &device,
            samples: &samples,
            extractor: None,
            reference: None,
            data: "",
            class_names: &[],
        };
        let clustering =
            PointClustering { config: ClusterConfig::default(), samples: 40, mode_of: None };
        let rows = vec![vec![0.0; 16]; 9];
        let known = KnownStates {
            times: vec![StateTime::straight(0.3, 1.0), StateTime::straight(0.6, 1.0)],
            states: vec![vec![0.5; 4 * 40]; 2],
        };
        let path = TeacherPath { times: vec![0.0; 9], states: rows.clone(), denoised: rows };
        let teacher = KnownTeacher { path: Some(&path), states: Some(&known) };
        let mut found = analyze(&subject, &clustering, teacher, &Silent).unwrap();
        found.memorization = Some(Memorization {
            distance: 1.0,
            distance_of_test: None,
            copies: None,
            nearest: NearestImages {
                features: "a <network>".into(),
                shape: config.shape.clone(),
                samples: 2,
                images: vec![0.0; 16],
            },
        });
        found.notes = vec![Note::NoEigenbasis];
        let page = Page { sections: analysis_sections(&found), ..Page::default() };
        let html = page.html();
        for figure in [
            "Teacher",
            "Student",
            "Classes",
            "Between noises",
            "Between latents",
            "Spectrum",
            "Truncation",
            "Samples by modes kept",
            "From noise to image",
            "States between noise and image",
            "Neighbours",
            "Nearest training images",
        ] {
            assert_eq!(html.matches(&format!("<b>{figure}.</b>")).count(), 1, "{figure}");
        }
        for table in [
            "Spectrum",
            "Distance to the teacher's states",
            "Modes that carry most",
            "Operator",
            "Truncation to the modes that carry most",
            "Correlation of distances",
            "Stretch",
            "Neighbours are alike",
            "Nearest training images",
        ] {
            assert_eq!(html.matches(&format!("<caption>{table}</caption>")).count(), 1, "{table}");
        }
        assert!(html.contains("a &lt;network&gt;") && html.contains("no modes are shown"));
        // A row of operator's images, of teacher's states and of its estimates for four samples.
        let strip = page.figures().find(|f| f.title == "From noise to image").unwrap();
        let strip = image::load_from_memory(&strip.picture.png()).unwrap();
        assert_eq!((strip.width(), strip.height()), (9 * 2 + 8 * 2, 12 * 2 + 11 * 2));
        let near = page.figures().find(|f| f.title == "Neighbours").unwrap();
        let near = image::load_from_memory(&near.picture.png()).unwrap();
        assert_eq!((near.width(), near.height()), (19 * 2 + 18 * 2, 8 * 2 + 7 * 2));
    }
}
