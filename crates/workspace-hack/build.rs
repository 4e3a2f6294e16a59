//! Without a build script Cargo would not count what it needs.

fn main() {}
