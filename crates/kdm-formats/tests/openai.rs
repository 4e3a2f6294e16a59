//! OpenAI's U-Net: weights under its names are imported, and compute what PyTorch does with them.
//! The values and their generator, `openai.py`, are among the goldens of kdm-nn.

#[path = "../../kdm-nn/tests/goldens/weight.rs"]
mod weight;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use kdm_formats::{Model, Options, export_file, import};
use kdm_nn::state::load_state;
use kdm_nn::{ForwardMode, InitSeed, StateDict, UNetConfig};
use kdm_teacher::networks::preconditioning::Conditioner;
use kdm_teacher::{Preconditioning, TeacherConfig};
use serde_json::{Value, json};
use weight::weight;

/// f32 rounding through some dozen layers is 1e-5; what the project asks for is 1e-4.
const TOLERANCE: f64 = 1e-4;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kdm-nn/tests/goldens");
    let text = std::fs::read_to_string(path.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// A file with the golden's weights under their original names, within a wrapper's prefix.
fn file_of(golden: &Value, folder: &Path, prefix: &str) -> std::path::PathBuf {
    let shapes = golden["shapes"].as_object().unwrap();
    let state: StateDict = shapes
        .iter()
        .map(|(name, shape)| {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            (format!("{prefix}{name}"), TensorData::new(weight(name, &shape), shape))
        })
        .collect();
    let path = folder.join("unet.safetensors");
    kdm_data::tensors::write_state(&path, &Value::Null, &state).unwrap();
    path
}

fn options(golden: &Value) -> Options {
    let settings = golden["settings"].as_object().unwrap();
    let settings = settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Options { settings, ..Options::default() }
}

#[test]
fn imported_networks_equal_torch() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    for name in [
        "openai_improved",
        "openai_guided",
        "openai_new_order",
        "openai_pooled",
        "openai_heads_up",
        "openai_one_level",
    ] {
        let golden = golden(name);
        let path = file_of(&golden, folder.path(), "module.");
        let imported = import(&path, &options(&golden), &device).unwrap();
        let Model::Teacher { config: TeacherConfig::Network(config), state } = &imported.model
        else {
            panic!("{name}");
        };
        let network =
            load_state(config.network.init(&mut InitSeed::new(0), &device), state).unwrap();
        let (channels, classes) = (config.network.channels().0, config.network.label_dim());
        let shape = [2, channels, 8, 8];
        let x = Tensor::from_data(TensorData::new(floats(&golden["x"]), shape), &device);
        let time = Tensor::from_data(TensorData::new(floats(&golden["noise"]), [2]), &device);
        let labels = (classes > 0).then(|| {
            let one_hot = (0..2 * classes).map(|i| f32::from(u8::from(i % classes == i / classes)));
            Tensor::from_data(TensorData::new(one_hot.collect::<Vec<f32>>(), [2, classes]), &device)
        });
        let y = network.forward(x, time, labels, None, &ForwardMode::evaluation());
        let (found, expected) =
            (y.into_data().as_slice::<f32>().unwrap().to_vec(), floats(&golden["y"]));
        let n = expected.len() as f64;
        let std = (expected.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n).sqrt();
        let most = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs()));
        let error = most.fold(0.0, f64::max) / std;
        assert!(found.len() == expected.len() && error < TOLERANCE, "{name}: {error}");

        // Out again under the original names, and back.
        let (model, out) =
            (folder.path().join("m.safetensors"), folder.path().join("o.safetensors"));
        imported.save(&model).unwrap();
        let file = kdm_data::TensorFile::open(&model).unwrap();
        export_file(&file, &out, &device).unwrap();
        let names = kdm_data::TensorFile::open(&out).unwrap();
        for (name, shape) in golden["shapes"].as_object().unwrap() {
            let found = names.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!(json!(found.shape), *shape, "{name}");
        }
    }
}

