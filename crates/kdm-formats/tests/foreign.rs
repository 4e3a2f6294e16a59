//! Every kind of foreign file, small: what an import makes of it; and the same files cut short,
//! with bits flipped, and hostile ones. The files and their generator are in `foreign/`.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, TensorData};
use kdm_data::Labels;
use kdm_data::pairs::TeacherStamp;
use kdm_formats::{Format, Imported, Model, Options};
use kdm_koopman::{OperatorKind, Reconstruction};
use kdm_nn::{StateDict, UNetConfig};
use kdm_random::uniform_u64;
use kdm_teacher::{Denoiser, Level, Preconditioning, Teacher, TeacherConfig};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign").join(name)
}

fn import(path: &Path, options: &Options) -> kdm_data::Result<Imported> {
    kdm_formats::import(path, options, &Device::flex())
}

fn import_bytes(path: &Path, bytes: Vec<u8>, options: &Options) -> kdm_data::Result<Imported> {
    kdm_formats::import_bytes(path, bytes, options, &Device::flex())
}

fn imported(name: &str) -> Imported {
    import(&file(name), &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn refused(path: &Path, options: &Options, parts: &[&str]) {
    let message = import(path, options).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

fn teacher(imported: &Imported) -> (&kdm_teacher::NetworkTeacherConfig, &StateDict) {
    match &imported.model {
        Model::Teacher { config: TeacherConfig::Network(config), state } => (config, state),
        other => panic!("no image teacher: {other:?}"),
    }
}

/// The same network from every protocol and container.
#[test]
fn nvlabs_networks_come_from_every_protocol_and_container() {
    let reference = imported("edm_protocol4.pkl");
    let (config, state) = teacher(&reference);
    assert_eq!(config.preconditioning, Preconditioning::EDM);
    let UNetConfig::SongUnet(unet) = &config.network else { panic!() };
    assert_eq!((unet.resolution, unet.label_dim, unet.augment_dim, unet.dropout), (4, 2, 9, 0.13));
    assert!(reference.ignored.iter().any(|line| line.contains("never run")));
    for name in ["edm_protocol2.pkl", "edm_protocol3.pkl", "edm_protocol5.pkl"] {
        let other = imported(name);
        assert_eq!(teacher(&other).1, state, "{name}");
        assert_eq!(teacher(&other).0.network, config.network, "{name}");
    }
    // State dicts don't say how much dropout there was.
    for name in ["edm_state.pt", "edm_state.safetensors"] {
        assert_eq!(teacher(&imported(name)).1, state, "{name}");
    }
    let half = imported("edm_state_half_legacy.pth");
    for (name, data) in teacher(&half).1 {
        let (a, b) = (data.as_slice::<f32>().unwrap(), state[name].as_slice::<f32>().unwrap());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 5e-4 * b.abs() + 1e-6), "{name}");
    }
    let options = Options { preconditioning: Some(Preconditioning::VE), ..Options::default() };
    let told = import(&file("edm_state.pt"), &options).unwrap();
    assert_eq!(teacher(&told).0.preconditioning, Preconditioning::VE);
    assert_eq!(teacher(&imported("edm_VPPrecond.pkl")).0.preconditioning, Preconditioning::VP);
    assert_eq!(teacher(&imported("edm_VEPrecond.pkl")).0.preconditioning, Preconditioning::VE);
}

#[test]
fn official_students_are_read_with_their_settings() {
    let student = |name: &str| match imported(name).model {
        Model::Student { file, .. } => file,
        other => panic!("{name}: {other:?}"),
    };
    let control = student("kdm_control.pt");
    assert_eq!((control.student.shape.as_slice(), control.student.label_dim), (&[2, 4, 4][..], 3));
    assert!(control.student.operator.control && control.student.operator.projection.is_none());
    assert_eq!((control.student.noise_std, control.loss.latent_noise), (80.0, 0.4));
    assert_eq!(control.loss.adversarial_weight, 1.0);
    let factorized = student("kdm_factorized.pt");
    assert_eq!(factorized.student.operator.kind, OperatorKind::Factorized);
    assert_eq!(factorized.student.operator.projection, Some(5));
    assert_eq!(factorized.loss.reconstruction, Reconstruction::Huber);
    assert_eq!((factorized.loss.adversarial_weight, factorized.student.label_dim), (0.0, 0));
    // A state dict, whose settings are the paper's.
    let state = student("kdm_state.pt");
    assert_eq!(
        (state.student.operator_dim(), state.student.noise_std, state.student.label_dim),
        (16, 80.0, 3)
    );
    assert_eq!(state.student.network, {
        let mut network = control.student.network.clone();
        if let kdm_koopman::NetworkConfig::Unet { dropout, .. } = &mut network {
            assert_eq!(*dropout, 0.1);
            *dropout = 0.0;
        }
        network
    });
}

/// Through the probability-flow ODE's denoiser, D = x - s eps(x / sqrt(1 + s^2), t), at levels of
/// the schedule.
#[test]
fn diffusers_folders_denoise_as_diffusers_does() {
    let folder = tempfile::tempdir().unwrap();
    let cases: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file("diffusers.golden.json")).unwrap())
            .unwrap();
    let mut stamps: Vec<TeacherStamp> = Vec::new();
    for name in ["diffusers", "diffusers/unet", "diffusers_old"] {
        let path = folder.path().join("teacher.safetensors");
        imported(name).save(&path).unwrap();
        let teacher = Teacher::load(&path, &Device::flex()).unwrap();
        let (least, most) = teacher.sigma_range();
        assert!((least - 0.01).abs() < 1e-3 && (most - 157.4).abs() < 0.1, "{least} {most}");
        for case in cases.as_array().unwrap() {
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
            };
            let level = Level { alpha: 1.0, sigma: case["sigma"].as_f64().unwrap() };
            let labels = Labels::none(numbers("x").len() / teacher.dim());
            let (found, expected) =
                (teacher.denoise(&numbers("x"), level, &labels), numbers("denoised"));
            let n = expected.len() as f64;
            let std = (expected.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
            let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 1e-4 * std, "{name} at {level:?}: {error}");
        }
        stamps.push(teacher.stamp());
    }
    assert!(stamps.windows(2).all(|w| w[0].sha256.len() == w[1].sha256.len()));
    let only = Options { format: Format::Edm, ..Options::default() };
    refused(&file("diffusers"), &only, &["diffusers", "folder"]);
}

