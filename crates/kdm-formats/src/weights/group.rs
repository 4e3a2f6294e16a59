//! Tensors that stand together in a file, and which of them are a network's.

use std::collections::HashSet;

use super::kinds::{Kind, Standing, shown, standing};
use crate::pickle::Id;

/// Tensors of one dict, module, list or file, by name.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Keys that lead to it from the file's root.
    pub path: Vec<String>,
    /// The tensors, in order.
    pub entries: Vec<Entry>,
    /// Modules by the prefix that their tensors' names have, where the group is a module.
    pub modules: Vec<(String, Id)>,
    /// Whether the names are positions in a list.
    pub list: bool,
}

/// A tensor, not read yet.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub content: Content,
    pub at: At,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Floats, as weights are.
    Float,
    /// Whole numbers: counters and flags.
    Whole,
    /// What can't be read, or is made by a function that isn't known.
    Opaque,
}

/// Where a tensor is: the file, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub file: usize,
    pub id: usize,
}

/// A network in a file: the tensors of a group whose names begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The group.
    pub(super) group: usize,
    /// What its tensors' names begin with.
    pub(super) prefix: String,
    /// What network it is, if one is known.
    pub(crate) kind: Option<Kind>,
    /// What the keys and the prefix say of it.
    pub(super) standing: Standing,
    /// The keys and the prefix, joined by dots.
    pub(crate) label: String,
}

impl Place {
    pub(super) fn new(group: usize, of: &Group, prefix: &str, kind: Option<Kind>) -> Self {
        let prefix = prefix.to_string();
        let mut parts: Vec<&str> = of.path.iter().map(String::as_str).collect();
        parts.extend(prefix.split('.').filter(|part| !part.is_empty()));
        let label = parts.join(".");
        Self { group, standing: standing(&label), prefix, kind, label }
    }

    /// Whether `--key` names it: all of it, its beginning, or one of its parts.
    pub(super) fn answers(&self, key: &str) -> bool {
        let rest = self.label.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            || self.label.split('.').any(|part| part == key)
    }

    /// The entry's name without the prefix, if it has that.
    pub(super) fn inner<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        entry.name.strip_prefix(self.prefix.as_str())
    }
}

/// The networks in the groups, the likeliest first.
pub(super) fn places(groups: &[Group]) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for (g, group) in groups.iter().enumerate() {
        let mut seen = HashSet::new();
        let mut found: Vec<(Kind, &str)> = Vec::new();
        for entry in group.entries.iter().filter(|e| e.content != Content::Whole) {
            if let Some((kind, prefix)) = shown(&entry.name, &entry.shape)
                && seen.insert(prefix)
            {
                found.push((kind, prefix));
            }
        }
        // What lies within another network is a part of it.
        let outer: Vec<(Kind, &str)> =
            found.iter().filter(|(_, p)| !enclosed(p, &seen)).copied().collect();
        all.extend(outer.into_iter().map(|(kind, p)| Place::new(g, group, p, Some(kind))));
    }
    mark_averages_of_lists(groups, &mut all);
    all.sort_by_key(|place| {
        let priority = place.kind.map_or(u8::MAX, Kind::priority);
        (priority, place.standing, groups[place.group].path.len(), place.group)
    });
    all
}

/// Whether a shorter prefix than `prefix`, at a dot, is among `all`.
fn enclosed(prefix: &str, all: &HashSet<&str>) -> bool {
    let before = prefix.strip_suffix('.').unwrap_or(prefix);
    !prefix.is_empty()
        && (all.contains("")
            || before.match_indices('.').any(|(dot, _)| all.contains(&prefix[..=dot])))
}

/// ermongroup/ddim and what came from it save a list of the model's state, the optimizer's, two
/// counters and the average: of two states in a list the last is the average.
fn mark_averages_of_lists(groups: &[Group], places: &mut [Place]) {
    let in_list = |place: &Place| match &groups[place.group].path[..] {
        [only] => only.parse::<usize>().ok(),
        _ => None,
    };
    let positions: Vec<usize> = places.iter().filter_map(in_list).collect();
    if let (Some(first), Some(last)) = (positions.iter().min(), positions.iter().max())
        && first != last
    {
        let of_last = |place: &&mut Place| in_list(place) == Some(*last);
        places.iter_mut().filter(of_last).for_each(|p| p.standing = Standing::Average);
    }
}

