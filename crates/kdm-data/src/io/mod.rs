//! Files: written whole or not at all, hashed, and read as arrays, named tensors, or models.

pub mod array;
pub mod atomic;
pub mod hash;
pub mod lock;
pub mod machine;
pub mod model;
pub mod output;
pub mod region;
pub mod regular;
mod seal;
pub mod tar;
pub mod tensors;
pub mod view;
