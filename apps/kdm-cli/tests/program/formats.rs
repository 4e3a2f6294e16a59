//! Foreign files: official checkpoints, hostile ones, folders of image pairs.

use std::fs;
use std::io::Write;
use std::path::Path;

use kdm::data::{Array, array};

use crate::common::{Folder, array_of, done, fails, json, kdm, reference, text};

/// The paper's trained checkerboard student: imported, it draws what the official code drew.
#[test]
fn the_official_checkerboard_is_reproduced() {
    let (Some(checkpoint), Some(golden)) =
        (reference("kdm_checkerboard.pt"), reference("kdm_checkerboard.golden.npz"))
    else {
        return;
    };
    let folder = Folder::new();
    let model = folder.at("official.safetensors");
    let found = done(&["import", &checkpoint.to_string_lossy(), "--out", &model]);
    assert!(
        found.contains("KoopmanDistillModelCheckerBoard") && found.contains("858114 numbers"),
        "{found}"
    );
    let get = |name: &str| array_of(&golden, name);
    array::write_npy(&folder.path("xT.npy"), &get("xT")).unwrap();
    let out = folder.at("y.npy");
    done(&["sample --model", &model, "--noise", &folder.at("xT.npy"), "--out", &out]);
    let found = array::read_npy(Path::new(&out)).unwrap();
    let expected = get("y").data;
    let largest = found.data.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let rms = {
        let squares = found.data.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2));
        (squares.sum::<f64>() / found.data.len() as f64).sqrt()
    };
    eprintln!("official checkerboard: largest difference {largest:e}, root mean square {rms:e}");
    // Samples have standard deviation 2.56. The golden values are f32 themselves: the same network
    // in f64 differs from them by up to 1.95e-5 at the few samples where the student is steepest.
    assert!(rms < 1e-5 && largest < 1e-5 * 2.56, "largest {largest:e}, rms {rms:e}");
    let analysis = json(&["analyze --model", &model, "--out", &folder.at("analysis"), "--json"]);
    let radius = analysis["spectral_radius"].as_f64().unwrap();
    assert!((radius - 0.166_336_28).abs() < 1e-5, "{radius}");
}

#[test]
fn hostile_and_damaged_foreign_files_are_refused() {
    let folder = Folder::new();
    let out = folder.at("out.safetensors");
    let path = folder.at("evil.pt");
    let archive = |pickle: &[u8]| {
        let mut writer = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        writer.start_file("model/data.pkl", stored).unwrap();
        writer.write_all(pickle).unwrap();
        writer.finish().unwrap();
    };
    archive(
        b"\x80\x02cposix\nsystem\nq\x00X\x17\x00\x00\x00touch \
              /tmp/kdm-was-hereq\x01\x85q\x02Rq\x03.",
    );
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "posix.system", "nothing was run"]);
    archive(b"\x80\x02]q\x00h\x05.");
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "data.pkl", "damaged"]);
    archive(b"\x80\x02}q\x00.");
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "no network"]);
    fs::write(&path, b"not a zip").unwrap();
    fails(&["import", &path, "--out", &out], 1, &["evil.pt", "a text"]);
    assert!(!Path::new(&out).exists());
    let Some(checkpoint) = reference("kdm_checkerboard.pt") else { return };
    let whole = fs::read(checkpoint).unwrap();
    for length in [100, whole.len() / 2, whole.len() - 10] {
        fs::write(&path, &whole[..length]).unwrap();
        fails(&["import", &path, "--out", &out], 1, &["evil.pt"]);
    }
    // Bits flipped in the structure: a message or a model, never a panic.
    for i in (0..20_000.min(whole.len())).step_by(1500) {
        let mut bytes = whole.clone();
        bytes[i] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        let output = kdm(&["import", &path, "--out", &out]).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "byte {i}: {}", text(&output.stderr));
    }
    let Some(other) = reference("edm_adm_cond.pkl") else { return };
    let other = other.to_string_lossy().into_owned();
    fails(
        &["import", &other, "--out", &out, "--format diffusers"],
        1,
        &["edm_adm_cond.pkl", "folder"],
    );
    fails(
        &["import", &other, "--out", &out, "--format kdm"],
        1,
        &["edm_adm_cond.pkl", "NVlabs/edm"],
    );
}