/// Groups for averages that are kept as lists without names (`shadow_params`), named after the
/// network they are of; and a line for each list that can't be named.
pub(super) fn named_averages(groups: &[Group]) -> (Vec<Group>, Vec<String>) {
    let (mut named, mut notes) = (Vec::new(), Vec::new());
    let is_average = |g: &&Group| {
        g.list && g.entries.len() > 1 && standing(&g.path.join(".")) == Standing::Average
    };
    let lists: Vec<&Group> = groups.iter().filter(is_average).collect();
    if lists.is_empty() {
        return (named, notes);
    }
    let plain = places(groups)
        .into_iter()
        .find(|place| place.standing == Standing::Plain && !groups[place.group].list);
    let Some(plain) = plain else { return (named, notes) };
    for list in lists {
        match names_of(list, &groups[plain.group]) {
            Some(entries) => {
                named.push(Group { path: list.path.clone(), entries, ..Group::default() });
            }
            None => notes.push(format!(
                "`{}`: {} arrays without names, which are not those of `{}`",
                list.path.join("."),
                list.entries.len(),
                plain.label
            )),
        }
    }
    (named, notes)
}

/// The list's entries under the names of the network's, when the shapes agree one by one: with all
/// of its floats, or with those that are trained.
fn names_of(list: &Group, network: &Group) -> Option<Vec<Entry>> {
    let floats = || network.entries.iter().filter(|e| e.content == Content::Float);
    let trained = floats().filter(|e| !is_buffer(&e.name));
    let matches = |names: Vec<&Entry>| {
        let fits = names.len() == list.entries.len()
            && names.iter().zip(&list.entries).all(|(a, b)| a.shape == b.shape);
        let named =
            |(name, entry): (&&Entry, &Entry)| Entry { name: name.name.clone(), ..entry.clone() };
        fits.then(|| names.iter().zip(&list.entries).map(named).collect())
    };
    matches(floats().collect()).or_else(|| matches(trained.collect()))
}

/// Whether a tensor of this name is no parameter: it is fixed, or follows from the data.
fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(
        last,
        "resample_filter" | "running_mean" | "running_var" | "freqs" | "phases" | "sigmas" | "W"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(path: &[&str], names: &[&str]) -> Group {
        let entry = |name: &&str| Entry {
            name: name.to_string(),
            shape: vec![name.len()],
            content: Content::Float,
            at: At { file: 0, id: 0 },
        };
        Group {
            path: path.iter().map(|p| p.to_string()).collect(),
            entries: names.iter().map(entry).collect(),
            ..Group::default()
        }
    }

    #[test]
    fn the_average_of_the_network_comes_first_and_parts_are_none() {
        let unet = "map_layer0.weight";
        let flat = ["online_model.model.", "ema_model.model.", "fake.", "step"];
        let names: Vec<String> = flat.iter().map(|p| format!("{p}{unet}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let groups = [group(&[], &names), group(&["loss"], &["net.lin0.model.1.weight"])];
        let labels: Vec<String> = places(&groups).into_iter().map(|p| p.label).collect();
        assert_eq!(labels, ["ema_model.model", "online_model.model", "fake", "loss.net"]);
        let student = ["x0_observables_encoder.map_layer0.weight", "lpips.features.28.weight"];
        let found = places(&[group(&["model"], &student)]);
        assert_eq!((found.len(), found[0].kind), (1, Some(Kind::Student)));
        assert!(found[0].answers("model") && !found[0].answers("mod"));
    }

    /// The last state of a list, as ermongroup/ddim saves it.
    #[test]
    fn the_last_state_of_a_list_is_the_average() {
        let found =
            places(&[group(&["0"], &["map_layer0.weight"]), group(&["4"], &["map_layer0.weight"])]);
        assert_eq!((found[0].label.as_str(), found[0].standing), ("4", Standing::Average));
    }

    #[test]
    fn lists_are_named_where_shapes_agree() {
        let model = group(&["model"], &["map_layer0.weight", "a.freqs", "bias"]);
        let mut list = group(&["ema", "shadow_params"], &["0", "1"]);
        list.list = true;
        list.entries[0].shape = vec!["map_layer0.weight".len()];
        list.entries[1].shape = vec!["bias".len()];
        let names = |groups: &[Group]| -> Vec<String> {
            let named = named_averages(groups).0;
            named.iter().flat_map(|g| g.entries.iter().map(|e| e.name.clone())).collect()
        };
        let mut groups = [model, list];
        assert_eq!(names(&groups), ["map_layer0.weight", "bias"]);
        groups[1].entries[1].shape = vec![77];
        assert!(
            names(&groups).is_empty() && named_averages(&groups).1[0].contains("shadow_params")
        );
    }
}
