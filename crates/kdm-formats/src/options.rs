//! What an import may be told.

use kdm_teacher::Preconditioning;
use serde_json::Value;

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
    /// The preconditioning of a plain state dict, which can't say it; none for the usual one of its
    /// kind.
    pub preconditioning: Option<Preconditioning>,
    /// What the weights of a network can't tell of its architecture, as keys of its configuration
    /// and values.
    pub settings: Vec<(String, Value)>,
    /// Which of several networks in a file is read: the keys that lead to it, joined by dots, or
    /// one of them. The likeliest one without it.
    pub key: Option<String>,
    /// The file of LPIPS's heads, to go with VGG16's weights.
    pub heads: Option<std::path::PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let (format, settings) = (Format::Auto, Vec::new());
        Self { format, preconditioning: None, settings, key: None, heads: None }
    }
}
