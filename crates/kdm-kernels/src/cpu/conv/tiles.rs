//! Where the tiles of Winograd's transforms lie in images.

use crate::cpu::nhwc::Frame;
use crate::cpu::winograd::{Place, TILE};

/// Tiles that a task works on at a time.
const TASK_TILES: usize = 64;

/// The tiles of images, row by row of tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    frame: Frame,
    /// Rows and columns of tiles in an image.
    pub rows: usize,
    pub columns: usize,
}

impl Tiles {
    pub fn new(frame: Frame) -> Self {
        Self { frame, rows: frame.height.div_ceil(TILE), columns: frame.width.div_ceil(TILE) }
    }

    /// Rows of tiles a task.
    pub fn task_rows(self, count: usize) -> usize {
        let share = (count * self.rows).div_ceil(rayon::current_num_threads());
        TASK_TILES.div_ceil(self.columns).min(share).max(1)
    }

    /// First pixel of a row of tiles, over all images.
    fn first_pixel(self, row: usize) -> usize {
        (row / self.rows * self.frame.height + row % self.rows * TILE) * self.frame.width
    }

    /// Maps in runs of `task` rows of tiles: the rows, the first pixel, the part.
    pub fn split(
        self,
        task: usize,
        width: usize,
        mut out: &mut [f32],
    ) -> Vec<(std::ops::Range<usize>, usize, &mut [f32])> {
        let count = out.len() / (self.frame.height * self.frame.width * width);
        let total = count * self.rows;
        let mut parts = Vec::with_capacity(total.div_ceil(task));
        for row in (0..total).step_by(task) {
            let rows = row..(row + task).min(total);
            let first = self.first_pixel(rows.start);
            let (part, rest) = out.split_at_mut((self.first_pixel(rows.end) - first) * width);
            parts.push((rows, first, part));
            out = rest;
        }
        parts
    }

    /// Where the tiles' pixels start in the frames.
    pub fn starts(self, rows: std::ops::Range<usize>, depth: usize) -> Vec<usize> {
        let at = |row: usize, column: usize| {
            let (image, y) = (row / self.rows, row % self.rows);
            (image * self.frame.pixels() + (y * self.frame.row() + column) * TILE) * depth
        };
        rows.flat_map(|row| (0..self.columns).map(move |column| at(row, column))).collect()
    }

    /// Where the tiles' outputs lie in maps that begin with pixel `first`.
    pub fn places(self, rows: std::ops::Range<usize>, width: usize, first: usize) -> Vec<Place> {
        let at = |row: usize, column: usize| {
            let (y, x) = (row % self.rows * TILE, column * TILE);
            Place {
                start: (self.first_pixel(row) + x - first) * width,
                rows: TILE.min(self.frame.height - y),
                columns: TILE.min(self.frame.width - x),
            }
        };
        rows.flat_map(|row| (0..self.columns).map(move |column| at(row, column))).collect()
    }
}
