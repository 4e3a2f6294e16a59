//! Comparisons of several students.

use std::fs;

use serde_json::Value;

use crate::common::{Folder, done, fails, image_experiment, json};

/// A comparison: several students on the same pairs for the same compute, and the teacher at few
/// steps; what is done is not done again.
#[test]
fn students_are_compared() {
    let folder = Folder::new();
    let file = image_experiment(&folder);
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str(
        r#"
[[compare]]
name = "koopman"
[[compare]]
name = "direct"
set.student.method = "direct"
set.student.operator.control = false
set.loss.eigenvalues = "none"
"#,
    );
    fs::write(&file, text).unwrap();
    let out = folder.at("compared");
    let rows = json(&["compare", &file, "--out", &out, "--json"]);
    let row = |name: &str| {
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    };
    let (koopman, direct, teacher) = (row("koopman"), row("direct"), row("teacher heun 4"));
    assert_eq!((&koopman["iterations"], &koopman["passes"]), (&Value::from(12), &Value::from(1)));
    // A step of the direct student has no clean encoder, no operator and one pass through each
    // part.
    assert!(direct["iterations"].as_u64().unwrap() > 18, "{direct}");
    // Guidance takes two passes where one is taken without.
    assert_eq!(
        (&teacher["passes"], &row("teacher euler 1")["passes"]),
        (&Value::from(14), &Value::from(2))
    );
    assert_eq!(teacher["values"]["rmse"], 0.0);
    assert!(koopman["values"]["rmse"].as_f64().unwrap() > 0.0);
    let student = folder.at("compared/variants/direct/student.safetensors");
    done(&["sample --model", &student, "--n 2 --out", &folder.at("x.npy")]);
    fails(&["analyze --model", &student, "--out", &folder.at("a")], 1, &["no operator", "koopman"]);
    fails(
        &["interpolate --model", &student, "--seeds 1,2 --out", &folder.at("x.png")],
        1,
        &["no latent"],
    );
    let again = json(&["compare", &file, "--out", &out, "--resume --json"]);
    assert_eq!(again[6]["values"], rows[6]["values"]);
    fails(&["compare fashion-mnist"], 2, &["compares nothing", "[[compare]]"]);
    let bad = "compare=[{name=\"a\",set={pairs={count=3}}}]";
    fails(&["compare fashion-mnist --set", bad], 2, &["`a`", "pairs", "share teacher and pairs"]);
}
