//! Buffers that are used over and over, so that no kernel asks the system for memory in the middle
//! of its work.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// The most buffers kept. Beyond it the oldest is freed.
const KEPT: usize = 64;
/// Numbers that are not worth saving.
const SMALL: usize = 1024;

static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of numbers left over from its last use. Goes back when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    len: usize,
}

/// A buffer of `len` numbers, of any value.
pub(crate) fn scratch(len: usize) -> Scratch {
    let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // The smallest that is large enough, and not so large that it would be wasted.
    let fits = |buffer: &Vec<f32>| buffer.len() >= len && buffer.len() <= 2 * len + SMALL;
    let best = (0..free.len()).filter(|i| fits(&free[*i])).min_by_key(|i| free[*i].len());
    let found = best.map(|i| free.swap_remove(i));
    drop(free);
    Scratch { values: found.unwrap_or_else(|| vec![0.0; len]), len }
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
        free.push(std::mem::take(&mut self.values));
        if free.len() > KEPT {
            free.remove(0);
        }
    }
}
