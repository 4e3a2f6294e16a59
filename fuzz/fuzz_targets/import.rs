//! Any bytes at all, read as a file that PyTorch wrote: a model or a message, never a panic, and no
//! more memory than a few times the file.

#![no_main]

use std::path::Path;

use burn::tensor::Device;
use kdm_formats::{Options, import_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (path, options) = (Path::new("fuzzed.pt"), Options::default());
    let _ = import_bytes(path, bytes.to_vec(), &options, &Device::flex());
});
