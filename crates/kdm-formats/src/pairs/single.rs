//! Pairs in one file: named arrays of a `.npz`, `.pt` or `.safetensors`, or a `.npy` of paths.

use kdm_data::pairs::{PairSource, STATE_TIMES};
use kdm_data::region::Region;
use kdm_data::view::{Layout, Npz, Number, View, row_major};
use kdm_data::{Error, Result};
use safetensors::tensor::{Dtype, Metadata};

use super::names::{Chosen, Keys, choose};
use super::parts::{LabelRows, Part, Parts, Rows};
use super::states::States;
use super::torch;

type Found = Result<Box<dyn PairSource>>;

/// Rows that are looked at to tell noise from images.
const LOOKED_AT: usize = 64;

/// Pairs of a zip archive: `.npz` or `.pt`.
///
/// # Errors
/// When it is neither, or its arrays are no pairs.
pub fn archive(region: &Region, keys: &Keys) -> Found {
    let entries = region.entries()?;
    if torch::is_torch(&entries) {
        let tensors = torch::tensors(region, &entries)?;
        let names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
        let view = |name: &str| {
            let found = tensors.iter().find(|(found, _)| found == name);
            found.map(|(_, view)| view.clone()).ok_or_else(|| missing(region, name))
        };
        return named(region, &names, keys, &view);
    }
    let npz = Npz::open(region.clone())?;
    let names: Vec<String> = npz.names().map(String::from).collect();
    if names.is_empty() {
        let action = "give the folder that holds both samples.zip and z.zip (2-RF++), or arrays";
        return Err(region.invalid("is a zip archive without arrays", action));
    }
    named(region, &names, keys, &|name| npz.view(name))
}

fn missing(region: &Region, name: &str) -> Error {
    region.invalid(format!("has no `{name}`"), super::ACTION)
}

/// Pairs of a `.safetensors` file.
///
/// # Errors
/// When it is damaged, or its tensors are no pairs.
pub fn safetensors(region: &Region, keys: &Keys) -> Found {
    const MOST_HEADER: u64 = 100 << 20;
    let bad = |problem: String| region.invalid(problem, "copy or write the file again, whole");
    let mut length = [0; 8];
    region.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER {
        return Err(bad("has a header of more than 100 MB".into()));
    }
    let header = region.part("header", 0, 8 + length)?.to_vec()?;
    let info: Metadata = serde_json::from_slice(&header[8..])
        .map_err(|e| bad(format!("not a readable safetensors file ({e})")))?;
    let end = 8 + length + info.data_len() as u64;
    if end != region.len() {
        let problem = format!("has {} bytes where its header tells of {end}", region.len());
        return Err(bad(problem));
    }
    let view = |name: &str| -> Result<View> {
        let tensors = info.tensors();
        let tensor = tensors.get(name).ok_or_else(|| missing(region, name))?;
        let number = match tensor.dtype {
            Dtype::BOOL => Number::Bool,
            Dtype::U8 => Number::Uint(1),
            Dtype::I8 => Number::Int(1),
            Dtype::I16 => Number::Int(2),
            Dtype::U16 => Number::Uint(2),
            Dtype::I32 => Number::Int(4),
            Dtype::U32 => Number::Uint(4),
            Dtype::I64 => Number::Int(8),
            Dtype::U64 => Number::Uint(8),
            Dtype::F16 => Number::Float(2),
            Dtype::BF16 => Number::Brain,
            Dtype::F32 => Number::Float(4),
            Dtype::F64 => Number::Float(8),
            other => {
                let problem = format!("`{name}` is of type {other:?}, which is not read");
                return Err(region.invalid(problem, "convert it to float32"));
            }
        };
        let (start, end) = tensor.data_offsets;
        let Some(size) = end.checked_sub(start) else {
            return Err(bad(format!("`{name}` ends before it begins")));
        };
        let part = region.part(name, 8 + length + start as u64, size as u64)?;
        let (shape, strides) = (tensor.shape.clone(), row_major(&tensor.shape));
        View::new(part, Layout { number, big_endian: false, start: 0, shape, strides })
    };
    let mut names: Vec<String> = info.tensors().keys().cloned().collect();
    names.sort();
    named(region, &names, keys, &view)
}

/// Pairs of arrays by name.
fn named(
    region: &Region,
    names: &[String],
    keys: &Keys,
    view: &dyn Fn(&str) -> Result<View>,
) -> Found {
    let path = region.path();
    let has = |name: &str| names.iter().any(|found| found == name);
    let chosen = match choose(path, names, keys)? {
        Some(chosen) => chosen,
        None => by_values(region, names, keys, view)?,
    };
    let (noise, image) = (view(&chosen.noise)?, view(&chosen.image)?);
    for (name, view) in [(&chosen.noise, &noise), (&chosen.image, &image)] {
        if view.rows() == 0 || view.shape().contains(&0) {
            let problem = format!("is empty: shape {:?}", view.shape());
            return Err(Error::invalid(path, name, problem, "give at least one pair"));
        }
    }
    let label = chosen.label.as_deref().map(view).transpose()?;
    let count = noise.rows();
    let states = match has("states") && has(STATE_TIMES) {
        true => {
            let (states, times) = (view("states")?, view(STATE_TIMES)?);
            Some(States::by_pair(states, &times, noise.shape())?)
        }
        false => None,
    };
    let part = Part {
        noise,
        image: Rows::View(image),
        label: label.map(LabelRows::View),
        file: path.to_path_buf(),
    };
    let found = told(count, &chosen, names);
    let mut parts = Parts::new(part, path, Some(vec![0, count]), found)?;
    let number = |name: &str| -> Result<Option<f64>> {
        if !has(name) {
            return Ok(None);
        }
        Ok(view(name)?.to_f64()?.first().copied())
    };
    parts.states = states;
    parts.noise_std = number("noise_std")?;
    if let Some(classes) = number("label_dim")? {
        parts.label_dim = Some(classes as usize).filter(|classes| *classes > 0);
    }
    Ok(Box::new(parts))
}

