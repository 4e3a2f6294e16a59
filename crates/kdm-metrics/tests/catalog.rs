//! The catalog against what is measured and logged.

use burn::tensor::Device;
use kdm_metrics::catalog;
use kdm_metrics::features::ClassifierFile;
use kdm_metrics::features::classifier_training::ClassifierTask;
use kdm_nn::{ClassifierConfig, InitSeed};
use kdm_observer::Silent;
use kdm_train::{Alone, LoopConfig, OptimizerConfig, Schedule, read_metrics, train};
use serde_json::json;

/// Keys and their order are part of what other programs read: those of the first release come
/// first.
#[test]
fn keys_and_their_order_stay() {
    let keys = "\
        rmse median_error coordinate_rmse sliced_wasserstein2 energy_distance off_board \
        teacher_off_board off_board_excess speed_up psnr ssim lpips fid fid_teacher fid_infinity \
        kid kid_deviation inception_score precision recall density coverage feature_fid \
        feature_fid_teacher feature_fid_infinity feature_kid feature_kid_deviation \
        feature_inception_score feature_precision feature_recall feature_density \
        feature_coverage class_agreement class_agreement_teacher class_same_as_teacher \
        neighbour_distance neighbour_distance_test copies latent rec push adversarial eigen \
        total";
    let keys: Vec<&str> = keys.split_whitespace().collect();
    let found: Vec<&str> = catalog::ALL.iter().map(|metric| metric.key).take(keys.len()).collect();
    assert_eq!(found, keys);
}

/// Whatever a training logs, the catalog can say how to read it.
#[test]
fn every_logged_key_is_in_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    let (images, _) = kdm_data::images::shapes::draw(1, 40);
    let [channels, side, _] = images.shape();
    let network = ClassifierConfig {
        resolution: side,
        in_channels: channels,
        classes: images.classes(),
        width: 4,
    };
    let file = ClassifierFile { data: "shapes".into(), class_names: Vec::new(), network };
    let model = file.network.init(&mut InitSeed::new(0), &device);
    let test = images.clone();
    let task = ClassifierTask { file, images, test, batch: 4, seed: 2, device };
    let config = LoopConfig {
        iterations: 2,
        leaves: 1,
        lr: 1e-3,
        schedule: Schedule::Constant,
        warmup: 0,
        optimizer: OptimizerConfig::default(),
        log_every: 1,
        validate_every: 1,
        checkpoint_every: 1,
        best_by: catalog::ERROR.key.into(),
        length_key: None,
    };
    let best = folder.path().join("best.safetensors");
    let (inputs, place) = (json!({}), folder.path());
    let trained = train(&task, model, &config, &inputs, place, &best, &Alone, &Silent).unwrap();
    assert!(trained.best.is_some());
    for line in read_metrics(folder.path()).unwrap() {
        for key in line.as_object().unwrap().keys() {
            if ["iteration", "seconds"].contains(&key.as_str()) {
                continue;
            }
            let (group, name) = key.split_once('/').unwrap();
            assert!(["train", "validation"].contains(&group), "{key}");
            assert!(catalog::find(name).is_some(), "{key}");
        }
    }
}
