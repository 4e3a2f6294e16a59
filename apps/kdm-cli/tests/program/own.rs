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
    assert!(plan.contains("40 images") && !plan.contains("in all"), "{plan}");
    for part in ["features", "teacher", "pairs", "student", "report", "in all"] {
        let rows = experiment.lines().filter(|line| line.starts_with(&format!("# {part} ")));
        assert_eq!(rows.count(), 1, "{part}: {experiment}");
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
    let other = ["run other --resume --data", &photos, "--out", &out];
    fails(&other, 2, &["holds the run `mine`", "--resume"]);
    let [trained, teacher, pairs] = ["student.safetensors", "teacher/teacher.safetensors", "pairs"]
        .map(|name| folder.at(&format!("run/{name}")));
    // The folders' names are those of the classes, in whatever came of them.
    for of in [&trained, &teacher, &pairs] {
        let names = &json(&["info --json", of])["class_names"];
        assert_eq!(*names, serde_json::json!(["disc", "square"]), "{of}");
    }
    let each = folder.path("each");
    done(&["sample --n 2 --each-class --model", &trained, "--out", &folder.at("each")]);
    assert!(each.join("000001-class-1-square.png").exists());
    // Samples don't come to lie among other files.
    fs::write(each.join("holiday.jpg"), "").unwrap();
    let among = ["sample --n 2 --model", &trained, "--out", &folder.at("each")];
    fails(&among, 2, &["holds other files, such as `holiday.jpg`", "--force"]);
    done(&[&among[..], &["--force"]].concat());
    let [named, numbered] = ["square", "1"].map(|class| {
        let out = folder.at(&format!("{class}.npy"));
        done(&["sample --n 2 --model", &trained, "--class", class, "--out", &out]);
        fs::read(out).unwrap()
    });
    assert!(named == numbered);
    let picture = folder.at("s.png");
    fails(
        &["sample --n 2 --class sqare --model", &trained, "--out", &picture],
        2,
        &["--class sqare", "0 disc, 1 square", "did you mean `square`?"],
    );
    done(&["teacher sample --n 2 --steps 2 --class disc --model", &teacher, "--out", &picture]);
    let ways = ["edit --seeds 0-1 --from-class disc --to-class square --model", &trained];
    done(&[&ways[..], &["--out", &picture]].concat());
    let way = ["interpolate --seeds 0,1 --classes disc,square --model", &trained];
    done(&[&way[..], &["--out", &picture]].concat());
    let fewer = folder.at("fewer");
    done(&["pairs filter --classes disc --pairs", &pairs, "--out", &fewer]);
    assert!(json(&["info --json", &fewer])["pairs"].as_u64().unwrap() < 24);
    let onnx = folder.at("student.onnx");
    done(&["export --model", &trained, "--out", &onnx]);
    let bytes = fs::read(&onnx).unwrap();
    let told = br#"["disc","square"]"#;
    assert!(bytes.windows(told.len()).any(|window| window == told));
}

/// Images of several sizes are told of, with what makes them one.
#[test]
fn images_of_several_sizes_are_described() {
    let folder = Folder::new();
    let photos = photos(&folder);
    let found = done(&["data info", &photos]);
    for part in ["40, in colour", "sizes: ", "disc (20), square (20)", "next: --resolution "] {
        assert!(found.contains(part), "{part}: {found}");
    }
    let found = json(&["data info --json", &photos]);
    assert!(found["sizes"]["smallest"].is_array() && found["classes"][1] == "square", "{found}");
    let found = done(&["data info --resolution 16", &photos]);
    assert!(found.contains("shape: [3, 16, 16]"), "{found}");
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
    fails(&["run a --data", &photos, "--out", &out, "--budget 3"], 2, &["3m", "3h"]);
    fails(&["run a --resume --data", &photos, "--out", &out], 2, &["no run to go on with"]);
    fails(&["run a --data nowhere --out", &out], 1, &["nowhere"]);
    fails(&["run --teacher nowhere.pkl --out", &out], 1, &["nowhere.pkl"]);
    fails(&["run --teacher checkerboard --out", &out], 2, &["square images"]);
}
