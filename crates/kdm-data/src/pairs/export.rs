//! A store's pairs in one file for other programs.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::path::Path;

use kdm_observer::Observer;

use super::store::PairStore;
use crate::array::{Kind, NpzWriter};
use crate::{Error, Result, atomic};

/// The array of the states' times, rows of tau, alpha and sigma.
pub const STATE_TIMES: &str = "state_times";
/// Values written at a time, about.
const VALUES: usize = 1 << 22;

/// Writes all pairs of a store (opened whole) as one `.npz`, whole or not at all: arrays `noise`
/// and `image` (f32), of a conditional one `label` (i64), and of one with states `states` (f32) and
/// [`STATE_TIMES`] (f64); and the scalars `noise_std` and, of
/// a conditional one, `label_dim`, which an import takes up again. Memory use doesn't grow with
/// the number of pairs.
///
/// # Errors
/// When the file can't be written, or the observer stops it.
pub fn export(store: &PairStore, out: &Path, observer: &dyn Observer) -> Result<()> {
    let (manifest, count) = (store.manifest(), store.len());
    let at_once = (VALUES / manifest.dim()).clamp(1, 8192);
    let shape = [&[count], manifest.shape.as_slice()].concat();
    let states = &manifest.states;
    let mut passes = vec![Part::Noise, Part::Image];
    passes.extend((manifest.label_dim > 0).then_some(Part::Label));
    passes.extend((!states.is_empty()).then_some(Part::States));
    let (stopped, total) = (Cell::new(false), (passes.len() * count) as u64);
    let mut progress = observer.begin("export", "rows");
    let written = atomic::write_with(out, |file| {
        let mut npz = NpzWriter::new(file);
        for (pass, part) in passes.iter().enumerate() {
            match part {
                Part::Noise => npz.begin("noise", Kind::F32, &shape)?,
                Part::Image => npz.begin("image", Kind::F32, &shape)?,
                Part::Label => npz.begin("label", Kind::I64, &[count])?,
                Part::States => {
                    let shape = [&[count, states.len()], manifest.shape.as_slice()].concat();
                    npz.begin("states", Kind::F32, &shape)?;
                }
            }
            let at_once =
                if *part == Part::States { at_once.div_ceil(states.len()) } else { at_once };
            for start in (0..count).step_by(at_once) {
                if progress.advance((pass * count + start) as u64, total, "").is_err() {
                    stopped.set(true);
                    return Err(io::ErrorKind::Interrupted.into());
                }
                part.write(&mut npz, store, rows(start, at_once, count))?;
            }
        }
        npz.begin("noise_std", Kind::F64, &[])?;
        npz.f64(&[manifest.noise_std])?;
        if !states.is_empty() {
            npz.begin(STATE_TIMES, Kind::F64, &[states.len(), 3])?;
            let values: Vec<f64> = states.iter().flat_map(|t| [t.tau, t.alpha, t.sigma]).collect();
            npz.f64(&values)?;
        }
        if manifest.label_dim > 0 {
            npz.begin("label_dim", Kind::I64, &[])?;
            npz.i64(&[manifest.label_dim as i64])?;
        }
        npz.finish()
    });
    if stopped.get() {
        let work = format!("exporting `{}`", store.folder().display());
        let action = "run the same command again: it begins anew";
        return Err(Error::stopped(work, "nothing was written", action)(kdm_observer::Stopped));
    }
    written?;
    progress.report(total, total, "");
    progress.finish("written");
    Ok(())
}

fn rows(start: usize, at_once: usize, count: usize) -> Range<usize> {
    start..(start + at_once).min(count)
}

/// What is written one after the other.
#[derive(PartialEq)]
enum Part {
    Noise,
    Image,
    Label,
    States,
}

impl Part {
    fn write<W: io::Write>(
        &self,
        npz: &mut NpzWriter<W>,
        store: &PairStore,
        rows: Range<usize>,
    ) -> io::Result<()> {
        let pairs = || store.range(rows.clone());
        match self {
            Self::Noise => npz.f32(&pairs().noise),
            Self::Image => npz.f32(&pairs().images),
            Self::States => npz.f32(&store.batch_with_states(&rows.collect::<Vec<_>>()).states),
            Self::Label => {
                npz.i64(&pairs().labels.classes().into_iter().map(i64::from).collect::<Vec<_>>())
            }
        }
    }
}
