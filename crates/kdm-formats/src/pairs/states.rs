//! States between noise and image, in the layouts that hold all times.

use std::ops::Range;

use kdm_data::pairs::{STATE_TIMES, StateTime};
use kdm_data::view::View;
use kdm_data::{Error, Result};

/// The states of all pairs of a file, of each from noise to image.
pub enum States {
    /// An array [times, pairs, ...] with noise and image at its ends.
    ByTime {
        /// All of it.
        all: View,
        /// Whether the image comes first.
        image_first: bool,
    },
    /// One array, pairs first and then times; and when they are.
    ByPair(View, Vec<StateTime>),
}

impl States {
    /// The states of an array [pairs, times, ...] beside one of rows (tau, alpha, sigma).
    ///
    /// # Errors
    /// When they don't go together, or with noises of the shape `noise`.
    pub fn by_pair(states: View, times: &View, noise: &[usize]) -> Result<Self> {
        let shape = states.shape();
        let fits = shape.len() > 2 && shape[0] == noise[0] && shape[2..] == noise[1..];
        if !fits || times.shape() != [shape[1], 3] {
            let problem = format!(
                "are {shape:?} with {STATE_TIMES} {:?} beside noise of {noise:?}",
                times.shape()
            );
            let action = "give [pairs, times, ...], and a row (tau, alpha, sigma) for each time";
            return Err(Error::invalid(states.region().path(), "states", problem, action));
        }
        let row = |row: &[f64]| StateTime { tau: row[0], alpha: row[1], sigma: row[2] };
        let times = times.to_f64()?.chunks_exact(3).map(row).collect();
        Ok(Self::ByPair(states, times))
    }

    /// States of a pair.
    pub fn count(&self) -> usize {
        match self {
            Self::ByTime { all, .. } => all.rows().saturating_sub(2),
            Self::ByPair(view, _) => view.shape()[1],
        }
    }

    /// When they are, where that is known.
    pub fn times(&self) -> Option<Vec<StateTime>> {
        match self {
            Self::ByTime { .. } => None,
            Self::ByPair(_, times) => Some(times.clone()),
        }
    }

    /// The states of some pairs, pair by pair.
    ///
    /// # Errors
    /// When the file can't be read or is damaged.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let (all, image_first) = match self {
            Self::ByPair(view, _) => return view.rows_f32(rows),
            Self::ByTime { all, image_first } => (all, *image_first),
        };
        let (count, times) = (rows.len(), self.count());
        let place = |i: usize| if image_first { times - i } else { i + 1 };
        let read: Result<Vec<Vec<f32>>> =
            (0..times).map(|i| all.at(place(i))?.rows_f32(rows.clone())).collect();
        let read = read?;
        let width = read.first().map_or(0, |values| values.len() / count.max(1));
        let of = |pair: usize| {
            read.iter().flat_map(move |values| &values[pair * width..(pair + 1) * width])
        };
        Ok((0..count).flat_map(of).copied().collect())
    }
}
