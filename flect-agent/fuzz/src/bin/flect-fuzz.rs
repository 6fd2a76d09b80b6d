//! The engine: libFuzzer around the target that FLECT_FUZZ_TARGET names. `cargo xtask fuzz` builds and runs
//! it; one program for all targets, since each takes long to link.
//!
//! Invariant: a target runs as it does in the test that replays the corpus.
#![no_main]

use std::sync::LazyLock;

use flect_fuzz::Target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("FLECT_FUZZ_TARGET").unwrap_or_default();
    flect_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<_> = flect_fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("FLECT_FUZZ_TARGET is {name:?}, not one of {}", names.join(", "))
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
