//! Metrics that need networks from files.

use std::fs;

use serde_json::Value;

use crate::common::{Folder, check_finite, done, image_zip, kdm, text};

/// LPIPS and Inception from files, with random weights: what each measures has its own name, and
/// statistics of a data set are computed once.
#[test]
fn lpips_and_inception_measure_from_files() {
    use kdm::nn::{Inception, InitSeed, Lpips, Pooling, state::state_dict};
    let folder = Folder::new();
    let (device, seed) = (burn::tensor::Device::flex(), &mut InitSeed::new(0));
    let write = |name: &str, kind: &str, state: &kdm::nn::StateDict| {
        kdm::data::model::write(&folder.path(name), kind, &Value::Null, state).unwrap();
        folder.at(name)
    };
    let lpips =
        write("vgg.safetensors", "lpips", &state_dict(&Lpips::init(Pooling::Max, seed, &device)));
    let inception =
        write("inception.safetensors", "inception", &state_dict(&Inception::init(seed, &device)));
    let (zip, pairs) = (folder.path("bars.zip"), folder.at("pairs"));
    image_zip(&zip, 8, 32, 10);
    done(&["pairs generate --teacher fashion-mnist --steps 2 --count 8 --out", &pairs]);
    let evaluate = |more: &[&str]| {
        let common =
            ["evaluate --model fashion-mnist --pairs", &pairs, "--metrics paired,features --json"];
        let mut command = kdm(&[&common[..], more].concat());
        let output = command.env("KDM_CACHE", folder.path("cache")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let zip = zip.to_string_lossy().into_owned();
    let both = ["--lpips", &lpips, "--features", &inception, "--reference", &zip];
    let values = evaluate(&both);
    check_finite("files", &values, "lpips fid fid_teacher kid precision psnr");
    // Random heads may weigh below 0.
    assert!(
        values["lpips"].as_f64().unwrap() != 0.0 && values["feature_fid"].is_null(),
        "{values}"
    );
    assert_eq!(values["features"]["network"]["name"], "inception");
    assert_eq!(fs::read_dir(folder.path("cache")).unwrap().count(), 1);
    assert_eq!(evaluate(&both)["fid"], values["fid"]);
    assert!(evaluate(&["--features fashion-mnist --reference fashion-mnist"])["lpips"].is_null());
}
