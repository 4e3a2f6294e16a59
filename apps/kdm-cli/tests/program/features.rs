//! Feature networks and their statistics.

use std::fs;

use crate::common::{Folder, done, fails, json};

/// A feature network trained on a data set, its statistics, and their cache; an interrupted
/// training goes on.
#[test]
fn feature_networks_are_trained_and_statistics_made() {
    let folder = Folder::new();
    let zip = folder.at("some.zip");
    done(&["data export shapes -n 120 --out", &zip]);
    let out = folder.at("features");
    let train =
        ["features train --data", &zip, "--test-data", &zip, "--width 4 --batch 20 --out", &out];
    let trained = json(&[&train[..], &["--epochs 20 --json"]].concat());
    // Four classes: a quarter are right by chance.
    assert!(trained["accuracy"].as_f64().unwrap() > 0.5, "{trained}");
    let (features, stats) =
        (folder.at("features/features.safetensors"), folder.at("stats.safetensors"));
    done(&["features stats --features", &features, "--data", &zip, "--out", &stats]);
    assert_eq!(json(&["info", &stats, "--json"])["config"]["origin"]["data"], "some");
    done(&[
        "features stats --features",
        &features,
        "--data",
        &zip,
        "--out",
        &folder.at("stats.npz"),
    ]);
    let half = folder.at("half.safetensors");
    done(&["convert", &features, "--out", &half]);
    assert!(fs::metadata(&half).unwrap().len() < fs::metadata(&features).unwrap().len() * 6 / 10);
    fails(&["convert", &folder.at("stats.npz"), "--out", &half], 1, &["stats.npz"]);
    fails(
        &["features stats --features nothing --data", &zip, "--out", &stats],
        2,
        &["fashion-mnist"],
    );
    let few = ["features stats --features", &features, "--data", &zip, "--count 1 --out", &stats];
    fails(&few, 1, &["at least 2"]);
}
