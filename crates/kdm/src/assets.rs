//! What ships inside the program: small models and statistics, each with a card in `assets/` that
//! says how it was made.

use std::path::Path;

use kdm_data::TensorFile;
use kdm_teacher::distributions::DistributionConfig;

use crate::nearest::did_you_mean;
use crate::usable::{Wanted, instead};
use crate::{Failure, Outcome};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A diffusion model.
    Teacher,
    /// A one-step generator.
    Student,
    /// A feature network.
    Features,
    /// Statistics of a data set's features.
    Statistics,
}

impl Role {
    /// As messages call it.
    fn name(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Features => "feature network",
            Self::Statistics => "reference statistics",
        }
    }
}

impl Role {
    /// What tells files of the same name apart where any kind of model may be named, such as
    /// `fashion-mnist-student`.
    fn suffix(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Student => "student",
            Self::Features => "features",
            Self::Statistics => "statistics",
        }
    }
}

/// One file of the program.
struct Asset {
    role: Role,
    name: &'static str,
    bytes: &'static [u8],
}

static ASSETS: [Asset; 5] = [
    Asset {
        role: Role::Teacher,
        name: "fashion-mnist",
        bytes: include_bytes!("../../../assets/fashion-mnist-teacher.safetensors"),
    },
    Asset {
        role: Role::Student,
        name: "fashion-mnist",
        bytes: include_bytes!("../../../assets/fashion-mnist-student.safetensors"),
    },
    Asset {
        role: Role::Features,
        name: "fashion-mnist",
        bytes: include_bytes!("../../../assets/fashion-mnist-features.safetensors"),
    },
    // What losses see: another training than what measures.
    Asset {
        role: Role::Features,
        name: "fashion-mnist-loss",
        bytes: include_bytes!("../../../assets/fashion-mnist-loss-features.safetensors"),
    },
    Asset {
        role: Role::Statistics,
        name: "fashion-mnist",
        bytes: include_bytes!("../../../assets/fashion-mnist-statistics.safetensors"),
    },
];

impl Asset {
    /// Its name among files of all roles.
    fn full_name(&self) -> String {
        format!("{}-{}", self.name, self.role.suffix())
    }

    fn open(&self, name: &str) -> Outcome<TensorFile> {
        Ok(TensorFile::built_in(&format!("{name} (built in)"), self.bytes)?)
    }
}

fn find(role: Role, name: &str) -> Option<&'static Asset> {
    let is = |asset: &&Asset| asset.name == name || asset.full_name() == name;
    ASSETS.iter().filter(|asset| asset.role == role).find(is)
}

/// Whether a name is one of a model that ships, and no path; see [`open_any`].
pub fn is_any(source: &Path) -> bool {
    let name = source.to_string_lossy();
    !source.exists() && ASSETS.iter().any(|asset| asset.name == name || asset.full_name() == name)
}

/// The file that `source` names, of whatever role: a path, or one that ships by its name and role,
/// such as `fashion-mnist-student`.
///
/// # Errors
/// When there is none, or more than one of that name; the message lists them.
pub fn open_any(source: &Path) -> Outcome<TensorFile> {
    of_any_role(source).map_err(|failure| instead(source, Wanted::Model, failure))
}

fn of_any_role(source: &Path) -> Outcome<TensorFile> {
    let name = source.to_string_lossy();
    if source.exists() || source.extension().is_some() {
        return Ok(TensorFile::open(source)?);
    }
    if let Some(asset) = ASSETS.iter().find(|asset| asset.full_name() == name) {
        return asset.open(&name);
    }
    let of_name: Vec<&Asset> = ASSETS.iter().filter(|asset| asset.name == name).collect();
    let told = |assets: &[&Asset]| {
        assets.iter().map(|asset| asset.full_name()).collect::<Vec<String>>().join(", ")
    };
    match &of_name[..] {
        [asset] => asset.open(&name),
        [] => {
            let all = told(&ASSETS.iter().collect::<Vec<&Asset>>());
            let meant = did_you_mean(&name, all.split(", "));
            Err(Failure::Usage(format!(
                "no model `{name}`: give a model file, or one that ships with kdm: {all}{meant}"
            )))
        }
        several => Err(Failure::Usage(format!(
            "`{name}` is the name of several models that ship: give one of {}",
            told(several)
        ))),
    }
}

/// Whether a file of this name and role ships with the program.
pub fn is_built_in(role: Role, name: &str) -> bool {
    find(role, name).is_some()
}

