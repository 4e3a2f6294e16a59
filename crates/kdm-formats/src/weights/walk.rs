//! All groups of tensors in a pickle, each container looked at once.

use std::collections::{HashSet, VecDeque};

use super::group::{At, Content, Entry, Group};
use super::kinds::{Standing, standing};
use crate::pickle::{Id, Value};
use crate::torch::{TensorError, TorchFile};

/// How many keys may lead to a group. Trainers wrap weights two or three deep.
const MAX_KEYS: usize = 5;

/// Containers that are searched.
const MAX_CONTAINERS: usize = 50_000;

/// Tensors that are listed.
const MAX_ENTRIES: usize = 200_000;

/// Entries of dicts that are looked at to name the tensors of modules.
const MAX_WORK: usize = 8_000_000;

/// Characters of a key or name that is followed.
const MAX_NAME: usize = 300;

/// The groups of tensors in a file, and why parts of it were left out.
pub(super) fn groups(torch: &TorchFile, file: usize) -> (Vec<Group>, Vec<String>) {
    let mut walk =
        Walk { torch, file, groups: Vec::new(), problems: Vec::new(), entries: 0, work: 0 };
    walk.run();
    (walk.groups, walk.problems)
}

struct Walk<'a> {
    torch: &'a TorchFile,
    file: usize,
    groups: Vec<Group>,
    problems: Vec<String>,
    entries: usize,
    work: usize,
}

impl Walk<'_> {
    fn run(&mut self) {
        let root = self.torch.pickle.root;
        let (mut seen, mut queue) = (HashSet::from([root]), VecDeque::from([(root, Vec::new())]));
        while let Some((id, path)) = queue.pop_front() {
            // Objects may share what they are made of.
            if self.body(id).is_some_and(|body| !seen.insert(body)) {
                continue;
            }
            let (group, inner) = self.group(id, &path);
            self.entries += group.entries.len() + group.modules.len();
            let searched = seen.len() > MAX_CONTAINERS || self.work > MAX_WORK;
            if self.entries > MAX_ENTRIES || searched {
                self.problems
                    .push("has more parts than a training's state; not all were searched".into());
                return;
            }
            if !group.entries.is_empty() {
                self.groups.push(group);
            }
            if path.len() == MAX_KEYS {
                continue;
            }
            for (key, id) in inner {
                let path: Vec<String> = path.iter().cloned().chain([key]).collect();
                if standing(&path[path.len() - 1]) != Standing::Optimizer && seen.insert(id) {
                    queue.push_back((id, path));
                }
            }
        }
    }

    /// What an object's attributes, or a persistent module's, stand in.
    fn body(&self, id: Id) -> Option<Id> {
        let p = &self.torch.pickle;
        match p.get(id) {
            Value::Object(_, state) => *state,
            Value::Call(_, arguments) => p.tuple(*arguments)?.first().copied(),
            _ => None,
        }
    }

    /// The tensors that stand directly in a container, and the containers in it.
    fn group(&mut self, id: Id, path: &[String]) -> (Group, Vec<(String, Id)>) {
        let torch = self.torch;
        let mut group = Group { path: path.to_vec(), ..Group::default() };
        if torch.is_module(id) {
            match torch.members(id) {
                Ok(members) => {
                    self.work += members.work;
                    group.modules = members.modules;
                    let tensors = members.tensors.into_iter();
                    group.entries = tensors.filter_map(|(name, id)| self.entry(name, id)).collect();
                }
                Err(e) => {
                    self.work += MAX_WORK / 4;
                    self.problems.push(format!("`{}` {e}", path.join(".")));
                }
            }
            return (group, Vec::new());
        }
        let (named, list) = children(torch, id);
        group.list = list;
        let mut inner = Vec::new();
        for (name, id) in named {
            match torch.pickle.get(id) {
                Value::Dict(_) | Value::List(_) | Value::Tuple(_) => inner.push((name, id)),
                Value::Object(..) | Value::Call(..) => match self.entry(name.clone(), id) {
                    Some(entry) if entry.content != Content::Opaque => group.entries.push(entry),
                    other => {
                        group.entries.extend(other);
                        inner.push((name, id));
                    }
                },
                _ => {}
            }
            if group.entries.len() + self.entries > MAX_ENTRIES || inner.len() > MAX_CONTAINERS {
                break;
            }
        }
        (group, inner)
    }

    /// A value as an entry, if it could be a tensor.
    fn entry(&self, name: String, id: Id) -> Option<Entry> {
        let at = At { file: self.file, id };
        let entry = |shape, content| Some(Entry { name, shape, content, at });
        match self.torch.try_inspect(id) {
            Ok(info) if info.float => entry(info.shape, Content::Float),
            Ok(info) => entry(info.shape, Content::Whole),
            Err(TensorError::NoTensor) => None,
            Err(_) if self.torch.pickle.number(id).is_some() => None,
            Err(_) => entry(Vec::new(), Content::Opaque),
        }
    }
}

/// The values in a container by key, and whether the keys are positions. Keys that are neither
/// text nor whole numbers lead nowhere.
fn children(torch: &TorchFile, id: Id) -> (Vec<(String, Id)>, bool) {
    let p = &torch.pickle;
    let key = |id: Id| match p.get(id) {
        Value::Text(text) if text.len() <= MAX_NAME => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    };
    let most = MAX_ENTRIES;
    let entries: Vec<(String, Id)> =
        p.pairs(id).take(most).filter_map(|(k, v)| Some((key(k)?, v))).collect();
    if !entries.is_empty() {
        return (entries, false);
    }
    let items = p.items(id).unwrap_or(&[]).iter().take(most).enumerate();
    (items.map(|(i, id)| (i.to_string(), *id)).collect(), true)
}
