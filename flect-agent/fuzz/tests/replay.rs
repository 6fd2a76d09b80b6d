//! Every committed input once, without the engine: what failed once must not fail again.
//!
//! Invariant: a target without inputs fails, and so does a file that belongs to none.

use std::path::Path;

use flect_fuzz::{TARGETS, corpus};

#[test]
fn committed_inputs_hold() {
    for target in TARGETS {
        let inputs = corpus::of(target.name).expect("the files are readable");
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            let line = corpus::escape(&input);
            let ended = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(ended.is_ok(), "{}: {line}", target.name);
        }
    }
}

#[test]
fn every_file_belongs_to_a_target() {
    for folder in ["corpus", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("a readable folder").path();
            let name = path.file_stem().and_then(|name| name.to_str());
            assert!(
                name.is_some_and(|name| flect_fuzz::target(name).is_some()),
                "{} belongs to no target",
                path.display()
            );
        }
    }
}
