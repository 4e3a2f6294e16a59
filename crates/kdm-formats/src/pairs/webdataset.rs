//! WebDataset archives, as FastGen keeps pairs: `.tar` files whose members `KEY.noise.pth`,
//! `KEY.latent.pth` and so on belong together by their key.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use kdm_data::pairs::PairSource;
use kdm_data::region::Region;
use kdm_data::tar::{self, Member, TarError};
use kdm_data::view::View;
use kdm_data::{Error, Result};
use kdm_observer::{Observer, Silent};

use super::names::{Chosen, Keys, choose};
use super::parts::{LabelRows, Part, PartSource, Parts, Rows};
use super::torch;

const ACTION: &str = "give .tar files with KEY.noise.pth and KEY.latent.pth (or .npy) of each \
                      pair, or name others with --noise-key and --image-key";

const COPY: &str = "copy or write the archive again, whole and uncompressed";

/// Where a member's bytes are.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u64,
    size: u64,
}

/// The members of a pair.
struct Item {
    archive: u32,
    noise: Place,
    image: Place,
    label: Option<Place>,
}

struct Archives {
    files: Vec<PathBuf>,
    items: Vec<Item>,
    /// Members' names after the key, such as `noise.pth`.
    chosen: Chosen,
    /// The archive that was read last.
    opened: RefCell<Option<(u32, Region)>>,
}

impl Archives {
    fn member(&self, archive: u32, place: Place, name: &str) -> Result<Region> {
        let mut opened = self.opened.borrow_mut();
        if opened.as_ref().is_none_or(|(at, _)| *at != archive) {
            *opened = Some((archive, Region::file(&self.files[archive as usize])?));
        }
        opened.as_ref().expect("opened above").1.part(name, place.start, place.size)
    }
}

impl PartSource for Archives {
    fn count(&self) -> usize {
        self.items.len()
    }

    fn open(&self, i: usize) -> Result<Part> {
        let (item, chosen) = (&self.items[i], &self.chosen);
        let member = |place, name: &str| self.member(item.archive, place, name);
        let noise = numbers(&member(item.noise, &chosen.noise)?)?.as_row();
        let region = member(item.image, &chosen.image)?;
        let image = match extension(&chosen.image) {
            "png" | "jpg" | "jpeg" => Rows::picture(&region)?,
            _ => Rows::View(numbers(&region)?.as_row()),
        };
        let label = match (&chosen.label, item.label) {
            (Some(name), Some(place)) => {
                let region = member(place, name)?;
                Some(match extension(name) {
                    "cls" | "txt" => LabelRows::Class(class(&region)?),
                    _ => LabelRows::one(&numbers(&region)?),
                })
            }
            _ => None,
        };
        let file = self.files[item.archive as usize].clone();
        Ok(Part { noise, image, label, file })
    }
}

fn extension(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The numbers of a `.npy` or of a `torch.save` file of one tensor.
fn numbers(region: &Region) -> Result<View> {
    if region.name().ends_with(".npy") {
        return View::npy(region.clone());
    }
    let entries = region.entries()?;
    let tensors = torch::tensors(region, &entries)?;
    let [(_, view)] = &tensors[..] else {
        let problem = format!("holds {} tensors where one is needed", tensors.len());
        return Err(region.invalid(problem, ACTION));
    };
    Ok(view.clone())
}

/// The class in a text.
fn class(region: &Region) -> Result<f64> {
    const MOST: u64 = 64;
    let text = if region.len() > MOST { Vec::new() } else { region.to_vec()? };
    let number = String::from_utf8_lossy(&text).trim().parse();
    number.map_err(|_| region.invalid("is no class number", kdm_data::labels::GIVE_LABELS))
}

/// A member's key, and its name after it: the first dot of the file's name parts them.
fn split(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], &name[file + dot + 1..]),
        None => (name, ""),
    }
}

/// Whether the region begins as a tar archive does.
pub fn is_tar(region: &Region) -> bool {
    let mut magic = [0; 5];
    region.read_at(257, &mut magic).is_ok() && &magic == b"ustar"
}

/// The pairs of one archive.
///
/// # Errors
/// As [`open`].
pub fn open_one(
    path: &Path,
    folder: &Path,
    name: String,
    keys: &Keys,
) -> Result<Box<dyn PairSource>> {
    read(path, folder, &[name], keys, &Silent)
}

/// The pairs of a folder's archives, one after the other.
///
/// # Errors
/// When an archive is damaged, or its members are no pairs; and when the observer stops it.
pub fn open(
    folder: &Path,
    names: &[String],
    keys: &Keys,
    observer: &dyn Observer,
) -> Result<Box<dyn PairSource>> {
    read(folder, folder, names, keys, observer)
}

