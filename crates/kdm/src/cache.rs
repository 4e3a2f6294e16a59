//! The folder on this machine's disk for what can be computed or fetched again.

use std::path::PathBuf;

/// The environment variable that names the folder.
pub const VARIABLE: &str = "KDM_CACHE";

/// The folder: [`VARIABLE`], or `kdm` in the user's cache folder.
pub fn folder() -> PathBuf {
    let named =
        |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    named(VARIABLE)
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("kdm")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/kdm")))
        .unwrap_or_else(|| std::env::temp_dir().join("kdm"))
}
