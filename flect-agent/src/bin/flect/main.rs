//! `flect`, the users' command.

fn main() {}
