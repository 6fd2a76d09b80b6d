//! `flect.toml`: what an app calls the stores that it uses.
//!
//! Text becomes a validated [`Manifest`] once, here; every mistake in it is reported at once, each
//! with its place and the line it stands in. Nothing in this module asks a server.

mod names;
mod near;
mod parse;
mod problem;
mod schema;
mod search;
mod variables;

use std::path::{Path, PathBuf};

pub use names::{AppName, BindingName, InvalidAppName, InvalidBinding};
pub use near::nearest;
pub use problem::{Place, Problem};
pub use schema::schema;
pub use search::FILE_NAME;
pub use variables::{LOCAL_FILE_NAME, Local, LocalError, Source, Unset, Variable, Variables};

use crate::store::Slug;

/// The whole of `flect.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The app's name on the node, where the file says it.
    pub app: Option<AppName>,
    /// The stores, in the file's order.
    pub kv: Vec<Kv>,
    /// What is allowed and hardly meant.
    pub doubts: Vec<Problem>,
}

/// `[[kv]]`: one store and what the app calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kv {
    /// `CACHE` gives the app the variable `CACHE_URL`.
    pub binding: BindingName,
    /// The store.
    pub name: Slug,
    /// Where the store's name stands, for complaints about it.
    pub place: Place,
}

/// A manifest and the file it was read from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub manifest: Manifest,
    /// Its text, for complaints that show a line.
    pub text: String,
}

/// Why there is no manifest to work with.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No folder from here up has one.
    #[error(
        "there is no {FILE_NAME} in {} or a folder above it; write one:\n\n  [[kv]]\n  binding = \"CACHE\"\n  name = \"my-cache\"\n\nor name it with --manifest PATH", from.display()
    )]
    Missing {
        /// Where the search began.
        from: PathBuf,
    },
    /// A file that somebody else put there was found on the way up.
    #[error(
        "{} belongs to another user (uid {owner}), who could choose variables for your command; if that is meant, name it: --manifest {}", path.display(), path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The text is not valid.
    #[error("{}", problem::shown(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the file's order; at least one.
        problems: Vec<Problem>,
    },
}

impl Manifest {
    /// Validates the text of a `flect.toml`.
    ///
    /// # Errors
    /// Every mistake, in the text's order.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        parse::parse(text)
    }

    /// The stores' names, each once.
    #[must_use]
    pub fn stores(&self) -> Vec<&Slug> {
        let mut all: Vec<&Slug> = self.kv.iter().map(|kv| &kv.name).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Found {
    /// The file that `--manifest` names, or else the nearest `flect.toml` from the working folder
    /// upwards.
    ///
    /// # Errors
    /// When there is none, or it cannot be read or is not valid.
    pub fn load(named: Option<&Path>) -> Result<Self, ManifestError> {
        let path = match named {
            Some(path) if path.is_dir() => path.join(FILE_NAME),
            Some(path) => path.to_owned(),
            None => search::upwards()?,
        };
        let text = search::read(&path)?;
        match Manifest::parse(&text) {
            Ok(manifest) => Ok(Self {
                path,
                manifest,
                text,
            }),
            Err(problems) => Err(ManifestError::Invalid { path, problems }),
        }
    }

    /// The folder of the manifest, in which `.env.local` and `.flect` are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }

    /// A complaint about something in this file that only a server knows.
    #[must_use]
    pub fn complaint(&self, place: Place, message: String) -> ManifestError {
        ManifestError::Invalid {
            path: self.path.clone(),
            problems: vec![Problem::new(&self.text, place, message)],
        }
    }
}

#[cfg(test)]
mod tests;
