//! Buffers that are used over and over, so that no kernel asks the system for memory in the middle of its work.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// The most buffers kept. Beyond it they are freed.
const KEPT: usize = 64;

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of numbers left over from its last use. Goes back when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    len: usize,
}

/// A buffer of `len` numbers, of any value.
pub(crate) fn scratch(len: usize) -> Scratch {
    let best = {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The smallest that is large enough, else the largest.
        let fits = (0..free.len()).filter(|i| free[*i].len() >= len).min_by_key(|i| free[*i].len());
        let best = fits.or_else(|| (0..free.len()).max_by_key(|i| free[*i].len()));
        best.map(|i| free.swap_remove(i))
    };
    let mut values = best.unwrap_or_default();
    if values.len() < len {
        values = vec![0.0; len];
    }
    Scratch { values, len }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.values));
        }
    }
}
