//! Which network a set of names is of: each kind has a name that every file of it has, and what
//! stands before that name is the file's wrapping.

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An official KDM student.
    Student,
    /// A U-Net of NVlabs/edm.
    Nvlabs,
    /// OpenAI's U-Net.
    OpenAi,
    /// A UNet2DModel of diffusers.
    Diffusers,
    /// A network that this program doesn't know, by the name that people call it.
    Other(&'static str),
    /// The discriminator of the official KDM code.
    Discriminator,
    /// pytorch-fid's Inception.
    Inception,
    /// VGG16.
    Vgg,
    /// The heads of LPIPS.
    Heads,
    /// The autoencoder of a latent diffusion model.
    Vae,
}

impl Kind {
    /// Files often hold several networks: the lower is what they are about.
    pub fn priority(self) -> u8 {
        match self {
            Self::Student | Self::Nvlabs | Self::OpenAi | Self::Diffusers => 0,
            Self::Other(_) => 1,
            Self::Discriminator | Self::Inception => 2,
            Self::Vgg | Self::Heads | Self::Vae => 3,
        }
    }
}

/// Names that all files of a kind have.
const ANCHORS: [(Kind, &str); 17] = [
    (Kind::Nvlabs, "map_layer0.weight"),
    (Kind::OpenAi, "input_blocks.0.0.weight"),
    (Kind::Diffusers, "time_embedding.linear_1.weight"),
    (Kind::Other("EDM2's magnitude-preserving U-Net"), "emb_fourier.freqs"),
    (Kind::Other("a diffusion transformer (DiT, SiT)"), "x_embedder.proj.weight"),
    (Kind::Other("diffusers' transformer (DiT)"), "pos_embed.proj.weight"),
    (Kind::Other("a U-ViT"), "patch_embed.proj.weight"),
    (Kind::Other("the U-Net of ermongroup/ddim"), "temb.dense.0.weight"),
    (Kind::Other("a network of yang-song/score_sde_pytorch"), "all_modules.0.weight"),
    (Kind::Other("a network of yang-song/score_sde_pytorch"), "all_modules.0.W"),
    (Kind::Other("the U-Net of lucidrains/denoising-diffusion-pytorch"), "time_mlp.1.weight"),
    (Kind::Discriminator, "model.8.weight"),
    (Kind::Inception, "Mixed_7c.branch_pool.conv.weight"),
    (Kind::Vgg, "features.28.weight"),
    (Kind::Heads, "lin0.model.1.weight"),
    (Kind::Heads, "lins.0.model.1.weight"),
    (Kind::Vae, "post_quant_conv.weight"),
];

/// Part of every student's names, with the dot that ends it.
const STUDENT: &str = "x0_observables_encoder.";

/// The network that a tensor of this name and shape shows, and what stands before its names.
pub(crate) fn shown<'a>(name: &'a str, shape: &[usize]) -> Option<(Kind, &'a str)> {
    // Only at the start of a part of the name.
    let starts = |at: usize| at == 0 || name.as_bytes()[at - 1] == b'.';
    if let Some(at) = name.find(STUDENT).filter(|at| starts(*at)) {
        return Some((Kind::Student, &name[..at]));
    }
    ANCHORS.iter().find_map(|(kind, anchor)| {
        let prefix = name.strip_suffix(anchor).filter(|prefix| starts(prefix.len()))?;
        let fits = match kind {
            Kind::Discriminator => *shape == [1, 256, 4, 4],
            Kind::Vgg => *shape == [512, 512, 3, 3],
            _ => true,
        };
        fits.then_some((*kind, prefix))
    })
}

/// What a place in a file says about the weights that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// A moving average.
    Average,
    /// Nothing in particular.
    Plain,
    /// Another network of the same training, or an older state.
    Beside,
    /// The optimizer's.
    Optimizer,
}

/// The standing that a place's name tells of, such as `ema_model.module` or `G_ema`.
pub(crate) fn standing(place: &str) -> Standing {
    let words = place.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase);
    let one = |word: &str| match word {
        "shadow" | "average" | "averaged" | "avg" | "swa" | "polyak" => Standing::Average,
        "netema" | "unetema" | "modelema" | "gema" => Standing::Average,
        _ if word.starts_with("ema") => Standing::Average,
        "optimizer" | "optimizers" | "optim" | "opt" | "exp" | "adam" | "grad" | "grads"
        | "moment" | "momentum" => Standing::Optimizer,
        "fake" | "disc" | "discriminator" | "critic" | "teacher" | "guidance" | "online"
        | "old" | "prev" | "collected" | "backup" => Standing::Beside,
        _ => Standing::Plain,
    };
    // What is no network's weights stays that wherever it is kept; else an average is one.
    let all: Vec<Standing> = words.map(|word| one(&word)).collect();
    let is = |standing| all.contains(&standing);
    match () {
        () if is(Standing::Optimizer) => Standing::Optimizer,
        () if is(Standing::Beside) => Standing::Beside,
        () if is(Standing::Average) => Standing::Average,
        () => Standing::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_their_network_and_wrapping() {
        let shown = |name| shown(name, &[4, 4]);
        assert_eq!(shown("map_layer0.weight"), Some((Kind::Nvlabs, "")));
        assert_eq!(shown("module.model.map_layer0.weight"), Some((Kind::Nvlabs, "module.model.")));
        assert_eq!(shown("other_map_layer0.weight"), None);
        let inside = "net.x0_observables_encoder.main_module.map_layer0.weight";
        assert_eq!(shown(inside), Some((Kind::Student, "net.")));
        assert_eq!(shown("model.8.weight"), None);
        assert_eq!(
            super::shown("model.8.weight", &[1, 256, 4, 4]),
            Some((Kind::Discriminator, ""))
        );
    }

    #[test]
    fn averages_are_known_by_their_place() {
        for place in [
            "ema",
            "ema_model",
            "model_ema",
            "params_ema",
            "G_ema",
            "ema.shadow",
            "state_dict_ema",
            "ema_0.9999",
            "emas.0",
            "swa_model",
            "averaged_model",
            "netEMA",
        ] {
            assert_eq!(standing(place), Standing::Average, "{place}");
        }
        for place in ["model", "state_dict", "net", "schema", "generator", "remat", ""] {
            assert_eq!(standing(place), Standing::Plain, "{place}");
        }
        assert_eq!(standing("fake_score"), Standing::Beside);
        assert_eq!(standing("ema.collected_params"), Standing::Beside);
        assert_eq!(standing("optimizer.ema"), Standing::Optimizer);
    }
}