/// Whether anything of this name ships with the program: then the name alone is no path.
pub fn ships(name: &str) -> bool {
    ASSETS.iter().any(|asset| asset.name == name || asset.full_name() == name)
}

/// The file that `source` names: one that ships with the program, by its name alone, or a path
/// (`./NAME` for a file called like one of those).
///
/// # Errors
/// When there is neither; the message lists what ships.
pub fn open(role: Role, source: &Path) -> Outcome<TensorFile> {
    of_role(role, source).map_err(|failure| instead(source, Wanted::Model, failure))
}

fn of_role(role: Role, source: &Path) -> Outcome<TensorFile> {
    let name = source.to_string_lossy();
    if let Some(asset) = find(role, &name) {
        return asset.open(&name);
    }
    if !source.exists() && source.extension().is_none() {
        let names: Vec<&str> =
            ASSETS.iter().filter(|asset| asset.role == role).map(|asset| asset.name).collect();
        let meant = did_you_mean(&name, names.iter().copied());
        return Err(Failure::Usage(format!(
            "no {} `{name}`: give a model file, or one that ships with kdm: {}{meant}",
            role.name(),
            names.join(", ")
        )));
    }
    if source.is_dir() {
        let problem = "this is a folder, and a model file is needed";
        let action = "give the file in it, such as student.safetensors or teacher.safetensors";
        return Err(kdm_data::Error::invalid(source, "file", problem, action).into());
    }
    Ok(TensorFile::open(source)?)
}

/// Those of `inputs` that are paths, and no names of what ships or of what is in closed form.
pub fn paths<'a>(inputs: &[Option<&'a Path>]) -> Vec<&'a Path> {
    let named = |path: &Path| {
        let name = path.to_string_lossy();
        ships(&name) || name == "shapes" || DistributionConfig::by_name(&name).is_some()
    };
    inputs.iter().flatten().copied().filter(|path| !named(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that ship have no checksum of their own: these are the bytes that were made.
    #[test]
    fn what_ships_is_what_was_made() {
        let found: Vec<String> =
            ASSETS.iter().map(|asset| kdm_data::hash::sha256(asset.bytes)).collect();
        assert_eq!(
            found,
            [
                "377cccdcef35122c6fa6d8e53dfd6e41bd7dfac7c46c4efd953e6cc8ae898389",
                "e7a321779520a9914d11f24c2b77c2c70bc1dfbd868202fe942e7271d2cf7fe4",
                "1427d78953c375d5da94e64fbeee19a45becc0330f80468a7ea056a5a0438446",
                "f1222b42aa9e65ae1b035c7fab7b45687d8331e92cc7284b7383bdf63a2088fa",
                "3fd12b0eb01a96aee72a6258d892a533a7784f8e03ec8fb3719657e105a19a1c",
            ]
        );
    }

    /// Where any model may be named, a name says which; where one kind is needed, the name alone
    /// does.
    #[test]
    fn what_ships_is_known_by_name() {
        let kind = |name: &str| {
            let file = open_any(Path::new(name)).unwrap();
            file.metadata()["kind"].as_str().unwrap().to_string()
        };
        assert_eq!(kind("fashion-mnist-student"), "student");
        assert_eq!(kind("fashion-mnist-statistics"), "statistics");
        assert_eq!(kind("fashion-mnist-loss"), "classifier");
        let message = open_any(Path::new("fashion-mnist")).unwrap_err().to_string();
        assert!(message.contains("fashion-mnist-teacher, fashion-mnist-student"), "{message}");
        let message = open(Role::Student, Path::new("fashon-mnst")).unwrap_err().to_string();
        assert!(message.contains("did you mean `fashion-mnist`?"), "{message}");
        let message = open_any(Path::new("nothing")).unwrap_err().to_string();
        assert!(message.contains("no model `nothing`"), "{message}");
        assert!(open(Role::Student, Path::new("fashion-mnist-student")).is_ok());
        assert!(open(Role::Student, Path::new("fashion-mnist-teacher")).is_err());
        assert!(is_any(Path::new("fashion-mnist")) && !is_any(Path::new("nothing")));
    }

    #[test]
    fn names_of_what_ships_are_no_paths() {
        let inputs = ["fashion-mnist", "shapes", "mixture", "./shapes"].map(Path::new).map(Some);
        assert_eq!(paths(&inputs), [Path::new("./shapes")]);
    }
}