/// What a configuration sets and this program doesn't know is refused by name, never drawn
/// wrongly.
#[test]
fn unknown_settings_of_diffusers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let change = |file_name: &str, field: &str, value: serde_json::Value, parts: &[&str]| {
        let target = folder.path().join("model");
        let _ = std::fs::remove_dir_all(&target);
        for part in [
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "scheduler/scheduler_config.json",
        ] {
            let to = target.join(part);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file("diffusers").join(part), to).unwrap();
        }
        let path = target.join(file_name);
        let mut config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config[field] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        refused(&target, &Options::default(), parts);
    };
    let network = "unet/config.json";
    change(
        network,
        "_class_name",
        "UNet2DConditionModel".into(),
        &["config.json", "_class_name", "UNet2DModel"],
    );
    change(
        network,
        "down_block_types",
        vec!["SkipDownBlock2D", "DownBlock2D"].into(),
        &["down_block_types", "SkipDownBlock2D"],
    );
    change(network, "downsample_type", "resnet".into(), &["downsample_type", "resnet"]);
    change(network, "act_fn", "mish".into(), &["act_fn", "mish"]);
    change(network, "sample_size", serde_json::Value::Null, &["sample_size"]);
    change(network, "norm_num_groups", 3.into(), &["norm_num_groups"]);
    change(network, "block_out_channels", vec![4, 1_000_000].into(), &["block_out_channels"]);
    change(network, "block_out_channels", vec![4, 4096].into(), &["tensors"]);
    let scheduler = "scheduler/scheduler_config.json";
    change(
        scheduler,
        "beta_schedule",
        "sigmoid".into(),
        &["scheduler_config.json", "beta_schedule", "sigmoid"],
    );
    change(scheduler, "prediction_type", "flow".into(), &["prediction_type", "flow"]);
    change(scheduler, "rescale_betas_zero_snr", true.into(), &["rescale_betas_zero_snr"]);
    change(scheduler, "trained_betas", vec![0.1, 2.0].into(), &["betas"]);
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), &Options::default(), &["config.json"]);
}

