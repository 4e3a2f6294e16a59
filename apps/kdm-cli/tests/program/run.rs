//! Whole experiments on points: `kdm run` from a teacher in closed form to a report.

use std::fs;
use std::path::Path;

use kdm::data::array;
use serde_json::Value;

use crate::common::{Folder, SMALL, array_of, check_finite, done, fails, json};

#[test]
fn every_kind_of_student_goes_the_whole_way() {
    let folder = Folder::new();
    for (name, more) in [
        ("dense", vec![]),
        ("huber-push", vec!["--set loss.reconstruction=huber --set loss.push_weight=1"]),
        (
            "factorized",
            vec![
                "--set student.operator.kind=factorized --set loss.eigenvalues=one",
                "--set student.operator.projection=16",
            ],
        ),
        ("eigen", vec!["--set loss.eigenvalues=uniform"]),
        (
            "control",
            vec!["--set teacher.data.conditional=true --set student.operator.control=true"],
        ),
    ] {
        let run = folder.at(name);
        let settings = [
            "--set teacher.kind=exact --set pairs.count=1200 --set pairs.test=300",
            "--set pairs.steps=6 --set evaluate.clusters=300",
        ];
        let values = json(
            &[&["run checkerboard --out", &run, "--json"], &SMALL[..], &settings, &more].concat(),
        );
        check_finite(
            name,
            &values,
            "rmse median_error sliced_wasserstein2 energy_distance off_board \
             teacher_off_board latent rec push total",
        );
        let page = fs::read_to_string(folder.path(name).join("report.html")).unwrap();
        assert!(page.matches("<svg role=\"img\"").count() >= 6, "{name}");
        // A finished run resumes to itself, and its time goes on.
        let time = || {
            let text = fs::read_to_string(folder.path(name).join("time.json")).unwrap();
            serde_json::from_str::<Value>(&text).unwrap()["seconds"].as_f64().unwrap()
        };
        let before = time();
        assert!(before > 0.0 && !page.contains("last resumed"), "{name}");
        let student = fs::read(folder.path(name).join("student.safetensors")).unwrap();
        json(
            &[&["run checkerboard --out", &run, "--json --resume"], &SMALL[..], &settings, &more]
                .concat(),
        );
        assert!(student == fs::read(folder.path(name).join("student.safetensors")).unwrap());
        let page = fs::read_to_string(folder.path(name).join("report.html")).unwrap();
        assert!(time() > before && page.contains("of them since it was last resumed"), "{name}");
        assert_eq!(json(&["info", &run, "--json"])["iteration"], 60);
    }
    // The text, the JSON and the page tell of the same clusters.
    let (model, look) = (folder.at("dense/student.safetensors"), folder.at("look"));
    let look = ["analyze --samples 1500 --eps 0.3 --model", &model, "--out", &look];
    let text = done(&look);
    let found = json(&[&look[..], &["--json"]].concat());
    let clusters = found["clusters"].as_array().unwrap().len();
    assert_eq!(found["clusters"], found["noise_structure"]["sizes"]);
    let outliers = &found["outliers"];
    assert_eq!(outliers, &found["noise_structure"]["outliers"]);
    assert!(text.contains(&format!("clusters         {clusters}\n")), "{text}");
    assert!(text.contains(&format!("outliers         {outliers} of 1500\n")), "{text}");
    let page = fs::read_to_string(folder.path("look/report.html")).unwrap();
    let told = format!(
        "Clusters mapped back: {clusters} by outputs (eps 0.3000), {outliers} outliers of 1500; \
         neighbours among the first 1000"
    );
    assert!(page.contains(&told), "{told}");
    // Points that are not in the plane: numbers and the spectrum, and no scatter.
    let solid = folder.path("solid.toml");
    let text = "base = 'checkerboard'\n[teacher]\nkind = 'exact'\n\
                [teacher.data]\nname = 'gaussian'\n\
                mean = [0.0, 1.0, 2.0]\n\
                covariance = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]]\n\
                [pairs]\ncount = 600\ntest = 100";
    fs::write(&solid, text).unwrap();
    let values = json(
        &[&["run", &folder.at("solid.toml"), "--out", &folder.at("solid"), "--json"], &SMALL[..]]
            .concat(),
    );
    assert!(
        values["rmse"].as_f64().is_some_and(f64::is_finite) && values["off_board"].is_null(),
        "{values}"
    );
    let model = folder.at("solid/student.safetensors");
    fails(
        &["sample --model", &model, "--n 4 --out", &folder.at("a.png")],
        2,
        &["3 numbers", ".npz"],
    );

    // Conditional samples: by class, by labels, by seed; and what is impossible.
    let model = folder.at("control/student.safetensors");
    let (a, b) = (folder.at("a.npz"), folder.at("b.npy"));
    done(&["sample --model", &model, "--seeds 0-5 --class 3 --out", &a]);
    let get = |name: &str| array_of(Path::new(&a), name);
    let labels = folder.path("labels.npy");
    array::write_npy(&labels, &get("labels")).unwrap();
    let noise = folder.path("noise.npy");
    array::write_npy(&noise, &get("noise")).unwrap();
    done(&[
        "sample --model",
        &model,
        "--noise",
        &folder.at("noise.npy"),
        "--labels",
        &folder.at("labels.npy"),
        "--out",
        &b,
    ]);
    assert_eq!(array::read_npy(Path::new(&b)).unwrap(), get("samples"));
    fails(&["sample --model", &model, "--n 4 --class 8 --out", &b], 2, &["--class 8", "0 to 7"]);
    fails(
        &["sample --model", &model, "--noise", &folder.at("noise.npy"), "--out", &b],
        2,
        &["--labels"],
    );
    let plain = folder.at("dense/student.safetensors");
    fails(&["sample --model", &plain, "--n 4 --class 1 --out", &b], 2, &["unconditional"]);
}
