//! What a file is, found out from its content, and its import.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use kdm_data::{Error, Result, TensorFile, model};
use kdm_nn::StateDict;
use kdm_teacher::Preconditioning;

use crate::pickle::{Id, Value};
use crate::torch::TorchFile;
use crate::{Imported, diffusers, edm, features, infer, official};

/// What a file is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What its content says.
    Auto,
    /// A network of NVlabs/edm.
    Edm,
    /// An official KDM checkpoint.
    Kdm,
    /// A folder of diffusers.
    Diffusers,
}

/// What an import may be told beside the file.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the file is taken for.
    pub format: Format,
    /// The preconditioning of a plain state dict, which can't say it.
    pub preconditioning: Preconditioning,
    /// The file of LPIPS's heads, to go with VGG16's weights.
    pub heads: Option<std::path::PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { format: Format::Auto, preconditioning: Preconditioning::EDM, heads: None }
    }
}

const ACTION: &str = "give a file of a known kind: official KDM checkpoints and discriminators, \
                      network pickles of NVlabs/edm, state dicts of either, diffusers folders, \
                      VGG16 with --heads, and pytorch-fid's Inception";

/// Reads a foreign file or folder. Networks are made on `device`, to find out whether the weights
/// fit them.
///
/// # Errors
/// When it is damaged, refused, of no known kind, or of another kind than it is said to be.
pub fn import(path: &Path, options: &Options, device: &Device) -> Result<Imported> {
    let wrong = |what: &str| Err(Error::invalid(path, "format", format!("is no {what}"), ACTION));
    if path.is_dir() {
        return match options.format {
            Format::Auto | Format::Diffusers => diffusers::import(path, device),
            Format::Edm => wrong("network of NVlabs/edm, but a folder"),
            Format::Kdm => wrong("official KDM checkpoint, but a folder"),
        };
    }
    if options.format == Format::Diffusers {
        return wrong("folder, and diffusers keeps a model in a folder: give that");
    }
    let mut start = [0u8; 9];
    let length = {
        use std::io::Read;
        let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
        file.read(&mut start).map_err(Error::io("read", path))?
    };
    // A safetensors file begins with the length of its header, which is a JSON object.
    if length == 9 && start[8] == b'{' && !start.starts_with(b"PK") {
        let file = TensorFile::open(path)?;
        if let Some(kind) = model::kind(&file) {
            let problem = format!("is a {kind} of this program already");
            return Err(Error::invalid(path, "format", problem, "use it as it is"));
        }
        return by_state(path, file.state("")?, options, device);
    }
    let torch = TorchFile::open(path)?;
    from_torch(&torch, options, device)
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
    from_torch(&TorchFile::read(path, bytes)?, options, device)
}

fn from_torch(torch: &TorchFile, options: &Options, device: &Device) -> Result<Imported> {
    let root = torch.pickle.root;
    let invalid =
        |field: &str, problem: String| Err(Error::invalid(torch.path(), field, problem, ACTION));
    let (may_edm, may_kdm) = (options.format != Format::Kdm, options.format != Format::Edm);
    if may_kdm && official::recognises(torch, root) {
        return official::import(torch, root, device);
    }
    if may_edm && edm::recognises(torch) {
        return edm::import(torch, device);
    }
    if edm::recognises(torch) {
        return invalid(
            "format",
            "is a network pickle of NVlabs/EDM, and no KDM checkpoint".into(),
        );
    }
    if official::recognises(torch, root) {
        return invalid(
            "format",
            "is an official KDM checkpoint, and no network of NVlabs/edm".into(),
        );
    }
    if let Some((class, _)) = torch.module(root) {
        let state = torch.state(root)?;
        if official::is_discriminator(&state) || infer::is_unet(&state) {
            return by_state(torch.path(), state, options, device);
        }
        return invalid("module", format!("`{class}` is no network that is known here"));
    }
    match dict_of(torch, root) {
        Some(id) => by_state(torch.path(), torch.dict(id)?, options, device),
        None => {
            let what = match torch.pickle.get(root) {
                Value::Dict(_) => {
                    let keys: Vec<&str> =
                        torch.pickle.entries(root).into_iter().map(|(k, _)| k).take(8).collect();
                    format!("holds a dict of {keys:?}, and no network")
                }
                Value::Call(..) if torch.is_tensor(root) => "holds a single tensor".to_string(),
                _ => "holds no network".to_string(),
            };
            invalid("content", what)
        }
    }
}

/// The state dict in a file: the root, or what trainers commonly wrap it in.
fn dict_of(torch: &TorchFile, root: Id) -> Option<Id> {
    let inner = ["ema", "model_ema", "state_dict", "model_state_dict", "model", "net"];
    let wrapped = inner.into_iter().filter_map(|key| torch.pickle.field(root, key));
    std::iter::once(root).chain(wrapped).find(|id| official::is_dict(torch, *id))
}

/// The heads of LPIPS from their own file: a state dict, or a plain list.
fn heads_of(path: &Path) -> Result<StateDict> {
    let torch = TorchFile::open(path)?;
    let root = torch.pickle.root;
    match torch.pickle.get(root) {
        Value::List(items) | Value::Tuple(items) => {
            let mut state = StateDict::new();
            for (i, id) in items.iter().enumerate() {
                let array = torch.tensor(*id, &i.to_string())?;
                state.insert(i.to_string(), TensorData::new(array.data, array.shape));
            }
            Ok(state)
        }
        _ => torch.dict(root),
    }
}

fn by_state(path: &Path, state: StateDict, options: &Options, device: &Device) -> Result<Imported> {
    let invalid = |problem: &str| Err(Error::invalid(path, "tensors", problem, ACTION));
    let inner = infer::under(&state, "model.");
    if options.format != Format::Edm && official::is_student(&state) {
        return official::from_state(path, state, device);
    }
    if options.format != Format::Kdm && (infer::is_unet(&state) || infer::is_unet(&inner)) {
        return edm::from_state(path, state, options.preconditioning.clone(), device);
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
    let names: Vec<&str> = state.keys().map(String::as_str).take(4).collect();
    invalid(&format!("are of no known network; the first are {names:?}"))
}