/// The official folders of image pairs, in all their layouts.
#[test]
fn folders_of_image_pairs_are_imported() {
    let folder = Folder::new();
    let size = 3 * 4 * 4;
    let draw = |seed: u64, std: f32| -> Vec<f32> {
        kdm::random::normal_vec(seed, size).iter().map(|x| std * x).collect()
    };
    let layouts: [(&str, &str, bool, f32); 4] = [
        ("cifar", "arr_0", false, 80.0),
        ("ffhq", "arr_0", true, 80.0),
        ("flow", "arr1", true, 1.0),
        ("conditional", "endpoints", true, 80.0),
    ];
    for (name, array_name, image_first, std) in layouts {
        let source = folder.path(name);
        fs::create_dir(&source).unwrap();
        for i in 0..5u64 {
            let (noise, image) = (draw(i, std), draw(100 + i, 0.5));
            let (a, b) = if image_first { (&image, &noise) } else { (&noise, &image) };
            let path = Array::new([2, 3, 4, 4], [a.as_slice(), b].concat());
            let label = Array::new([1], vec![(i % 3) as f32]);
            let mut arrays = vec![(array_name, &path)];
            if array_name == "endpoints" {
                arrays.push(("label", &label));
            }
            array::write_npz(&source.join(format!("{i:06}.npz")), &arrays).unwrap();
        }
        let store = folder.at(&format!("{name}-store"));
        let told =
            done(&["pairs import", &source.to_string_lossy(), "--out", &store, "--shard-size 2"]);
        assert!(told.contains("5 pairs of shape [3, 4, 4]"), "{told}");
        let exported = folder.path("out.npz");
        done(&["pairs export --pairs", &store, "--out", &exported.to_string_lossy()]);
        let arrays = array::read_npz(&exported).unwrap();
        let get =
            |wanted: &str| arrays.iter().find(|(n, _)| n == wanted).map(|(_, a)| a.data.clone());
        let (noise, image) = (get("noise").unwrap(), get("image").unwrap());
        assert_eq!(
            (&noise[3 * size..4 * size], &image[3 * size..4 * size]),
            (&draw(3, std)[..], &draw(103, 0.5)[..]),
            "{name}"
        );
        let labels = (array_name == "endpoints").then(|| vec![0.0, 1.0, 2.0, 0.0, 1.0]);
        assert_eq!(get("label"), labels);
    }
    // Ends that deviate alike don't tell which is noise.
    let source = folder.path("alike");
    fs::create_dir(&source).unwrap();
    let path = Array::new([2, 3, 4, 4], [draw(1, 1.0), draw(2, 1.0)].concat());
    array::write_npz(&source.join("0.npz"), &[("arr_0", &path)]).unwrap();
    let store = folder.at("alike-store");
    fails(&["pairs import", &source.to_string_lossy(), "--out", &store], 1, &["arr_0", "alike"]);
}

/// A class-conditional network of OpenAI's kind, from a file of another program to pairs: what its
/// weights don't tell is said, it draws with a class and only so, and goes out under its names.
#[test]
fn openais_networks_become_teachers() {
    use kdm::nn::state::state_dict;
    use kdm::nn::{InitSeed, OpenAiUNetConfig, UNetConfig};

    let folder = Folder::new();
    let network = OpenAiUNetConfig {
        resolution: 8,
        in_channels: 1,
        out_channels: 1,
        learn_sigma: true,
        model_channels: 32,
        level_channels: vec![32, 32],
        num_res_blocks: 1,
        attention_resolutions: vec![2],
        num_classes: 3,
        num_heads: 4,
        num_heads_upsample: None,
        num_head_channels: None,
        use_new_attention_order: false,
        use_scale_shift_norm: true,
        resblock_updown: false,
        conv_resample: true,
        dropout: 0.0,
    };
    let config = UNetConfig::OpenaiUnet(network);
    let device = burn::tensor::Device::flex();
    let state = state_dict(&config.init(&mut InitSeed::new(3), &device));
    // As a model file of ours, out under the original names, and in again.
    let (model, weights, teacher) =
        (folder.at("m.safetensors"), folder.at("unet.safetensors"), folder.at("t.safetensors"));
    let teacher_config = kdm::teacher::TeacherConfig::Network(kdm::teacher::NetworkTeacherConfig {
        data: "toy".into(),
        class_names: Vec::new(),
        preconditioning: kdm::teacher::Preconditioning::DDPM_COSINE,
        network: config,
    });
    kdm::data::model::write(Path::new(&model), "teacher", &teacher_config, &state).unwrap();
    done(&["export --model", &model, "--out", &weights]);
    let found = done(&["import", &weights, "--out", &teacher, "--set resolution=8"]);
    assert!(found.contains("--preconditioning") && found.contains("num_heads"), "{found}");
    done(&[
        "import",
        &weights,
        "--force --out",
        &teacher,
        "--set resolution=8 --preconditioning ddpm-cosine",
    ]);
    let out = folder.at("s.npz");
    let draw = |teacher: &str| {
        done(&["teacher sample --steps 2 --seeds 0-3 --model", teacher, "--out", &out]);
        array_of(Path::new(&out), "samples").data
    };
    assert!(draw(&teacher) == draw(&model), "the same network");
    let sample = ["teacher sample --steps 2 --n 2 --out", &out, "--model", &teacher];
    fails(&[&sample[..], &["--guidance 2"]].concat(), 2, &["--guidance", "every sample"]);
    let noise = Array::new([2, 64], kdm::random::normal_vec(1, 128));
    array::write_npy(&folder.path("x.npy"), &noise).unwrap();
    let query = ["teacher denoise --sigma 1 --model", &teacher, "--input", &folder.at("x.npy")];
    fails(&[&query[..], &["--out", &folder.at("d.npy")]].concat(), 2, &["--labels", "0 to 2"]);
    let pairs = folder.at("pairs");
    done(&["pairs generate --steps 2 --count 4 --teacher", &teacher, "--out", &pairs]);
    done(&["pairs verify", &pairs]);
    let foreign = "import --set heads=3 --out";
    fails(&[foreign, &folder.at("x.safetensors"), &weights], 1, &["--set heads", "num_heads"]);
}
