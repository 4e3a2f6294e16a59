//! Weights from whatever a training wrapped them in: a state dict within dicts, lists, modules and
//! helper objects, with prefixes before its names, in a file of PyTorch, safetensors, or several
//! with an index.
//!
//! A network is known by names that all files of its kind have; what stands before those names is
//! wrapping and goes. Where a file has several networks, the average of the one that can be used
//! comes first, and [`Weights`] says what was chosen and what else was there.

mod group;
mod index;
mod kinds;
mod walk;

use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use kdm_data::{Error, Result, TensorFile};
use kdm_nn::StateDict;

use self::group::{At, Content, Entry, Group, Place};
pub(crate) use self::index::is_weights_folder;
pub(crate) use self::kinds::Kind;
use self::kinds::Standing;
use crate::numbers::Number;
use crate::pickle::{Id, Value};
use crate::torch::TorchFile;

const ACTION: &str = "give a file with the weights of a network: a state dict, alone or in a \
                      training's checkpoint";

/// A network's weights, whatever they were wrapped in.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The tensors as f32, named as their network names them, without prefixes.
    pub tensors: StateDict,
    /// A line on where they stood in the file; empty where there was nothing to choose.
    pub chosen: String,
    /// Lines on what was left out.
    pub notes: Vec<String>,
}

/// Reads the weights in a file of PyTorch (`.pt`, `.pth`, `.ckpt`, `.pkl`, `.bin`), a
/// `.safetensors` file, an index of shards (`*.index.json`), or a folder that has one of these.
/// `key` chooses among several networks: the keys that lead to one, joined by dots, or one of
/// them.
///
/// # Errors
/// When the file is damaged or holds no weights, `key` names none, or a needed tensor can't be
/// read.
pub fn read(path: &Path, key: Option<&str>) -> Result<Weights> {
    let opened = Opened::open(path)?;
    opened.weights(&opened.choose(key)?)
}

/// A file with its tensors listed.
pub(crate) struct Opened {
    path: PathBuf,
    files: Vec<Source>,
    groups: Vec<Group>,
    /// Why parts of the file were left out.
    problems: Vec<String>,
}

/// What tensors are read from.
enum Source {
    Torch(Box<TorchFile>),
    Tensors(TensorFile),
}

impl Opened {
    /// Lists the tensors of a file, of the shards of an index, or of a folder with either.
    pub fn open(path: &Path) -> Result<Self> {
        match index::shards(path)? {
            index::Shards::One(file) => Self::single(path, &file),
            index::Shards::Several(shards) => Self::sharded(path, shards),
        }
    }

    fn single(path: &Path, file: &Path) -> Result<Self> {
        if index::is_safetensors(file)? {
            return Ok(Self::of_tensors(path, TensorFile::open_foreign(file)?));
        }
        Ok(Self::of_torch(TorchFile::open(file)?))
    }

    fn of_tensors(path: &Path, file: TensorFile) -> Self {
        let groups = vec![tensors_group(&file, 0)];
        Self { path: path.into(), files: vec![Source::Tensors(file)], groups, problems: vec![] }
    }

    /// Lists the tensors of a file that PyTorch wrote.
    pub fn of_torch(torch: TorchFile) -> Self {
        let (mut groups, mut problems) = walk::groups(&torch, 0);
        let (named, notes) = group::named_averages(&groups);
        groups.extend(named);
        problems.extend(notes);
        let path = torch.path().to_path_buf();
        Self { path, files: vec![Source::Torch(Box::new(torch))], groups, problems }
    }

    /// One state dict of several files; the index says which tensor is in which.
    fn sharded(path: &Path, shards: Vec<index::Shard>) -> Result<Self> {
        let (mut files, mut entries) = (Vec::new(), Vec::new());
        for (i, shard) in shards.into_iter().enumerate() {
            let one = Self::single(&shard.file, &shard.file)?;
            let Some(group) = one.groups.into_iter().find(|group| group.path.is_empty()) else {
                return Err(Error::invalid(&shard.file, "content", "holds no state dict", ACTION));
            };
            for name in shard.names {
                let Some(entry) = group.entries.iter().rfind(|entry| entry.name == name) else {
                    let problem = "is missing, and the index says that it is here";
                    let action = "download this file and the index again, from one place";
                    let field = format!("tensor `{name}`");
                    return Err(Error::invalid(&shard.file, field, problem, action));
                };
                entries.push(Entry { at: At { file: i, ..entry.at }, ..entry.clone() });
            }
            files.extend(one.files);
        }
        let groups = vec![Group { entries, ..Group::default() }];
        Ok(Self { path: path.into(), files, groups, problems: Vec::new() })
    }

    /// The safetensors file, where this is one.
    pub fn tensors_file(&self) -> Option<&TensorFile> {
        match &self.files[..] {
            [Source::Tensors(file)] => Some(file),
            _ => None,
        }
    }

    /// The file of PyTorch, where this is one.
    pub fn torch(&self) -> Option<&TorchFile> {
        match &self.files[..] {
            [Source::Torch(torch)] => Some(torch),
            _ => None,
        }
    }

