//! `cargo xtask`: everything that builds, tests, measures and demonstrates Flect KV.

fn main() {}
