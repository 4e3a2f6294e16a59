//! The official implementations' values, through the library: losses and gradients of the image
//! students, and what adversarial training starts with. The files lie beside the project for its
//! developers only; without them these tests say so and pass.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use kdm::data::array;
use kdm::formats::{Options, import};
use kdm::koopman::loss::PairTensors;
use kdm::koopman::{StudentFile, Term};
use kdm::nn::ForwardMode;
use kdm::nn::StateDict;
use kdm::nn::state::gradients;
use kdm::random::normal_vec;

fn reference(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference").join(name);
    if !path.exists() {
        eprintln!("skipped: reference values ({name}) are not there");
        return None;
    }
    Some(path)
}

struct Golden(Vec<(String, kdm::data::Array)>);

impl Golden {
    fn open(path: &Path) -> Self {
        Self(array::read_npz(path).unwrap())
    }
    fn get(&self, name: &str) -> Option<&kdm::data::Array> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }
    fn rows(&self, name: &str, device: &Device) -> Tensor<2> {
        let a = self.get(name).unwrap();
        Tensor::from_data(TensorData::new(a.data.clone(), [a.rows(), a.row_len()]), device)
    }
    fn number(&self, name: &str) -> Option<f64> {
        Some(f64::from(self.get(name)?.data[0]))
    }
}

/// The largest difference in standard deviations of the expected values.
fn error(found: Tensor<2>, expected: &kdm::data::Array) -> f64 {
    let found = found.into_data();
    let found = found.as_slice::<f32>().unwrap();
    assert_eq!(found.len(), expected.data.len());
    let n = found.len() as f64;
    let mean = expected.data.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let std =
        (expected.data.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    found.iter().zip(&expected.data).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
        / std
}

/// Latents, images, every loss term and the gradients of the student's loss, with the
/// discriminator's own loss first.
#[test]
fn image_students_have_the_official_losses_and_gradients() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    for name in ["uncond_dense", "linear_proj", "factorized"] {
        let Some(file) = reference(&format!("kdm_{name}.pt")) else { return };
        let golden = Golden::open(&reference(&format!("kdm_{name}.golden.npz")).unwrap());
        let model = folder.path().join(format!("{name}.safetensors"));
        import(&file, &Options::default(), &device.clone().inner()).unwrap().save(&model).unwrap();
        let (file, student) = StudentFile::load(&model, &device).unwrap();
        let judge = folder.path().join("judge.safetensors");
        let official = reference(&format!("kdm_{name}.discriminator.pt")).unwrap();
        import(&official, &Options::default(), &device.clone().inner())
            .unwrap()
            .save(&judge)
            .unwrap();
        let judge = load_on(&judge, &device);

        let objective = file.objective(None);
        let batch = PairTensors {
            images: golden.rows("x0", &device),
            noise: golden.rows("xT", &device),
            labels: None,
            states: None,
        };
        let zt = student.koopman().unwrap().encode_noise(
            batch.noise.clone(),
            None,
            &ForwardMode::evaluation(),
        );
        let drawn = objective.forward(&student, batch, None, &ForwardMode::evaluation(), true);
        let latents = drawn.latents.clone().unwrap();
        for (found, expected) in [
            (latents.clean, "z0"),
            (zt, "zT"),
            (latents.pushed, "z0_pushed"),
            (latents.rec, "x0_hat"),
            (drawn.push.clone().unwrap(), "x0_pushed_hat"),
        ] {
            let error = error(found, golden.get(expected).unwrap());
            assert!(error < 1e-4, "{name} {expected}: {error}");
        }

        let number = |t: Tensor<1>| f64::from(t.into_scalar::<f32>());
        let own = number(objective.discriminator_loss(&drawn, &judge));
        let terms = objective.terms(drawn, &student, Some(&judge));
        let term = |term| terms.get(term).cloned().map(number);
        let pairs = [
            (Some(own), "adv_loss"),
            (term(Term::Latent), "latent_loss"),
            (term(Term::Rec), "rec_loss"),
            (term(Term::Push), "push_rec_loss"),
            (term(Term::Adversarial), "adv_loss_our"),
            (term(Term::Eigen), "eigen_koopman_loss"),
            (Some(number(terms.total().clone())), "loss"),
        ];
        for (found, expected) in pairs {
            let golden = golden.number(&format!("loss.{expected}"));
            let (Some(found), Some(golden)) = (found, golden) else {
                assert!(
                    found.is_none() && golden.is_none(),
                    "{name} {expected}: {found:?} {golden:?}"
                );
                continue;
            };
            assert!((found / golden - 1.0).abs() < 1e-5, "{name} {expected}: {found} {golden}");
        }

        let worst = |total: Tensor<1>| {
            worst_gradient(name, &golden, &gradients(&student, &total.backward()))
        };
        let here = worst(terms.total().clone());
        if name != "uncond_dense" {
            assert!(here < 1e-3, "{name}: gradients are off by {here}");
        } else if here >= 1e-3 {
            // A LeakyReLU input of the discriminator at its kink (zero) has two derivatives, and
            // rounding decides which one is taken. Then the official gradient is that of inputs
            // which differ by no more than a few units of f32's last place.
            let moved = |key: &str, seed: u64| {
                let rows = golden.rows(key, &device);
                let factors: Vec<f32> = normal_vec(seed, rows.shape().num_elements());
                let factors =
                    Tensor::from_data(TensorData::new(factors, rows.dims()), &device) * 1e-6 + 1.0;
                rows * factors
            };
            let nearby = |seed: u64| {
                let batch = PairTensors {
                    images: moved("x0", seed),
                    noise: moved("xT", seed + 100),
                    labels: None,
                    states: None,
                };
                let drawn =
                    objective.forward(&student, batch, None, &ForwardMode::evaluation(), true);
                worst(objective.terms(drawn, &student, Some(&judge)).total().clone())
            };
            let near = (1..=6).map(nearby).fold(f64::INFINITY, f64::min);
            assert!(
                near < 1e-3,
                "{name}: gradients are off by {here}, and by {near} at the nearest of six points \
                 around"
            );
        }
    }
}