/// What was chosen among what is there.
fn told(count: usize, chosen: &Chosen, names: &[String]) -> String {
    let Chosen { noise, image, label } = chosen;
    let labels = label.as_ref().map_or(String::new(), |label| format!(", labels `{label}`"));
    let used = |name: &&String| {
        *name != noise
            && *name != image
            && Some(*name) != label.as_ref()
            && !["noise_std", "label_dim", "states", STATE_TIMES].contains(&name.as_str())
    };
    let rest: Vec<&str> = names.iter().filter(used).map(String::as_str).collect();
    let rest = match rest[..] {
        [] => String::new(),
        _ => format!("; left out: {}", rest.join(", ")),
    };
    format!("{count} pairs as arrays `{noise}` and `{image}`{labels}{rest}")
}

/// Chooses among arrays whose names say nothing: of two of one shape, noise is the one that
/// deviates at least twice as much.
fn by_values(
    region: &Region,
    names: &[String],
    keys: &Keys,
    view: &dyn Fn(&str) -> Result<View>,
) -> Result<Chosen> {
    let unclear = |problem: String| {
        let action = "say which is which with --noise-key NAME and --image-key NAME";
        Error::invalid(region.path(), "arrays", problem, action)
    };
    let mut views = Vec::new();
    for name in names.iter().filter(|name| keys.label.as_ref() != Some(*name)) {
        if let Ok(view) = view(name)
            && view.shape().len() > 1
        {
            views.push((name, view));
        }
    }
    let [(a, first), (b, second)] = &views[..] else {
        return Err(unclear(format!("are {names:?}, none of which is named as noise or image")));
    };
    if first.shape() != second.shape() {
        return Err(unclear(format!("are {names:?}, of different shapes")));
    }
    let rows = 0..first.rows().min(LOOKED_AT);
    let deviations = [first.rows_f32(rows.clone())?, second.rows_f32(rows)?].map(|x| deviation(&x));
    let (noise, image) = match larger(deviations) {
        Some(0) => (a, b),
        Some(_) => (b, a),
        None => {
            let [a, b] = deviations;
            return Err(unclear(format!("are {names:?}, which deviate alike ({a:.3}, {b:.3})")));
        }
    };
    Ok(Chosen { noise: noise.to_string(), image: image.to_string(), label: keys.label.clone() })
}

/// Root mean square.
pub fn deviation(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    (sum / values.len().max(1) as f64).sqrt()
}

/// Which of two deviations is at least twice the other.
pub fn larger([a, b]: [f64; 2]) -> Option<usize> {
    match () {
        () if a >= 2.0 * b && a > 0.0 => Some(0),
        () if b >= 2.0 * a && b > 0.0 => Some(1),
        () => None,
    }
}

/// Pairs of a `.npy` of shape (steps, pairs, ...), time first. Points have the noise first, as the
/// official checkerboard pairs have; so have images, unless the last deviate four times as much.
///
/// # Errors
/// When it has another shape.
pub fn trajectory(region: &Region) -> Found {
    let path = region.path();
    let all = View::npy(region.clone())?;
    let shape = all.shape().to_vec();
    if !matches!(shape.len(), 3 | 5) || shape[0] < 2 || shape.contains(&0) {
        let problem = format!("is an array of shape {shape:?}, which is no layout of pairs");
        return Err(Error::invalid(path, "layout", problem, super::ACTION));
    }
    let (steps, count) = (shape[0], shape[1]);
    let (first, last) = (all.at(0)?, all.at(steps - 1)?);
    let rows = 0..count.min(LOOKED_AT);
    let image_first = shape.len() == 5
        && deviation(&last.rows_f32(rows.clone())?) > 4.0 * deviation(&first.rows_f32(rows)?);
    let (noise, image, order) =
        if image_first { (last, first, "image") } else { (first, last, "noise") };
    let what = if shape.len() == 3 { "points" } else { "images" };
    let found = format!("{steps} times of {count} {what}, {order} first");
    let part = Part { noise, image: Rows::View(image), label: None, file: path.to_path_buf() };
    let mut parts = Parts::new(part, path, Some(vec![0, count]), found)?;
    parts.states = Some(States::ByTime { all, image_first }).filter(|states| states.count() > 0);
    Ok(Box::new(parts))
}
