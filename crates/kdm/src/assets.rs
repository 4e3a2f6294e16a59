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