    /// The network to read: the one that `key` names, or the likeliest.
    ///
    /// # Errors
    /// When there is none, or `key` names none.
    pub fn choose(&self, key: Option<&str>) -> Result<Place> {
        let places = group::places(&self.groups);
        if let Some(key) = key {
            let named = places.iter().find(|place| place.answers(key)).cloned();
            return named.or_else(|| self.unknown(Some(key))).ok_or_else(|| {
                let mut labels: Vec<&str> = places.iter().map(|p| p.label.as_str()).collect();
                labels.retain(|label| !label.is_empty());
                let there = match &labels[..] {
                    [] => "has no network under keys".to_string(),
                    _ => format!("has networks under {}", listed(&labels)),
                };
                let problem = format!("there is none at `{key}`; the file {there}");
                Error::invalid(&self.path, "--key", problem, "give one of these, or leave it out")
            });
        }
        if let Some(first) = places.into_iter().next() {
            return Ok(first);
        }
        self.unknown(None).ok_or_else(|| self.nothing())
    }

    /// The group with most floats, among those that `key` names: tensors of an unknown network.
    fn unknown(&self, key: Option<&str>) -> Option<Place> {
        let floats = |g: &Group| g.entries.iter().filter(|e| e.content == Content::Float).count();
        let groups = self.groups.iter().enumerate().filter(|(_, g)| !g.list && floats(g) > 0);
        let places = groups.map(|(i, g)| (floats(g), Place::new(i, g, "", None)));
        let named = places.filter(|(_, place)| key.is_none_or(|key| place.answers(key)));
        named.max_by_key(|(n, place)| (*n, std::cmp::Reverse(place.group))).map(|(_, p)| p)
    }

    /// The error of a file without weights: what it holds instead.
    fn nothing(&self) -> Error {
        let mut what = match self.files.first() {
            Some(Source::Torch(torch)) => held(torch),
            _ => "holds no tensors of floats".to_string(),
        };
        for problem in &self.problems {
            what.push_str(&format!("; {problem}"));
        }
        Error::invalid(&self.path, "content", what, ACTION)
    }

    /// The pickled module at a place, and the module that it is `model` of, each with the file.
    pub fn module(&self, place: &Place) -> Option<(&TorchFile, Id, Option<Id>)> {
        let Source::Torch(torch) = self.files.first()? else { return None };
        let modules = &self.groups[place.group].modules;
        let at = |prefix: &str| modules.iter().find(|(p, _)| p == prefix).map(|(_, id)| *id);
        let around = place.prefix.strip_suffix("model.").and_then(at);
        Some((torch, at(&place.prefix)?, around))
    }

    /// Reads the weights at a place.
    ///
    /// # Errors
    /// When a tensor is damaged, or depends on a function that isn't known.
    pub fn weights(&self, place: &Place) -> Result<Weights> {
        let group = &self.groups[place.group];
        let mut tensors = StateDict::new();
        let mut unread = Vec::new();
        for entry in &group.entries {
            let Some(name) = place.inner(entry) else { continue };
            match entry.content {
                Content::Float => {
                    tensors.insert(name.to_string(), self.tensor(entry)?);
                }
                Content::Opaque if is_weight(name) => {
                    tensors.insert(name.to_string(), self.tensor(entry)?);
                }
                Content::Opaque | Content::Whole => unread.push(name),
            }
        }
        let mut notes = Vec::new();
        if !unread.is_empty() {
            notes.push(format!("{}: counters, flags or settings", listed(&unread)));
        }
        self.fill(place, &mut tensors, &mut notes)?;
        notes.extend(self.left_out(place));
        Ok(Weights { tensors, chosen: self.chosen(place), notes })
    }

    /// An average may lack what isn't trained: that is taken from the network it is of.
    fn fill(&self, place: &Place, state: &mut StateDict, notes: &mut Vec<String>) -> Result<()> {
        if place.standing != Standing::Average {
            return Ok(());
        }
        let plain = group::places(&self.groups).into_iter().find(|other| {
            other.kind == place.kind && other.standing == Standing::Plain && place.kind.is_some()
        });
        let Some(plain) = plain else { return Ok(()) };
        let mut filled = 0;
        for entry in &self.groups[plain.group].entries {
            if let Some(name) = plain.inner(entry)
                && entry.content == Content::Float
                && !state.contains_key(name)
            {
                state.insert(name.to_string(), self.tensor(entry)?);
                filled += 1;
            }
        }
        if filled > 0 {
            let of = &plain.label;
            notes.push(format!("{filled} tensors that the average lacks are those of `{of}`"));
        }
        Ok(())
    }