fn read(
    path: &Path,
    folder: &Path,
    names: &[String],
    keys: &Keys,
    observer: &dyn Observer,
) -> Result<Box<dyn PairSource>> {
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let (mut items, mut chosen, mut others) = (Vec::new(), None, Vec::new());
    let mut progress = observer.begin("import: list members", "files");
    let total = files.len() as u64;
    for (archive, file) in files.iter().enumerate() {
        progress.advance(archive as u64, total, "").map_err(Error::stopped(
            format!("reading `{}`", path.display()),
            "nothing was written",
            "run the same command again: it begins anew",
        ))?;
        let region = Region::file(file)?;
        let mut group = Group::default();
        let mut finish = |group: &Group| -> Result<()> {
            if group.members.is_empty() {
                return Ok(());
            }
            if chosen.is_none() {
                let (found, rest) = group.choose(file, keys)?;
                (chosen, others) = (Some(found), rest);
            }
            let chosen = chosen.as_ref().expect("chosen above");
            items.push(group.item(file, archive as u32, chosen)?);
            Ok(())
        };
        let listed = tar::plain(region.reader(), region.len(), |member, _| {
            if !member.folder {
                if split(&member.name).0 != group.key {
                    finish(&std::mem::take(&mut group))?;
                }
                group.add(member);
            }
            Ok::<_, Damaged>(())
        });
        let end = listed.map_err(|error| match error {
            Damaged::Tar(error) => region.invalid(error.to_string(), COPY),
            Damaged::Pair(error) => error,
        })?;
        if end >= region.len() {
            return Err(region.invalid("is cut short, without an archive's end", COPY));
        }
        finish(&group)?;
    }
    progress.report(total, total, "");
    progress.finish("");
    let Some(chosen) = chosen else {
        return Err(Error::invalid(path, "archive", "has no members", ACTION));
    };
    let labels = chosen.label.as_ref().map_or(String::new(), |label| format!(", labels `{label}`"));
    let rest = if others.is_empty() {
        String::new()
    } else {
        format!("; left out: {}", others.join(", "))
    };
    let found = format!(
        "{} pairs of a WebDataset, `{}` as noise and `{}` as image{labels}{rest}",
        items.len(),
        chosen.noise,
        chosen.image
    );
    let archives = Archives { files, items, chosen, opened: RefCell::new(None) };
    Ok(Box::new(Parts::new(archives, path, None, found)?))
}

/// Why listing an archive ended.
#[derive(Debug, thiserror::Error)]
enum Damaged {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error(transparent)]
    Pair(#[from] Error),
}

/// The members of one key.
#[derive(Default)]
struct Group {
    key: String,
    /// Names after the key.
    members: Vec<(String, Place)>,
}

impl Group {
    fn add(&mut self, member: Member) {
        let (key, name) = split(&member.name);
        self.key = key.to_string();
        self.members.push((name.to_string(), Place { start: member.start, size: member.size }));
    }

    /// Which members are noise, image and label, and what is left out.
    fn choose(&self, file: &Path, keys: &Keys) -> Result<(Chosen, Vec<String>)> {
        let full: Vec<&str> = self.members.iter().map(|(name, _)| name.as_str()).collect();
        let short = |name: &str| name.rsplit_once('.').map_or(name, |(name, _)| name).to_string();
        let names: Vec<String> = full.iter().map(|name| short(name)).collect();
        let told = |key: &Option<String>| {
            key.as_deref().map(|key| match names.iter().any(|n| n == key) {
                true => key.to_string(),
                false => short(key),
            })
        };
        let keys =
            Keys { noise: told(&keys.noise), image: told(&keys.image), label: told(&keys.label) };
        let Some(found) = choose(file, &names, &keys)? else {
            let problem = format!("are {full:?}, none of which is named as noise or image");
            return Err(Error::invalid(file, "members", problem, ACTION));
        };
        let whole =
            |name: &str| full[names.iter().position(|n| n == name).unwrap_or(0)].to_string();
        let chosen = Chosen {
            noise: whole(&found.noise),
            image: whole(&found.image),
            label: found.label.as_deref().map(whole),
        };
        let used = [Some(&chosen.noise), Some(&chosen.image), chosen.label.as_ref()];
        let rest = full.iter().filter(|name| !used.iter().flatten().any(|u| u == *name));
        let rest = rest.map(|name| name.to_string()).collect();
        Ok((chosen, rest))
    }

    fn item(&self, file: &Path, archive: u32, chosen: &Chosen) -> Result<Item> {
        let place = |name: &str| {
            let found = self.members.iter().find(|(member, _)| member == name);
            found.map(|(_, place)| *place).ok_or_else(|| {
                let problem = format!("has no `{name}`, which others have");
                Error::invalid(file, format!("pair `{}`", self.key), problem, ACTION)
            })
        };
        let label = chosen.label.as_deref().map(place).transpose()?;
        Ok(Item { archive, noise: place(&chosen.noise)?, image: place(&chosen.image)?, label })
    }
}
