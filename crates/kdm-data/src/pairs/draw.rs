//! What draws the pairs of a store: a function from noise to images.

use kdm_observer::Stopped;

use crate::Labels;

/// Turns noise x_T (already scaled, rows of [`dim`](super::Manifest::dim) values) and labels into
/// images, row by row.
pub type Draw<'a> = dyn FnMut(&[f32], &Labels) -> Vec<f32> + 'a;

/// What a teacher makes of noise, row by row.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// x_0.
    pub images: Vec<f32>,
    /// States between, as many a row as the manifest has times; empty where it has none.
    pub states: Vec<f32>,
}

impl From<Vec<f32>> for Drawn {
    fn from(images: Vec<f32>) -> Self {
        Self { images, ..Self::default() }
    }
}

/// [`Draw`] that may give states too, tells which share of its rows is done, and is told whether to
/// go on.
pub type WatchedDraw<'a> =
    dyn FnMut(&[f32], &Labels, &mut Share) -> std::result::Result<Drawn, Stopped> + 'a;

/// Takes the share of a batch that is done, from 0 to 1.
pub type Share<'a> = dyn FnMut(f64) -> std::result::Result<(), Stopped> + 'a;