/// VGG16 with either package's heads, and Inception, from plain files of tensors.
#[test]
fn feature_networks_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, state: &StateDict| {
        let path = folder.path().join(name);
        kdm_data::tensors::write_state(&path, &serde_json::Value::Null, state).unwrap();
        path
    };
    let device = Device::flex();
    let seed = &mut kdm_nn::InitSeed::new(0);
    let mut vgg =
        kdm_nn::state::state_dict(&kdm_nn::Lpips::init(kdm_nn::Pooling::Max, seed, &device));
    vgg.retain(|name, _| name.starts_with("features"));
    vgg.insert("classifier.6.bias".into(), TensorData::new(vec![0f32; 10], [10]));
    let path = write("vgg16.safetensors", &vgg);
    refused(&path, &Options::default(), &["vgg16.safetensors", "--heads"]);
    for heads in ["piq_heads.pt", "lpips_heads.pth"] {
        refused(&file(heads), &Options::default(), &[heads]);
        let options = Options { heads: Some(file(heads)), ..Options::default() };
        let imported = import(&path, &options).unwrap();
        assert_eq!(imported.kind(), "lpips");
        let Model::Weights { state, .. } = &imported.model else { panic!() };
        assert_eq!(
            (state.len(), &state["lin2.model.1.weight"].shape()[..]),
            (31, &[1, 256, 1, 1][..])
        );
        assert!(imported.ignored[0].contains("classifier"));
    }
    let options = Options { heads: Some(file("tensor.pt")), ..Options::default() };
    refused(&path, &options, &["tensor.pt", "lin0.model.1.weight"]);
    let mut inception = kdm_nn::state::state_dict(&kdm_nn::Inception::init(seed, &device));
    inception.insert("AuxLogits.fc.bias".into(), TensorData::new(vec![0f32; 10], [10]));
    let path = write("inception.safetensors", &inception);
    let imported = import(&path, &Options::default()).unwrap();
    assert_eq!((imported.kind(), imported.ignored.len()), ("inception", 1));
    inception.remove("fc.bias");
    refused(
        &write("cut.safetensors", &inception),
        &Options::default(),
        &["cut.safetensors", "`fc.bias`", "missing"],
    );
}

#[test]
fn files_of_no_model_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    refused(&file("tensor.pt"), &Options::default(), &["tensor.pt", "a single tensor"]);
    refused(&file("generate.py"), &Options::default(), &["generate.py", "PyTorch didn't write it"]);
    refused(&file("nothing.pt"), &Options::default(), &["nothing.pt", "check the path"]);
    let path = folder.path().join("empty.pt");
    std::fs::write(&path, b"").unwrap();
    refused(&path, &Options::default(), &["empty.pt"]);
    let model = folder.path().join("student.safetensors");
    imported("kdm_control.pt").save(&model).unwrap();
    refused(&model, &Options::default(), &["student of this program already"]);
    for (name, format) in [("kdm_control.pt", Format::Edm), ("edm_protocol4.pkl", Format::Kdm)] {
        refused(&file(name), &Options { format, ..Options::default() }, &[name, "format"]);
    }
}

const SMALL: [&str; 7] = [
    "edm_protocol2.pkl",
    "edm_protocol4.pkl",
    "edm_state.pt",
    "edm_state_half_legacy.pth",
    "kdm_factorized.pt",
    "piq_heads.pt",
    "tensor.pt",
];

