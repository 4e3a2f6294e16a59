//! The experiment of a plan, written as a file over the common values.

use kdm_nn::discriminator::LEAST_SIDE;
use toml::Value;

use super::images::{feature_file, set_file};
use super::sizes::{Counts, Request, Sizes, Training};
use crate::{Experiment, Outcome};

/// Images of which a set is small, so that the teacher's are augmented.
const FEW: usize = 5000;
/// The dimension that larger latents are projected to for the operator, as the paper's for 64x64.
const PROJECTION: usize = 512;

/// A text as TOML writes it.
fn quoted(text: impl Into<String>) -> String {
    Value::String(text.into()).to_string()
}

/// The experiment that spends `counts` on networks of `sizes`.
pub(super) fn experiment_of(
    request: &Request,
    sizes: Sizes,
    counts: &Counts,
) -> Outcome<Experiment> {
    let Sizes { resolution, .. } = sizes;
    let Training { iterations, batch } = counts.student;
    let projection = match resolution {
        0..=32 => String::new(),
        _ => format!("projection = {PROJECTION}"),
    };
    let (loss, evaluate) = match request.images {
        Some(_) => (
            format!(
                "reconstruction = \"l2+features\"\nfeatures = {}",
                quoted(feature_file(request.folder, "loss-features"))
            ),
            format!(
                "features = {}\nreference = {}",
                quoted(feature_file(request.folder, "features")),
                quoted(set_file(request.folder, request.name, ""))
            ),
        ),
        None => Default::default(),
    };
    let text = format!(
        r#"
name = {name}

[pairs]
count = {pairs}
test = {test}
steps = {steps}
dtype = "u8"
shard_size = 512
batch = 256
process = {process}

[student]
latent = {pixels}

[student.network]
kind = "unet"
model_channels = {width}
channel_mult = [1, 2, 4]
num_blocks = 1
attn_resolutions = [{attention}]
dropout = 0.0

[student.operator]
kind = "dense"
control = {control}
{projection}

[loss]
adversarial_weight = {adversarial}
{loss}

[train]
iterations = {iterations}
batch = {batch}
lr = 1e-3
schedule = "cosine"
warmup = {warmup}
ema_decay = 0.999
ema_rampup = 0.05
held_out = {held_out}
log_every = {log}
validate_every = {validate}
checkpoint_every = {validate}

[evaluate]
clusters = 1000
{evaluate}

{teacher}
"#,
        name = quoted(request.name),
        pairs = counts.pairs,
        test = counts.test,
        steps = counts.steps,
        process = match &request.teacher {
            Some((_, "flow")) => "{ kind = \"flow\" }",
            _ => "{ kind = \"diffusion\", sigma_min = 0.002, sigma_max = 80.0, rho = 7.0 }",
        },
        pixels = resolution * resolution,
        width = sizes.student,
        attention = resolution / 4,
        control = request.classes > 0,
        adversarial = if resolution >= LEAST_SIDE { "1.0" } else { "0.0" },
        warmup = (iterations / 20).min(500),
        held_out = (counts.pairs / 16).clamp(16, 2000),
        log = (iterations / 100).max(1),
        validate = (iterations / 8).max(1),
        teacher = teacher_of(request, sizes, counts.teacher),
    );
    Experiment::over_base("the planned run", &text)
}

/// The section of the teacher.
fn teacher_of(request: &Request, sizes: Sizes, training: Training) -> String {
    let Sizes { resolution, teacher: width, .. } = sizes;
    let &Request { channels, classes, .. } = request;
    if let Some((path, _)) = &request.teacher {
        return format!(
            "[teacher]\nkind = \"file\"\npath = {}\nlabel_dim = {classes}\nshape = [{channels}, \
             {resolution}, {resolution}]",
            quoted(path)
        );
    }
    let few = request.images.unwrap_or(0) < FEW;
    let Training { iterations, batch } = training;
    format!(
        r#"
[teacher]
kind = "network"
dataset = {data}

[teacher.network]
architecture = "song-unet"
resolution = {resolution}
in_channels = {channels}
out_channels = {channels}
label_dim = {classes}
label_dropout = {dropout}
augment_dim = {labels}
model_channels = {width}
channel_mult = [1, 4, 4]
num_blocks = 1
attn_resolutions = [{attention}]

[teacher.train]
iterations = {iterations}
batch = {batch}
lr = 2e-3
schedule = "cosine"
warmup = {warmup}
ema_rampup = 0.05
augment = {augment}
"#,
        data = quoted(set_file(request.folder, request.name, "")),
        dropout = if classes > 0 { "0.1" } else { "0.0" },
        labels = if few { 9 } else { 0 },
        augment = if few { "0.1" } else { "0.0" },
        attention = resolution / 4,
        warmup = (iterations / 20).min(1000),
    )
}
