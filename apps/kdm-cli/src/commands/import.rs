//! `kdm import`: models that other programs wrote.

use std::path::PathBuf;

use kdm::data::output::FileKind;
use kdm::formats::{self, Options};
use kdm::teacher::Preconditioning;
use kdm::usable::{Wanted, instead};
use kdm::{Context, Outcome};
use serde_json::Value;

use super::output::{Replace, maybe, print, print_json};

/// Flags of `kdm import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The foreign file (.pt, .pth, .ckpt, .pkl, .bin, .safetensors, an index of shards), or a
    /// folder of diffusers
    file: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "MODEL.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    replace: Replace,
    /// What the file is
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// The preconditioning of a plain state dict, which can't say it; other files do [default: edm
    /// for NVlabs' networks, ddpm-linear for OpenAI's]
    #[arg(long, value_enum)]
    preconditioning: Option<PreconditioningName>,
    /// What weights can't tell of OpenAI's U-Net, such as --set resolution=64, --set num_heads=8 or
    /// --set steps=4000; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, Value)>,
    /// Which of several networks in the file (or weights in a diffusers folder): the keys that lead
    /// to it, joined by dots, or one of them; without it the average, if there is one
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// With VGG16's weights: the heads of LPIPS
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Print what was found as one JSON object
    #[arg(long)]
    json: bool,
}

/// Foreign formats.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Found out from the content
    Auto,
    /// A network pickle of NVlabs/edm, or a state dict of one
    Edm,
    /// An official KDM checkpoint, or a state dict of one
    Kdm,
    /// A folder of a diffusers UNet2DModel
    Diffusers,
}

/// Preconditionings by name, with their published constants.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PreconditioningName {
    /// Karras et al., data of standard deviation 0.5
    Edm,
    /// Variance preserving
    Vp,
    /// Variance exploding
    Ve,
    /// Improved DDPM
    Iddpm,
    /// Flow matching: the velocity e - x_0 at (1 - t) x_0 + t e, the network's time being t
    Flow,
    /// Flow matching from noise at time 0 to data at time 1, as torchcfm's
    FlowToData,
    /// A DDPM of 1000 steps that predicts the noise, variances evenly spaced
    DdpmLinear,
    /// The same with a cosine schedule
    DdpmCosine,
    /// EDM's as openai/consistency_models trains its teachers: 1000 ln(sigma) / 4
    Karras,
}

/// KEY=VALUE, the value as JSON has it, or else text.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as num_heads=8")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
    Ok((key.to_string(), value))
}

impl Args {
    /// Runs the command.
    pub fn run(self, context: Context) -> Outcome<()> {
        let options = Options {
            format: match self.format {
                Format::Auto => formats::Format::Auto,
                Format::Edm => formats::Format::Edm,
                Format::Kdm => formats::Format::Kdm,
                Format::Diffusers => formats::Format::Diffusers,
            },
            preconditioning: self.preconditioning.map(|name| match name {
                PreconditioningName::Edm => Preconditioning::EDM,
                PreconditioningName::Vp => Preconditioning::VP,
                PreconditioningName::Ve => Preconditioning::VE,
                PreconditioningName::Iddpm => Preconditioning::IDDPM,
                PreconditioningName::Flow => {
                    Preconditioning::Flow { time_scale: 1.0, data_at_one: false }
                }
                PreconditioningName::FlowToData => Preconditioning::FLOW_TO_DATA,
                PreconditioningName::DdpmLinear => Preconditioning::DDPM_LINEAR,
                PreconditioningName::DdpmCosine => Preconditioning::DDPM_COSINE,
                PreconditioningName::Karras => Preconditioning::KARRAS,
            }),
            settings: self.settings,
            key: self.key,
            heads: self.heads,
        };
        let inputs = [Some(self.file.as_path()), maybe(&options.heads)];
        self.replace.file(&self.out, FileKind::AnyModel, &inputs)?;
        let imported = formats::import(&self.file, &options, context.device())
            .map_err(|error| instead(&self.file, Wanted::ForeignModel, error.into()))?;
        self.replace.file(&self.out, FileKind::Model(imported.kind()), &inputs)?;
        imported.save(&self.out)?;
        if self.json {
            let value = serde_json::json!({
                "out": self.out, "kind": imported.kind(), "found": imported.found,
                "ignored": imported.ignored, "config": imported.config(),
            });
            return print_json(&value);
        }
        let mut text = format!("{}:\n", self.file.display());
        imported.found.iter().for_each(|line| text.push_str(&format!("  found    {line}\n")));
        imported.ignored.iter().for_each(|line| text.push_str(&format!("  ignored  {line}\n")));
        print(&format!("{text}{} written to {}\n", imported.kind(), self.out.display()))
    }
}
