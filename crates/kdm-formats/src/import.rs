//! What a file is, found out from its content, and its import.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use kdm_data::{Error, Result, model};
use kdm_nn::StateDict;
use kdm_nn::state::state_dict;
use kdm_teacher::Preconditioning;

use crate::pickle::Value;
use crate::torch::TorchFile;
use crate::weights::{Kind, Opened, is_weights_folder};
use crate::{Format, Imported, Model, Options, diffusers, edm, features, infer, official, openai};

const ACTION: &str = "give a file of a known kind: official KDM checkpoints and discriminators, \
                      network pickles of NVlabs/edm, state dicts of either or of OpenAI's U-Net, \
                      diffusers folders, \
                      VGG16 with --heads, and pytorch-fid's Inception";

/// Reads a foreign file or folder. Networks are made on `device`, to find out whether the weights
/// fit them.
///
/// # Errors
/// When it is damaged, refused, of no known kind, or of another kind than it is said to be.
pub fn import(path: &Path, options: &Options, device: &Device) -> Result<Imported> {
    let wrong = |what: &str| Err(Error::invalid(path, "format", format!("is no {what}"), ACTION));
    let diffusers = options.format == Format::Diffusers;
    if path.is_dir() {
        match options.format {
            Format::Auto if !is_diffusers_folder(path) && is_weights_folder(path) => {}
            Format::Auto | Format::Diffusers => {
                return diffusers::import(path, options, device).and_then(checked);
            }
            Format::Edm => return wrong("network of NVlabs/edm, but a folder"),
            Format::Kdm => return wrong("official KDM checkpoint, but a folder"),
        }
    } else if diffusers {
        return wrong("folder, and diffusers keeps a model in a folder: give that");
    }
    let opened = Opened::open(path)?;
    if let Some(kind) = opened.tensors_file().and_then(model::kind) {
        let problem = format!("is a {kind} of this program already");
        return Err(Error::invalid(path, "format", problem, "use it as it is"));
    }
    from_opened(path, &opened, options, device)
}

/// Whether a folder is one that diffusers wrote.
pub fn is_diffusers_folder(path: &Path) -> bool {
    diffusers::is_folder(path)
}

/// Reads the bytes of a foreign file, as [`import`] does of a file that PyTorch wrote.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(
    path: &Path,
    bytes: Vec<u8>,
    options: &Options,
    device: &Device,
) -> Result<Imported> {
    from_opened(path, &Opened::of_torch(TorchFile::read(path, bytes)?), options, device)
}

fn from_opened(
    path: &Path,
    opened: &Opened,
    options: &Options,
    device: &Device,
) -> Result<Imported> {
    let place = opened.choose(options.key.as_deref())?;
    let invalid = |field: &str, problem: String, action: &str| {
        Err(Error::invalid(path, field, problem, action))
    };
    if let Some(label) = opened.autoencoder(&place).filter(|_| place.kind != Some(Kind::Vae)) {
        let problem = format!(
            "has an autoencoder at `{label}`, so its network works on latents, and this program's \
             teachers on pixels"
        );
        return invalid("tensors", problem, "give a model of pixels");
    }
    match (place.kind, options.format) {
        (Some(Kind::Nvlabs), Format::Kdm) => {
            let problem = "is a network of NVlabs/edm, and no KDM checkpoint";
            return invalid("format", problem.into(), ACTION);
        }
        (Some(Kind::Student), Format::Edm) => {
            let problem = "is an official KDM checkpoint, and no network of NVlabs/edm";
            return invalid("format", problem.into(), ACTION);
        }
        _ => {}
    }
    // Whole modules tell more than their weights.
    if let Some((torch, module, around)) = opened.module(&place) {
        if place.kind == Some(Kind::Student) {
            return official::import(torch, module, device).and_then(checked);
        }
        if place.kind == Some(Kind::Nvlabs)
            && let Some(around) = around
        {
            return edm::import(torch, around, &place.label, device).and_then(checked);
        }
        if place.kind.is_none() {
            let class = torch.module(module).map_or("", |(class, _)| class);
            let problem = format!("`{class}` is no network that is known here");
            return invalid("module", problem, ACTION);
        }
    }
    let weights = opened.weights(&place)?;
    let mut imported = by_state(path, weights.tensors, place.kind, options, device)?;
    imported.found.extend(Some(weights.chosen).filter(|line| !line.is_empty()));
    imported.ignored.extend(weights.notes);
    checked(imported)
}

