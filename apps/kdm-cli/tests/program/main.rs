//! Whole-program tests: what a person types, what they see, and what is left on the disk. One
//! module a topic, and one program in all, which is linked once.

mod analysis;
mod assets;
mod common;
mod compare;
mod distill;
mod evaluate;
mod exhausting;
mod features;
mod flags;
mod foreign_pairs;
mod formats;
mod generator;
mod hostile_requests;
mod images;
mod kills;
mod kinds;
mod levels;
mod onnx;
mod own;
mod pairs;
mod remote;
mod run;
mod safety;
mod sample;
mod serve;
mod statistics;
mod teacher;
mod usage;
mod workers;
