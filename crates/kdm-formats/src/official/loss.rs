//! The loss that a checkpoint was trained for, read off the plain attributes of its module.

use kdm_koopman::{EigenvalueTarget, LossConfig, Reconstruction};

use crate::pickle::Id;
use crate::torch::TorchFile;

/// The plain attributes of the student's module.
pub(super) struct Settings<'a> {
    pub torch: &'a TorchFile,
    pub id: Id,
}

impl Settings<'_> {
    pub fn number(&self, name: &str) -> Option<f64> {
        self.torch.number(self.id, name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.torch.text(self.id, name)
    }
}

/// The loss that the settings tell of, and notes on what can't be told.
pub(super) fn loss_of(settings: Option<&Settings>, points: bool) -> (LossConfig, Vec<String>) {
    let mut notes = Vec::new();
    let weight =
        |name: &str, default: f64| settings.and_then(|s| s.number(name)).unwrap_or(default);
    let rec = settings.and_then(|s| s.text("rec_loss_type")).unwrap_or("L2");
    let reconstruction = match rec.to_lowercase().as_str() {
        "l2" | "mse" => Reconstruction::L2,
        "lpips" => Reconstruction::Lpips,
        "both" | "l2+lpips" | "lpips+l2" | "l2_lpips" => Reconstruction::L2Lpips,
        other if other.contains("huber") || other.contains("hober") => Reconstruction::Huber,
        _ => {
            notes.push(format!(
                "`rec_loss_type` = {rec}: not known; distances are told as squared errors"
            ));
            Reconstruction::L2
        }
    };
    let eigen = settings.and_then(|s| s.text("koopman_loss_type")).unwrap_or("NoLoss");
    let eigenvalues = match eigen.to_lowercase().as_str() {
        "noloss" | "none" => EigenvalueTarget::None,
        "onthecircle" => EigenvalueTarget::One,
        "uniform" => EigenvalueTarget::Uniform,
        "gradual" => EigenvalueTarget::Gradual,
        _ => {
            notes.push(format!("`koopman_loss_type` = {eigen}: not known; left out of the loss"));
            EigenvalueTarget::None
        }
    };
    if matches!(eigenvalues, EigenvalueTarget::Uniform | EigenvalueTarget::Gradual) {
        notes.push(
            "`uniform_vec`: the eigenvalues' targets; others are drawn from the same distribution"
                .into(),
        );
    }
    let loss = LossConfig {
        reconstruction,
        latent_weight: weight("w_latent", 1.0),
        rec_weight: weight("w_rec", 1.0),
        // The checkerboard's model has no push term, and nothing in its file says so.
        push_weight: if points { 0.0 } else { weight("w_push", 1.0) },
        adversarial_weight: if points { 0.0 } else { weight("advers_w", 1.0) },
        eigenvalues,
        latent_noise: weight("noisy_latent", 0.0),
        ..LossConfig::default()
    };
    (loss, notes)
}
