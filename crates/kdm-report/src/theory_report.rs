//! Experiments with exact answers.

use kdm_analysis::Theory;
use kdm_analysis::theory::{AffineStudent, DegreeRow};
use serde_json::json;

use crate::plot::{Axis, Plot, Series};
use crate::{Figure, Page, Section, Table};

/// The experiments as a page.
///
/// # Panics
/// Never: their numbers are plain data.
pub fn theory_page(theory: &Theory) -> Page {
    Page {
        title: "Theory".into(),
        summary: "Teachers in closed form, where the method has exact answers. The flow of \
                  Gaussian data is affine: a student of affine maps must find it. On polynomials \
                  its operator has the products of the flow's eigenvalues. The flow of a mixture \
                  is not linear in any finite dictionary: the error must fall as the dictionary \
                  grows."
            .into(),
        sections: vec![gaussian_section(theory), mixture_section(theory)],
        config: serde_json::to_string_pretty(&json!(theory)).expect("plain data") + "\n",
        ..Page::default()
    }
}

fn gaussian_section(theory: &Theory) -> Section {
    let AffineStudent { flow_error, exact, learned, .. } = &theory.gaussian;
    let values =
        |x: &[f64]| x.iter().map(|x| format!("{x:.5}")).collect::<Vec<String>>().join(", ");
    let rows = vec![
        [
            "flow_error".into(),
            format!("{flow_error:.2e}"),
            "root mean square of a coordinate's distance between the trained affine student and \
             the exact flow"
                .into(),
        ],
        ["exact".into(), values(exact), "eigenvalues of the exact flow's linear part".into()],
        ["learned".into(), values(learned), "the student's".into()],
        [
            "products".into(),
            format!("{:.1e}", theory.gaussian_products),
            "largest distance of the eigenvalues of the operator on polynomials of degree 2 from \
             the products of the flow's"
                .into(),
        ],
    ];
    Section { tables: vec![Table::of("Gaussian data", rows)], ..Section::new("Gaussian data") }
}

fn mixture_section(theory: &Theory) -> Section {
    let Theory { mixture, sizes, .. } = theory;
    let degrees = Table::with_columns(
        "A mixture of eight Gaussians: polynomials of a degree",
        &["degree", "functions", "coordinate rmse on the points of the fit", "on others"],
        mixture
            .iter()
            .map(|row| {
                let of = |x: f64| format!("{x:.4}");
                let (degree, functions) = (row.degree.to_string(), row.functions.to_string());
                vec![degree, functions, of(row.fitted), of(row.tested)]
            })
            .collect(),
    );
    let latents = Table::with_columns(
        "The same: trained students by latent dimension",
        &["latent dimension", "coordinate rmse on unseen noise"],
        sizes
            .iter()
            .map(|row| vec![row.latent.to_string(), format!("{:.4}", row.tested)])
            .collect(),
    );
    let by_functions = |pick: fn(&DegreeRow) -> f64| {
        mixture.iter().map(|row| (row.functions as f64, pick(row))).collect()
    };
    let curves = vec![
        Series::line("dictionary, points of the fit", by_functions(|row| row.fitted)),
        Series::line("dictionary, others", by_functions(|row| row.tested)),
        Series::line(
            "student of that latent dimension",
            sizes.iter().map(|row| (row.latent as f64, row.tested)).collect(),
        ),
    ];
    let axis = Axis::log2("functions in the dictionary, or latent dimension");
    let title = "Error of a linear operator";
    let caption = "How well a linear operator carries noise to a mixture of eight Gaussians: on a \
                   dictionary of polynomials, and on a trained student's own functions. With \
                   polynomials the error falls slowly, since they are smooth and the flow is \
                   nearly discontinuous at the borders between two components.";
    Section {
        figures: Plot::curves(axis, Axis::log10("coordinate rmse"), curves)
            .map(|plot| Figure::new(title, plot, caption))
            .into_iter()
            .collect(),
        tables: vec![degrees, latents],
        ..Section::new("A mixture of Gaussians")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdm_analysis::theory::LatentRow;

    #[test]
    fn the_page_holds_all_experiments() {
        let theory = Theory {
            gaussian: AffineStudent {
                flow_error: 1e-4,
                exact: vec![0.5, 0.25],
                learned: vec![0.5, 0.25],
                eigenvalue_error: 0.0,
            },
            gaussian_products: 1e-10,
            mixture: vec![DegreeRow { degree: 1, functions: 3, fitted: 0.5, tested: 0.5 }],
            sizes: vec![LatentRow { latent: 4, tested: 0.25 }],
        };
        let page = theory_page(&theory);
        let html = page.html();
        for part in ["Gaussian data", "Error of a linear operator", "latent dimension", "0.50000"] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!((page.tables().count(), page.figures().count()), (3, 1));
    }
}
