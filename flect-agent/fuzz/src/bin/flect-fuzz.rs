//! The engine: libFuzzer around the target that FLECT_FUZZ_TARGET names. `cargo xtask fuzz` builds and runs
//! it; one program for all targets, since each takes long to link.
//!
//! FLECT_FUZZ_DO asks for something else than fuzzing: `list` prints the targets, `unpack FOLDER` writes the
//! committed inputs of the target there, `keep FOLDER` commits those in it.
//!
//! Invariant: a target runs as it does in the test that replays the corpus.
#![no_main]

use std::path::Path;
use std::process::exit;
use std::sync::LazyLock;

use flect_fuzz::{TARGETS, Target, corpus, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("FLECT_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!(
            "FLECT_FUZZ_TARGET is {name:?}, not one of {}",
            names.join(", ")
        );
        exit(2)
    })
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Ok(what) = std::env::var("FLECT_FUZZ_DO") {
            exit(carry_out(&what));
        }
    },
    |data: &[u8]| (TARGET.run)(data)
);

fn carry_out(what: &str) -> i32 {
    let (verb, folder) = what.split_once(' ').unwrap_or((what, ""));
    let folder = Path::new(folder);
    let done = match verb {
        "list" => {
            for target in TARGETS {
                println!("{}\t{}", target.name, target.about);
            }
            Ok(())
        }
        "unpack" => corpus::unpack(TARGET.name, folder),
        "keep" => corpus::keep(TARGET.name, folder).map(|kept| println!("{kept}")),
        _ => Err(std::io::Error::other("no such thing to do")),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{what}: {error}");
            2
        }
    }
}