/// A schedule of other steps than 1000, as `--set steps=4000` asks for: variances that add up to
/// the same noise, and times from 0 to 1000, or the steps' own numbers.
#[test]
fn schedules_of_other_lengths_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden("openai_improved");
    let path = file_of(&golden, folder.path(), "");
    let of = |preconditioning: Preconditioning, settings: &[(&str, Value)]| {
        let more = settings.iter().map(|(key, value)| (key.to_string(), value.clone()));
        let mut options = options(&golden);
        options.settings.extend(more);
        options.preconditioning = Some(preconditioning);
        let imported = import(&path, &options, &Device::flex())?;
        match imported.model {
            Model::Teacher { config: TeacherConfig::Network(config), .. } => {
                Ok::<_, kdm_data::Error>(config.preconditioning)
            }
            _ => panic!(),
        }
    };
    let steps = ("steps", json!(4000));
    let plain = ("rescale_timesteps", json!(false));
    for (kind, settings, time) in [
        (Preconditioning::DDPM_LINEAR, vec![steps.clone()], 999.75),
        (Preconditioning::DDPM_COSINE, vec![steps.clone()], 999.75),
        (Preconditioning::DDPM_LINEAR, vec![steps.clone(), plain], 3999.0),
        (Preconditioning::DDPM_LINEAR, vec![("steps", json!(1000))], 999.0),
    ] {
        let found = of(kind.clone(), &settings).unwrap();
        let (long, usual) = (Conditioner::new(found), Conditioner::new(kind));
        let ((_, high), (_, usual_high)) = (long.range(), usual.range());
        assert!((long.factors(high).c_noise - time).abs() < 1e-6, "{settings:?}");
        // The cosine's last levels depend on the length.
        let ratio = high.ln() / usual_high.ln();
        assert!((ratio - 1.0).abs() < 0.25, "{settings:?}: {high} {usual_high}");
    }
    let message = of(Preconditioning::KARRAS, &[steps]).unwrap_err().to_string();
    assert!(message.contains("--set steps") && message.contains("ddpm-linear"), "{message}");
}

/// What weights don't tell is said with the flag that changes it, and a wrong flag is refused.
#[test]
fn what_is_assumed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden("openai_improved");
    let path = file_of(&golden, folder.path(), "");
    let device = Device::flex();
    let imported = import(&path, &Options::default(), &device).unwrap();
    let told = imported.found.join("\n");
    for part in ["--set num_heads=", "--set resolution=", "--preconditioning", "learned variance"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let preconditioning = Some(Preconditioning::DDPM_COSINE);
    let told = import(&path, &Options { preconditioning, ..options(&golden) }, &device).unwrap();
    assert!(!told.found.join("\n").contains("--set resolution"), "{:?}", told.found);
    let Model::Teacher { config: TeacherConfig::Network(config), .. } = told.model else {
        panic!()
    };
    assert_eq!(config.preconditioning, Preconditioning::DDPM_COSINE);
    let UNetConfig::OpenaiUnet(network) = config.network else { panic!() };
    assert_eq!((network.resolution, network.learn_sigma), (8, true));
    // consistency_models' attention has its channels in the new order, which shapes don't tell.
    let preconditioning = Some(Preconditioning::KARRAS);
    let karras = import(&path, &Options { preconditioning, ..options(&golden) }, &device).unwrap();
    let network = |imported: &kdm_formats::Imported| match &imported.model {
        Model::Teacher { config: TeacherConfig::Network(config), .. } => {
            let UNetConfig::OpenaiUnet(network) = &config.network else { panic!() };
            network.clone()
        }
        _ => panic!(),
    };
    assert!(
        network(&karras).use_new_attention_order && !network(&imported).use_new_attention_order
    );
    // Only networks that resize by blocks are taken to have heads of one width.
    let heads = |name: &str| {
        let golden = self::golden(name);
        let path = file_of(&golden, folder.path(), "");
        network(&import(&path, &options(&golden), &device).unwrap()).num_head_channels
    };
    assert_eq!([heads("openai_guided"), heads("openai_improved")], [Some(64), None]);
    let path = file_of(&golden, folder.path(), "");
    for (key, value, part) in [
        ("heads", json!(3), "is no key"),
        ("num_heads", json!("many"), "--set"),
        ("num_heads", json!(5), "doesn't divide"),
        ("num_heads_upsample", json!(5), "doesn't divide"),
        ("steps", json!(10), "between 0 and 1"),
        ("steps", json!(1), "between 2 and 1000000"),
        ("steps", json!("many"), "give a whole number"),
        ("rescale_timesteps", json!(1), "give true or false"),
        ("resolution", json!(9), "multiple of 2"),
    ] {
        let settings = vec![(key.to_string(), value)];
        let options = Options { settings, ..Options::default() };
        let message = import(&path, &options, &device).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
