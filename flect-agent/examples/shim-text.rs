//! Prints a transformed script.
use std::io::{Read, Write};
fn main() {
    let mut s = Vec::new();
    std::io::stdin().read_to_end(&mut s).unwrap();
    let p = flect_agent::store::Prefix::parse(&std::env::args().nth(1).unwrap()).unwrap();
    let t = flect_agent::scripts::Shim::new(&p, 16).transform(&s);
    std::io::stdout().write_all(&t).unwrap();
}
