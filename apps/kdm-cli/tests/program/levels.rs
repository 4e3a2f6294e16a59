//! Students whose latent has several levels: trained, sampled, looked into, edited by level; and
//! what they can't be.

use std::fs;
use std::path::Path;

use kdm::data::{Array, array};

use crate::common::{Folder, array_of, done, fails, json};

/// Flags of a student of levels on tiny images.
pub const NETWORK: &str = "--set student.network.kind=unet --set student.network.model_channels=8 \
                           --set student.network.channel_mult=[1,2] \
                           --set student.network.num_blocks=1 \
                           --set student.network.attn_resolutions=[] \
                           --set student.network.dropout=0 --set student.levels=[1,2]";

/// Pairs of noise and unrelated images, 24 of 1 x 8 x 8 in 2 classes; gives the store's path.
pub fn labelled_images(folder: &Folder) -> String {
    let (count, shape) = (24, [24, 1, 8, 8]);
    let draw = |seed, scale: f32| -> Vec<f32> {
        kdm::random::normal_vec(seed, count * 64).iter().map(|x| scale * x).collect()
    };
    let (noise, images) = (Array::new(shape, draw(1, 80.0)), Array::new(shape, draw(2, 0.3)));
    let one_hot = (0..2 * count).map(|i| if i / 2 % 2 == i % 2 { 1.0 } else { 0.0 });
    let labels = Array::new([count, 2], one_hot.collect());
    let rows = [("noise", &noise), ("image", &images), ("labels", &labels)];
    array::write_npz(&folder.path("labelled.npz"), &rows).unwrap();
    let pairs = folder.at("labelled");
    done(&["pairs import", &folder.at("labelled.npz"), "--out", &pairs]);
    pairs
}

/// A tiny student of levels with an operator of this kind; gives its model's path.
pub fn tiny(folder: &Folder, pairs: &str, kind: &str) -> String {
    let (out, kind) = (folder.at(kind), format!("--set student.operator.kind={kind}"));
    let train = "--preset fashion-mnist --set loss.reconstruction=l2 \
                 --set loss.adversarial_weight=0 --set train.iterations=40 --set train.batch=8 \
                 --set train.held_out=2 --set train.validate_every=40 --set train.lr=1e-2 \
                 --set train.warmup=0 --set train.ema_decay=0.5";
    done(&["distill --pairs", pairs, "--out", &out, train, NETWORK, &kind]);
    let model = out + "/student.safetensors";
    assert_eq!(json(&["info", &model, "--json"])["config"]["student"]["latent"], 64 + 2 * 16);
    model
}

#[test]
fn students_of_levels_are_trained_and_looked_into() {
    let folder = Folder::new();
    let pairs = labelled_images(&folder);
    for (kind, counts) in [("channels", [1, 2]), ("places", [64, 32]), ("frequencies", [64, 32])] {
        let model = tiny(&folder, &pairs, kind);
        let samples = folder.at("samples.npz");
        done(&["sample --force --seeds 0-3 --model", &model, "--out", &samples]);
        assert_eq!(array_of(Path::new(&samples), "samples").shape, [4, 1, 8, 8]);
        let look = folder.at(kind) + "-look";
        let found = json(&["analyze --model", &model, "--pairs", &pairs, "--out", &look, "--json"]);
        let levels = found["levels"].as_array().unwrap();
        let found: Vec<_> = levels.iter().map(|l| l["spectrum"]["count"].as_u64()).collect();
        assert_eq!(found, counts.map(Some), "{kind}");
        for level in levels {
            assert!(level["exchange"]["coordinate_rmse"].as_f64().unwrap() > 0.0);
        }
        let page = fs::read_to_string(Path::new(&look).join("report.html")).unwrap();
        assert!(page.contains("Levels of the latent") && page.contains("Exchanged levels"));
    }
}

/// What one level is moved by changes the sample; all levels together are the whole way.
#[test]
fn samples_are_edited_by_level() {
    let folder = Folder::new();
    let pairs = labelled_images(&folder);
    let model = tiny(&folder, &pairs, "channels");
    let draw = |command: &[&str]| {
        let out = folder.at("out.npy");
        done(&[command, &["--force --model", &model, "--out", &out]].concat());
        kdm::data::array::read_npy(Path::new(&out)).unwrap().data
    };
    let way = |levels: &str| {
        let common = "interpolate --seeds 1,2 --classes 1 --steps 3";
        draw(&[common, levels])
    };
    let off =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (all, fine, coarse) = (way(""), way("--levels 0"), way("--levels 1"));
    assert!(off(&all, &way("--levels 0-1")) < 1e-5);
    assert!(off(&all[..64], &fine[..64]) < 1e-5);
    assert!(off(&all[128..], &fine[128..]) > 1e-4 && off(&fine[128..], &coarse[128..]) > 1e-4);
    let moved = |levels: &str| draw(&["edit --seeds 1 --mode 1 --steps 3", levels]);
    assert!(off(&moved(""), &moved("--levels 1")) > 1e-4);
    assert!(off(&moved(""), &moved("--levels 0,1")) < 1e-5);

    let common = ["--model", &model, "--out", "x.npy"];
    let refused = |command: &str, parts: &[&str]| {
        fails(&[&[command], &common[..]].concat(), 2, parts);
    };
    refused("interpolate --seeds 1,2 --levels 2", &["level 2", "0 (the finest) to 1"]);
    refused("interpolate --seeds 1,2 --levels 1 --in noise", &["--levels", "latent"]);
    refused("edit --seeds 1 --mode 1 --levels fine", &["--levels", "fine"]);
    fails(&["edit --model fashion-mnist --seeds 1 --mode 1 --levels 1 --out x.npy"], 2, &["level"]);
    let wrong = |setting: &str, parts: &[&str]| {
        let base = ["distill --preset fashion-mnist --dry-run", NETWORK, "--set"];
        fails(&[&base[..], &[setting]].concat(), 2, parts);
    };
    wrong("student.levels=[1,2,3]", &["student.levels", "1 to 2"]);
    wrong("student.levels=[0,2]", &["student.levels", "first"]);
    let projected = "student.operator.kind=places --set student.operator.projection=4";
    wrong(projected, &["projection"]);
}
