//! Pickled modules: all tensors under one, by the names that a state dict would give them.

use std::collections::HashMap;
use std::rc::Rc;

use super::TorchFile;
use crate::pickle::{Id, Value};

/// How deep modules may lie in each other. Networks are less than ten deep.
const MAX_DEPTH: usize = 24;

/// Modules and tensors together that one module may have under it, counted by name: what is shared
/// counts as often as it is there. Networks have some thousand.
const MAX_MEMBERS: usize = 100_000;

/// Entries of dicts that may be looked at for it.
const MAX_WORK: usize = 4_000_000;

/// Characters of a name with those of the modules before it.
const MAX_NAME: usize = 500;

/// What is under a module.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Parameters and buffers by dotted name, in order.
    pub tensors: Vec<(String, Id)>,
    /// Modules by dotted name, with a dot at the end; the module itself has none.
    pub modules: Vec<(String, Id)>,
    /// Entries of the pickle's dicts that were looked at.
    pub work: usize,
}

/// Why a module's tensors can't be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("has modules more than {MAX_DEPTH} deep in each other")]
    Depth,
    #[error("has more than {MAX_MEMBERS} parts, which no network has")]
    Members,
    #[error("has names of more than {MAX_NAME} characters")]
    Name,
}

/// A module's own tensors and its children, each by name.
#[derive(Default)]
struct Parts<'a> {
    tensors: Vec<(&'a str, Id)>,
    children: Vec<(&'a str, Id)>,
    work: usize,
}

impl TorchFile {
    /// Names all that is under a module.
    pub(crate) fn members(&self, module: Id) -> Result<Members, ModuleError> {
        let mut walk = Walk { torch: self, known: HashMap::new(), found: Members::default() };
        walk.visit(module, "", 0)?;
        Ok(walk.found)
    }

    fn parts(&self, module: Id) -> Parts<'_> {
        let there = |id: &Id| !matches!(self.pickle.get(*id), Value::None);
        let part = |name: &str| {
            let entries = self.attribute(module, name).map(|id| self.pickle.entries(id));
            entries.unwrap_or_default().into_iter().filter(|(_, id)| there(id))
        };
        let sizes = ["_parameters", "_buffers", "_modules"]
            .map(|name| self.attribute(module, name).map_or(0, |id| self.pickle.size(id)));
        let own = self.module(module).map_or(0, |(_, state)| self.pickle.size(state));
        Parts {
            work: 4 * own + sizes.iter().sum::<usize>(),
            tensors: part("_parameters").chain(part("_buffers")).collect(),
            children: self.children(module),
        }
    }
}

struct Walk<'a> {
    torch: &'a TorchFile,
    /// Each module is looked at once, however many names it has.
    known: HashMap<Id, Rc<Parts<'a>>>,
    found: Members,
}

impl Walk<'_> {
    fn visit(&mut self, module: Id, prefix: &str, depth: usize) -> Result<(), ModuleError> {
        if depth > MAX_DEPTH {
            return Err(ModuleError::Depth);
        }
        let torch = self.torch;
        let parts = match self.known.get(&module) {
            Some(parts) => Rc::clone(parts),
            None => {
                let parts = Rc::new(torch.parts(module));
                self.found.work += parts.work;
                self.known.insert(module, Rc::clone(&parts));
                parts
            }
        };
        self.found.modules.push((prefix.to_string(), module));
        let more = parts.tensors.len() + parts.children.len();
        let members = self.found.modules.len() + self.found.tensors.len() + more;
        if members > MAX_MEMBERS || self.found.work > MAX_WORK {
            return Err(ModuleError::Members);
        }
        let named = |name: &str| {
            let fits = prefix.len() + name.len() <= MAX_NAME;
            fits.then(|| format!("{prefix}{name}")).ok_or(ModuleError::Name)
        };
        for (name, id) in &parts.tensors {
            self.found.tensors.push((named(name)?, *id));
        }
        for (name, child) in &parts.children {
            self.visit(*child, &format!("{}.", named(name)?), depth + 1)?;
        }
        Ok(())
    }
}
