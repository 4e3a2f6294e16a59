//! Which arrays of a file are noise, images and labels: as told, or guessed from names where that
//! is clear.

use std::path::Path;

use kdm_data::{Error, Result};

/// Names of arrays that a person gives.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The noise.
    pub noise: Option<String>,
    /// The images.
    pub image: Option<String>,
    /// The labels.
    pub label: Option<String>,
}

/// The arrays that were chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The noise.
    pub noise: String,
    /// The images.
    pub image: String,
    /// The labels, if there are any.
    pub label: Option<String>,
}

/// What people call noise: what is left out first. `latent` comes last, since where noise has
/// another name beside it, latents are what the noise becomes.
const NOISE: [&str; 15] = [
    "noise",
    "noises",
    "x_t",
    "xt",
    "x_1",
    "x1",
    "eps",
    "epsilon",
    "z",
    "zs",
    "z_t",
    "initial_noise",
    "latents_t",
    "latents",
    "latent",
];
/// What people call images.
const IMAGE: [&str; 18] = [
    "image", "images", "img", "imgs", "x_0", "x0", "sample", "samples", "data", "target",
    "targets", "output", "outputs", "clean", "x", "png", "latent", "latents",
];
/// What people call labels.
const LABEL: [&str; 10] = [
    "label",
    "labels",
    "class",
    "classes",
    "class_idx",
    "cls",
    "y",
    "target_class",
    "class_label",
    "class_labels",
];

/// Chooses among `names`, which are those of numeric arrays. `None` where noise and images have no
/// names that tell (`arr_0` and `arr_1`, or a list).
///
/// # Errors
/// When an array is named that isn't there, or names leave it open.
pub fn choose(path: &Path, names: &[String], keys: &Keys) -> Result<Option<Chosen>> {
    let told = |flag: &str, key: &Option<String>| -> Result<Option<String>> {
        match key {
            Some(key) if !names.contains(key) => {
                let problem = format!("is not among the arrays {names:?}");
                Err(Error::invalid(path, format!("{flag} {key}"), problem, "name one of these"))
            }
            key => Ok(key.clone()),
        }
    };
    let noise = told("--noise-key", &keys.noise)?;
    let image = told("--image-key", &keys.image)?;
    let label = told("--label-key", &keys.label)?;
    let free = |name: &&String, taken: &[&Option<String>]| {
        !taken.iter().any(|other| other.as_ref() == Some(*name))
    };
    let guess = |list: &[&str], taken: &[&Option<String>], flag: &str| -> Result<Option<String>> {
        let rank = |name: &String| {
            let last = name.rsplit('.').next().unwrap_or(name).to_lowercase();
            list.iter().position(|known| *known == last)
        };
        let mut found: Vec<(usize, &String)> = names
            .iter()
            .filter(|name| free(name, taken))
            .filter_map(|name| Some((rank(name)?, name)))
            .collect();
        found.sort();
        match found[..] {
            [] => Ok(None),
            // The plainest name is clear beside others; else one alone is.
            [(0 | 1, name), ..] | [(_, name)] => Ok(Some(name.clone())),
            [(first, name), (second, _), ..] if second > first && is_latent(found[1].1) => {
                Ok(Some(name.clone()))
            }
            _ => {
                let names: Vec<&String> = found.into_iter().map(|(_, name)| name).collect();
                let problem = format!("may be any of {names:?}");
                Err(Error::invalid(path, "arrays", problem, format!("say which with {flag}")))
            }
        }
    };
    let noise = match noise {
        Some(noise) => Some(noise),
        None => guess(&NOISE, &[&image, &label], "--noise-key")?,
    };
    let image = match image {
        Some(image) => Some(image),
        None => guess(&IMAGE, &[&noise, &label], "--image-key")?,
    };
    let label = match label {
        Some(label) => Some(label),
        None => guess(&LABEL, &[&noise, &image], "--label-key")?,
    };
    match (noise, image) {
        (Some(noise), Some(image)) if noise == image => {
            let action = "name two arrays with --noise-key and --image-key";
            Err(Error::invalid(path, "arrays", format!("`{noise}` can't be both"), action))
        }
        (Some(noise), Some(image)) => Ok(Some(Chosen { noise, image, label })),
        (None, None) => Ok(None),
        (noise, image) => {
            let (found, missing, flag) = match (&noise, &image) {
                (Some(noise), _) => (noise, "images", "--image-key"),
                (_, image) => (image.as_ref().expect("one is there"), "noise", "--noise-key"),
            };
            let problem =
                format!("are {names:?}; beside `{found}` none has a name that says {missing}");
            Err(Error::invalid(path, "arrays", problem, format!("say which with {flag} NAME")))
        }
    }
}

fn is_latent(name: &str) -> bool {
    name.rsplit('.').next().unwrap_or(name).to_lowercase().starts_with("latent")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], keys: &Keys) -> Option<[String; 3]> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let chosen = choose("f".as_ref(), &names, keys).unwrap()?;
        Some([chosen.noise, chosen.image, chosen.label.unwrap_or_default()])
    }

    #[test]
    fn names_are_guessed_where_they_are_clear() {
        let none = Keys::default();
        for (names, wanted) in [
            (&["noise", "image", "label"][..], ["noise", "image", "label"]),
            (&["labels", "Images", "Noises"], ["Noises", "Images", "labels"]),
            (&["x0", "xT"], ["xT", "x0", ""]),
            (&["samples", "noise", "labels"], ["noise", "samples", "labels"]),
            // FastGen's, and GET's.
            (&["latent", "noise", "txt_emb"], ["noise", "latent", ""]),
            (&["image", "latent"], ["latent", "image", ""]),
            (&["data.noise", "data.image"], ["data.noise", "data.image", ""]),
            (&["z", "x", "y"], ["z", "x", "y"]),
        ] {
            assert_eq!(chosen(names, &none), Some(wanted.map(String::from)), "{names:?}");
        }
        assert_eq!(chosen(&["arr_0", "arr_1"], &none), None);
        let keys = Keys { noise: Some("a".into()), image: Some("b".into()), label: None };
        assert_eq!(chosen(&["a", "b", "noise"], &keys).unwrap()[..2], ["a", "b"]);
    }

    #[test]
    fn doubt_ends_in_the_flag_to_give() {
        let refused = |names: &[&str], keys: Keys| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            choose("f".as_ref(), &names, &keys).unwrap_err().to_string()
        };
        let none = Keys::default();
        assert!(refused(&["noise", "a"], none.clone()).contains("--image-key"));
        assert!(refused(&["image", "a"], none.clone()).contains("--noise-key"));
        assert!(refused(&["noise", "x0", "samples"], none).contains("--image-key"));
        let keys = Keys { label: Some("y".into()), ..Keys::default() };
        assert!(refused(&["noise", "image"], keys).contains("--label-key y"));
    }
}