/// The largest relative difference of a gradient from the official one.
fn worst_gradient(name: &str, golden: &Golden, all: &StateDict) -> f64 {
    let mut differences = Vec::new();
    for (theirs, ours) in [
        ("koopman_operator.weight", "operator.linear.weight"),
        ("koopman_operator.P_re", "operator.p_re"),
        ("koopman_operator.P_im", "operator.p_im"),
        ("koopman_operator.P_inv_re", "operator.p_inv_re"),
        ("koopman_operator.P_inv_im", "operator.p_inv_im"),
        ("koopman_operator.nu_log", "operator.nu_log"),
        ("koopman_operator.theta_log", "operator.theta_log"),
        ("xT_observables_encoder.first_conv", "noise_encoder.enc.32x32_conv.weight"),
        ("x0_observables_decoder.first_conv", "decoder.enc.32x32_conv.weight"),
    ] {
        let Some(expected) = golden.get(&format!("grad.{theirs}")) else { continue };
        let found = all.get(ours).unwrap_or_else(|| panic!("{name} has no gradient of {ours}"));
        let found = found.as_slice::<f32>().unwrap();
        let norm = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
        };
        let off = norm(&mut found.iter().zip(&expected.data).map(|(a, b)| a - b));
        differences.push(off / norm(&mut expected.data.iter().copied()));
        println!("{name} {ours}: {:.1e}", differences[differences.len() - 1]);
    }
    assert!(differences.len() >= 3, "{name}: {} gradients compared", differences.len());
    assert!(differences.iter().all(|x| x.is_finite()), "{name}: a gradient is not finite");
    differences.into_iter().fold(0.0, f64::max)
}

fn load_on(path: &Path, device: &Device) -> kdm::nn::Discriminator {
    kdm::stages::distill::open_discriminator(path, 3, device).unwrap()
}
