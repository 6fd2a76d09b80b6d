//! How far the import of a file is, kept in a small file beside it.
//!
//! It is bound to the file's digest and to the store's prefix: with another file, or another store of
//! the same name, an import begins at the beginning.

use std::path::PathBuf;

use anyhow::Context;
use flect_agent::admin::hex;
use flect_agent::dump::Summary;
use serde::{Deserialize, Serialize};

use super::input::Input;

/// A place that is kept.
pub struct Place {
    path: PathBuf,
    kept: Kept,
    begun: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Kept {
    /// SHA-256 of the file, in hexadecimal.
    file: String,
    /// The store.
    prefix: String,
    /// Chunks whose keys are all written.
    chunks: u64,
}

impl Place {
    /// Where an interrupted import was, or the beginning; `None` for stdin.
    pub fn find(input: &Input, summary: &Summary, prefix: &str) -> Option<Self> {
        let mut name = input.path()?.as_os_str().to_owned();
        name.push(format!(".import-{}", prefix.trim_matches(['{', '}'])));
        let path = PathBuf::from(name);
        let fresh = Kept {
            file: hex(&summary.digest),
            prefix: prefix.to_owned(),
            chunks: 0,
        };
        let kept = std::fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Kept>(&text).ok())
            .filter(|kept| kept.file == fresh.file && kept.prefix == fresh.prefix);
        Some(Self {
            path,
            begun: kept.is_some(),
            kept: kept.unwrap_or(fresh),
        })
    }

    /// Whether an import of this file into this store was begun: what is in the store may be its own.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Chunks that are done.
    pub fn chunks(&self) -> u64 {
        self.kept.chunks
    }

    /// So many chunks are done.
    pub fn keep(&mut self, chunks: u64) -> anyhow::Result<()> {
        self.kept.chunks = chunks;
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        std::fs::write(&new, serde_json::to_vec(&self.kept)?)
            .and_then(|()| std::fs::rename(&new, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Everything is done.
    pub fn forget(self) {
        // Left behind it would be in nobody's way: the store is not empty any more.
        let _ = std::fs::remove_file(self.path);
    }
}
