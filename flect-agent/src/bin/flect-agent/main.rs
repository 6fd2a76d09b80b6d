//! `flect-agent`, the daemon of a node.

fn main() {}
