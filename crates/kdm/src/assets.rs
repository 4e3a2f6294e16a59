//! What ships inside the program: small models and statistics, each with a card in `assets/` that
//! says how it was made.

use std::path::Path;

use kdm_data::TensorFile;

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

fn find(role: Role, name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.role == role && asset.name == name)
}

/// Whether a file of this name and role ships with the program.
pub fn is_built_in(role: Role, name: &str) -> bool {
    find(role, name).is_some()
}

/// Whether anything of this name ships with the program: then the name alone is no path.
pub fn ships(name: &str) -> bool {
    ASSETS.iter().any(|asset| asset.name == name)
}

/// The file that `source` names: one that ships with the program, by its name alone, or a path
/// (`./NAME` for a file called like one of those).
///
/// # Errors
/// When there is neither; the message lists what ships.
pub fn open(role: Role, source: &Path) -> Outcome<TensorFile> {
    let name = source.to_string_lossy();
    if let Some(asset) = find(role, &name) {
        return Ok(TensorFile::built_in(&format!("{name} (built in)"), asset.bytes)?);
    }
    if !source.exists() && source.extension().is_none() {
        let names: Vec<&str> =
            ASSETS.iter().filter(|asset| asset.role == role).map(|asset| asset.name).collect();
        return Err(Failure::Usage(format!(
            "no {} `{name}`: give a model file, or one that ships with kdm: {}",
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
}