/// Cut anywhere, and with bits flipped anywhere: a model or one message that names the file, never
/// a panic.
#[test]
fn damaged_files_never_panic() {
    for name in SMALL {
        let whole = std::fs::read(file(name)).unwrap();
        let read =
            |bytes: Vec<u8>| import_bytes(Path::new("damaged.pt"), bytes, &Options::default());
        for i in 0..60u64 {
            let at = |stream: u64| (uniform_u64(stream, i) % whole.len() as u64) as usize;
            let message = read(whole[..at(1)].to_vec()).unwrap_err().to_string();
            assert!(message.contains("damaged.pt"), "{message}");
            let mut flipped = whole.clone();
            for _ in 0..=i % 3 {
                flipped[at(2 + i % 3)] ^= 1 << (i % 8);
            }
            if let Err(e) = read(flipped) {
                assert!(e.to_string().contains("damaged.pt"), "{e}");
            }
        }
    }
}

/// Pickles made to exhaust a reader: each is refused at once.
#[test]
fn hostile_pickles_are_refused() {
    let refused = |bytes: Vec<u8>, part: &str| {
        let message = import_bytes(Path::new("evil.pkl"), bytes, &Options::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains("evil.pkl") && message.contains(part), "{message}");
    };
    let pickle = |body: &[u8]| [b"\x80\x04", body, b"."].concat();
    refused(pickle(b"cbuiltins\neval\n\x8c\x011\x85R"), "builtins.eval");
    refused(pickle(b"\x8c\x02os\x8c\x06system\x93"), "os.system");
    refused(pickle(b"cmodels\n__import__\n"), "no");
    refused(pickle(b"\x82\x01"), "opcode");
    // A billion empty tuples, were it not for the limit; and a list that holds itself.
    refused([b"\x80\x04", &vec![b')'; 9 << 20][..], b"."].concat(), "more values");
    refused(pickle(b"]\x94h\x00a"), "holds no network");
    // A tensor whose shape claims more than there is, and one that is its own storage.
    let tensor = b"}\x94\x8c\x01aq\x05ctorch._utils\n_rebuild_tensor_v2\n(";
    let huge = [&tensor[..], b"NK\x00J\xff\xff\xff\x7f\x85K\x01\x85t\x85Rs"].concat();
    refused(pickle(&huge), "");
    // Modules within themselves.
    let inside =
        b"cmodels.x\nSongUNet\n)\x81\x94}\x94\x8c\x08_modules\x94}\x94(\x8c\x01a\x94h\x00usb";
    refused(pickle(inside), "");
    // A text of four gigabytes that isn't there.
    refused(pickle(b"X\xff\xff\xff\xff"), "ends too early");
}

/// What is exported has the names of the originals, and comes back as the same model.
#[test]
fn models_go_out_under_their_original_names() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) =
        (folder.path().join("model.safetensors"), folder.path().join("out.safetensors"));
    for (name, expected) in [
        ("edm_protocol4.pkl", "model.dec.4x4_aux_conv.weight"),
        ("kdm_control.pt", "koopman_control.weight"),
        ("kdm_factorized.pt", "x0_observables_decoder.main_module.dec.4x4_aux_conv.bias"),
        ("kdm_factorized.pt", "koopman_operator.P_inv_re"),
        ("diffusers", "mid_block.attentions.0.to_out.0.weight"),
    ] {
        let first = imported(name);
        first.save(&model).unwrap();
        kdm_formats::export(&model, &out, &Device::flex()).unwrap();
        let file = kdm_data::TensorFile::open(&out).unwrap();
        assert!(file.get(expected).is_some(), "{name}: no {expected}");
        if name == "diffusers" {
            refused(&out, &Options::default(), &["config.json"]);
            continue;
        }
        let again = import(&out, &Options::default()).unwrap();
        let state = |imported: &Imported| match &imported.model {
            Model::Student { student, .. } => kdm_nn::state::state_dict(student),
            Model::Teacher { state, .. } | Model::Weights { state, .. } => state.clone(),
        };
        assert_eq!(state(&again), state(&first), "{name}");
    }
    let exact = kdm_teacher::distributions::DistributionConfig::Checkerboard { conditional: false };
    Teacher::exact(exact).unwrap().save(&model).unwrap();
    let message = kdm_formats::export(&model, &out, &Device::flex()).unwrap_err().to_string();
    assert!(message.contains("teacher of points"), "{message}");
}
