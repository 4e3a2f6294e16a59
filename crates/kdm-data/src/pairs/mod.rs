//! The pair store: a folder of noise-image pairs, drawn once from a teacher and trained on ever
//! after.
//!
//! A store is `manifest.json` beside `shard-00000.safetensors`, `shard-00001.safetensors`, ... A
//! shard holds images, and for each pair either the seed its noise is drawn from again when read
//! (see [`kdm_random`]) or, for imported pairs, the noise itself; and the states between noise and
//! image where these are kept. The manifest says how
//! the pairs came to be; once all shards are there it lists their checksums. See `docs/formats.md`.

mod at_hand;
mod claim;
mod clipped;
mod draw;
mod export;
mod filter;
mod import;
mod manifest;
mod merge;
mod plausible;
mod room;
mod shard;
mod states;
mod store;
mod values;
mod write;
mod writer;

pub use draw::{Draw, Drawn, Share, WatchedDraw};
pub use export::{STATE_TIMES, export};
pub use filter::{OutlierScore, Predicate, Unwanted, filter};
pub use import::{ImportOptions, PairSource, import};
pub use manifest::{
    ImageType, MANIFEST, MAX_NOISE_STD, MIN_NOISE_STD, Manifest, NoiseSource, STORE_VERSION,
    Sampling, ShardRecord, TeacherStamp, label_of_seed, noise_of_seed,
};
pub use merge::merge;
pub use states::{MOST_STATES, StateTime, scaled_states};
pub use store::{PairStore, shards_there, verify};
pub use values::{Axes, Extremes, UnclearAxes, UnclearRange, ValueRange};
pub use write::{Worker, generate, generate_watched};
pub use writer::PairWriter;