/// Tells of weights that are no numbers.
fn checked(mut imported: Imported) -> Result<Imported> {
    let of_student;
    let state = match &imported.model {
        Model::Student { student, .. } => {
            of_student = state_dict(student);
            &of_student
        }
        Model::Teacher { state, .. } | Model::Weights { state, .. } => state,
    };
    let mut first = None;
    let (mut bad, mut all) = (0, 0);
    for (name, data) in state {
        let values = data.as_slice::<f32>().unwrap_or(&[]);
        let wrong = values.iter().filter(|x| !x.is_finite()).count();
        (bad, all) = (bad + wrong, all + values.len());
        if wrong > 0 && first.is_none() {
            first = Some(name);
        }
    }
    if let Some(name) = first {
        let warning = format!(
            "WARNING: {bad} of {all} weights are NaN or infinite, the first in `{name}`: what the \
             network draws will be too; look for an earlier checkpoint of that training"
        );
        imported.found.push(warning);
    }
    Ok(imported)
}

/// The heads of LPIPS from their own file: a state dict, or a plain list.
fn heads_of(path: &Path) -> Result<StateDict> {
    let opened = Opened::open(path)?;
    if let Some(torch) = opened.torch()
        && let Value::List(items) | Value::Tuple(items) = torch.pickle.get(torch.pickle.root)
    {
        let mut state = StateDict::new();
        for (i, id) in items.iter().enumerate() {
            let array = torch.tensor(*id, &i.to_string())?;
            state.insert(i.to_string(), TensorData::new(array.data, array.shape));
        }
        return Ok(state);
    }
    // What isn't there is told as missing.
    match opened.choose(None) {
        Ok(place) => Ok(opened.weights(&place)?.tensors),
        Err(_) => Ok(StateDict::new()),
    }
}

fn by_state(
    path: &Path,
    state: StateDict,
    kind: Option<Kind>,
    options: &Options,
    device: &Device,
) -> Result<Imported> {
    let invalid = |problem: &str| Err(Error::invalid(path, "tensors", problem, ACTION));
    if options.format != Format::Edm && official::is_student(&state) {
        return official::from_state(path, state, device);
    }
    if options.format != Format::Kdm && infer::is_unet(&state) {
        return edm::from_state(
            path,
            state,
            options.preconditioning.clone().unwrap_or(Preconditioning::EDM),
            device,
        );
    }
    if openai::is_unet(&state) {
        return openai::from_state(path, state, options, device);
    }
    if official::is_discriminator(&state) {
        return official::discriminator(path, state, device);
    }
    if features::is_inception(&state) {
        return features::inception(path, state, device);
    }
    if features::is_vgg(&state) {
        return match &options.heads {
            Some(heads) => features::lpips(path, &state, heads, &heads_of(heads)?, device),
            None => {
                let action = "give the heads of LPIPS too, with --heads vgg.pth (of the lpips \
                              package) or piq's weights";
                Err(Error::invalid(path, "tensors", "are VGG16's, which are half of LPIPS", action))
            }
        };
    }
    if features::is_heads(&state) {
        return invalid(
            "are the heads of LPIPS alone; give VGG16's weights, and these with --heads",
        );
    }
    if state.contains_key("time_embedding.linear_1.weight") {
        return invalid(
            "are a diffusers network's without its configuration; give the folder with config.json",
        );
    }
    match kind {
        Some(Kind::Other(name)) => {
            return invalid(&format!("are those of {name}, which this program doesn't know"));
        }
        Some(Kind::Vae) => return invalid("are those of an autoencoder, and no network of images"),
        _ => {}
    }
    let names: Vec<&str> = state.keys().map(String::as_str).take(4).collect();
    invalid(&format!("are of no known network; the first are {names:?}"))
}
