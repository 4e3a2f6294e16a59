//! Files: written whole or not at all, hashed, and read as arrays, named tensors, or models.

pub mod array;
pub mod atomic;
pub mod hash;
pub mod model;
pub mod region;
pub mod regular;
pub mod tensors;
pub mod view;
