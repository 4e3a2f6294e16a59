//! Runs that are planned for a person's own images or teacher.

use std::fs;
use std::path::Path;

use kdm::data::images::shapes;

use crate::common::{Folder, done, fails, json, kdm, text};

/// What makes a planned run end at once.
const TINY: &str = "--set pairs.count=24 --set pairs.test=8 --set pairs.steps=2 \
                    --set pairs.shard_size=16 --set train.iterations=2 --set train.batch=4 \
                    --set train.held_out=4 --set train.validate_every=1 \
                    --set evaluate.directions=4 --set evaluate.clusters=8";

/// 40 images of two classes in two folders, of sizes from 20 to 59 pixels, some not square.
fn photos(folder: &Folder) -> String {
    let (set, _) = shapes::draw(5, 200);
    let mut taken = [0; 2];
    for i in 0..set.len() {
        let Some(class @ (0 | 1)) = set.label(i).map(|class| class as usize) else { continue };
        if taken[class] == 20 {
            continue;
        }
        taken[class] += 1;
        let place = folder.path("photos").join(["disc", "square"][class]);
        fs::create_dir_all(&place).unwrap();
        let image = image::load_from_memory(&set.png(i)).unwrap();
        let (width, height) = (20 + i as u32 % 40, 20 + (7 * i as u32) % 40);
        let filter = image::imageops::FilterType::Triangle;
        image.resize_exact(width, height, filter).save(place.join(format!("{i}.png"))).unwrap();
    }
    assert_eq!(taken, [20; 2]);
    folder.at("photos")
}

/// From a folder of pictures to a report: the plan is told before, the data set, its test images
/// and the feature networks are made, and the run goes on like any other.
#[test]
fn a_run_is_planned_for_images_of_ones_own() {
    let folder = Folder::new();
    let (photos, out) = (photos(&folder), folder.at("run"));
    let base = ["run mine --resolution 16 --budget 3h --data", &photos, "--out", &out, TINY];
    let tiny = [&base[..], &["--set teacher.train.iterations=2"]].concat();
    let dry = kdm(&[&tiny[..], &["--dry-run"]].concat()).output().unwrap();
    let (plan, experiment) = (text(&dry.stderr), text(&dry.stdout));
    assert!(dry.status.success(), "{plan}");
    for part in ["40 images", "features", "teacher", "pairs", "student", "report", "in all"] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(experiment.contains("resolution = 16") && experiment.contains("label_dim = 2"));
    assert!(!Path::new(&out).exists(), "a dry run writes nothing");

    let values = json(&[&tiny[..], &["--json"]].concat());
    assert!(values["feature_fid"].as_f64().unwrap() > 0.0, "{values}");
    let page = fs::read_to_string(folder.path("run/report.html")).unwrap();
    assert!(page.contains("mine"));
    let info = json(&["data info", &folder.at("run/data/mine-test.zip"), "--json"]);
    assert_eq!(
        (info["images"].as_u64(), &info["classes"][1]),
        (Some(4), &"square".into()),
        "{info}"
    );
    // What is finished is not done again, and another run doesn't take the folder.
    let student = fs::read(folder.path("run/student.safetensors")).unwrap();
    done(&[&base[..], &["--resume"]].concat());
    assert!(fs::read(folder.path("run/student.safetensors")).unwrap() == student);
    fails(&tiny, 2, &["--resume"]);
    done(&[
        "sample --n 3 --model",
        &folder.at("run/student.safetensors"),
        "--out",
        &folder.at("s.png"),
    ]);
}

/// Images without classes are told apart by how they are turned.
#[test]
fn images_need_no_classes() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let out = folder.at("run");
    let all = folder.path("all");
    fs::create_dir(&all).unwrap();
    for class in ["disc", "square"] {
        for entry in fs::read_dir(Path::new(&photos).join(class)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, all.join(from.file_name().unwrap())).unwrap();
        }
    }
    let set = "--set teacher.train.iterations=2 --set evaluate.directions=3";
    let source = folder.at("all");
    done(&["run --resolution 8 --budget 3h --data", &source, "--out", &out, TINY, set]);
    assert!(folder.path("run/data/all-turned.zip").exists());
    let config = fs::read_to_string(folder.path("run/config.toml")).unwrap();
    assert!(config.contains("name = \"all\"") && config.contains("control = false"), "{config}");
}

/// A teacher's file, and a foreign one that is imported first.
#[test]
fn a_run_is_planned_for_a_teacher_of_ones_own() {
    let folder = Folder::new();
    let out = folder.at("run");
    done(&["run --teacher fashion-mnist --budget 5h --out", &out, TINY]);
    assert!(folder.path("run/report.html").exists());
    let foreign = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../crates/kdm-formats/tests/foreign/edm_protocol4.pkl"
    );
    let imported = folder.at("imported");
    done(&["run mine --teacher", foreign, "--budget 5h --out", &imported, TINY]);
    assert!(folder.path("imported/imported-teacher.safetensors").exists());
    done(&["run mine --teacher", foreign, "--out", &imported, "--resume"]);
}

#[test]
fn what_can_not_be_planned_is_told() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let out = folder.at("run");
    let fails = |words: &[&str], code: i32, parts: &[&str]| {
        fails(words, code, parts);
        assert!(!Path::new(&out).exists(), "{words:?} leaves nothing");
    };
    fails(&["run --out", &out], 2, &["PRESET"]);
    fails(&["run checkerboard --data", &photos, "--out", &out], 2, &["another name"]);
    fails(&["run a/b --data", &photos, "--out", &out, "--resolution 16"], 2, &["name"]);
    fails(&["run a --data", &photos, "--out", &out, "--resolution 20"], 2, &["multiple of 8"]);
    fails(&["run a --data", &photos, "--out", &out, "--budget 10s"], 2, &["--budget", "m or more"]);
    fails(&["run a --data", &photos, "--out", &out, "--budget soon"], 2, &["--budget"]);
    fails(&["run a --data nowhere --out", &out], 1, &["nowhere"]);
    fails(&["run --teacher nowhere.pkl --out", &out], 1, &["nowhere.pkl"]);
    fails(&["run --teacher checkerboard --out", &out], 2, &["square images"]);
}