    fn tensor(&self, entry: &Entry) -> Result<TensorData> {
        match &self.files[entry.at.file] {
            Source::Torch(torch) => {
                let array = torch.tensor(entry.at.id, &entry.name)?;
                Ok(TensorData::new(array.data, array.shape))
            }
            Source::Tensors(file) => {
                let raw = file.get(&entry.name).expect("listed from this file");
                let name = format!("{:?}", raw.dtype);
                let Some(number) = number_of(raw.dtype) else {
                    let problem = format!("is of type {name}, which is not read");
                    let field = format!("tensor `{}`", entry.name);
                    let action = "convert it to float32, or to another float of 8 to 64 bits";
                    return Err(Error::invalid(file.path(), field, problem, action));
                };
                Ok(TensorData::new(number.decode_all(raw.bytes), raw.shape))
            }
        }
    }

    /// A line on where the weights stand, if that is worth one.
    fn chosen(&self, place: &Place) -> String {
        let group = &self.groups[place.group];
        let keys = group.path.join(".");
        let mut line = match (keys.is_empty(), place.standing) {
            (true, Standing::Average) => "weights: the average".to_string(),
            (true, _) => "weights: the whole file".to_string(),
            (false, Standing::Average) => format!("weights: `{keys}`, which is the average"),
            (false, _) => format!("weights: `{keys}`"),
        };
        if !place.prefix.is_empty() {
            line.push_str(&format!("; `{}` before the names was left out", place.prefix));
        }
        if keys.is_empty() && place.prefix.is_empty() { String::new() } else { line }
    }

    /// Lines on what else the file has.
    fn left_out(&self, place: &Place) -> Vec<String> {
        let mut notes = Vec::new();
        for other in group::places(&self.groups) {
            let useful = other.kind.is_some_and(|kind| kind.priority() < 2);
            if other != *place && useful && other.standing < Standing::Optimizer {
                let what = match other.standing {
                    Standing::Average => "another average",
                    Standing::Plain if place.standing == Standing::Average => "not averaged",
                    _ => "another network",
                };
                let label = &other.label;
                notes.push(format!("`{label}`: {what}; `--key {label}` takes it instead"));
            }
        }
        let group = &self.groups[place.group];
        let outside = group.entries.iter().filter(|entry| place.inner(entry).is_none());
        let outside: Vec<&str> = outside.map(|entry| entry.name.as_str()).collect();
        if !outside.is_empty() {
            notes.push(format!("{}: no part of the network", listed(&outside)));
        }
        if let Some(Source::Torch(torch)) = self.files.first() {
            let first = group.path.first();
            let keys = torch.pickle.entries(torch.pickle.root).into_iter().map(|(key, _)| key);
            let tensors = first.is_none();
            let keys: Vec<&str> = keys.filter(|key| Some(*key) != first.map(|k| &**k)).collect();
            if !keys.is_empty() && !tensors {
                notes.push(format!("also in the file: {}", listed(&keys)));
            }
        }
        notes.extend(self.problems.iter().cloned());
        notes
    }

    /// The autoencoder beside a network, by which it works on latents.
    pub fn autoencoder(&self, place: &Place) -> Option<String> {
        let all = group::places(&self.groups);
        let vae = all.into_iter().find(|p| p.kind == Some(Kind::Vae) && p.group == place.group);
        vae.map(|vae| vae.label)
    }
}

/// What a file holds that has no weights.
fn held(torch: &TorchFile) -> String {
    let (p, root) = (&torch.pickle, torch.pickle.root);
    match p.get(root) {
        Value::Dict(_) => {
            let keys: Vec<&str> = p.entries(root).into_iter().map(|(k, _)| k).collect();
            format!("holds a dict of {}, and no network", listed(&keys))
        }
        Value::List(items) | Value::Tuple(items) if items.iter().any(|id| torch.is_tensor(*id)) => {
            "holds a list of tensors, and no network".to_string()
        }
        _ if torch.is_tensor(root) || p.ndarray(root).is_some() => "holds a single tensor".into(),
        Value::Call(name, _) => {
            format!("holds no network, but what a call of `{name}` would make; nothing was run")
        }
        Value::Global(name) => {
            format!("holds no network, but the name `{name}`; nothing was run")
        }
        Value::Object(name, _) => format!("holds an object `{name}`, and no network"),
        _ => "holds no network".to_string(),
    }
}

/// Whether a network can't do without a tensor of this name.
fn is_weight(name: &str) -> bool {
    name.ends_with("weight") || name.ends_with("bias")
}

/// Some names, and how many more.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let short = |name: &&str| format!("`{}`", name.chars().take(60).collect::<String>());
    let first: Vec<String> = names.iter().take(SHOWN).map(short).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn number_of(dtype: impl std::fmt::Debug) -> Option<Number> {
    Number::of_safetensors(&format!("{dtype:?}"))
}

/// The tensors of a safetensors file.
fn tensors_group(file: &TensorFile, number: usize) -> Group {
    let entry = |(i, (name, dtype, shape)): (usize, (&str, _, &[usize]))| Entry {
        name: name.to_string(),
        shape: shape.to_vec(),
        content: match number_of(dtype) {
            Some(number) if number.is_float() => Content::Float,
            Some(_) => Content::Whole,
            None => Content::Opaque,
        },
        at: At { file: number, id: i },
    };
    Group { entries: file.entries().enumerate().map(entry).collect(), ..Group::default() }
}
