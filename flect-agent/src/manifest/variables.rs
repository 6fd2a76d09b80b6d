//! What a command finds in its environment: the bindings' variables and those of `.env.local`.
//!
//! Invariant: what the process environment has set is never changed; `.env.local` comes next, flect
//! gives what is left. `.env.local` is read, never executed, and its values are in no message.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::search::trusted;
use super::{Kv, Manifest, ManifestError, search};

/// The file beside `flect.toml` with a developer's own variables.
pub const LOCAL_FILE_NAME: &str = ".env.local";

/// The variables of `.env.local`, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local(Vec<(String, String)>);

/// Who gives a variable its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The environment that flect was started in.
    Environment,
    /// `.env.local`.
    Local,
    /// flect: the store.
    Flect,
}

/// A binding's variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// `CACHE_URL`.
    pub name: String,
    /// The binding and its store.
    pub kv: Kv,
    /// Where the value comes from.
    pub source: Source,
    /// The value; flect's own is known once the store is.
    pub value: Option<OsString>,
    /// Whether the environment hides another value in `.env.local`.
    pub hides_local: bool,
}

/// All variables that a command gets besides its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// One for each `[[kv]]`.
    pub bound: Vec<Variable>,
    /// The others of `.env.local` that the environment does not have.
    pub others: Vec<(String, String)>,
}

/// A binding that still needs its store's URL.
pub type Unset<'a> = &'a mut Variable;

/// Why `.env.local` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ManifestError),
    /// A line is no assignment.
    #[error("{}{}: expected NAME=value; quote a value with blanks: NAME=\"two words\"", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, where it can be told.
        line: Option<usize>,
    },
}

impl Local {
    /// Reads `.env.local` in the manifest's folder; a file that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, is somebody else's, or is not made of assignments.
    pub fn load(manifest: &Path, folder: &Path) -> Result<Self, LocalError> {
        let path = folder.join(LOCAL_FILE_NAME);
        let read = |cause| ManifestError::Read {
            path: path.clone(),
            cause,
        };
        let meta = match std::fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(read(cause).into()),
        };
        let owner = std::fs::metadata(manifest).map_err(read)?.uid();
        let user = rustix::process::geteuid().as_raw();
        if !trusted(&meta, &[user, owner]) {
            let cause =
                io::Error::other("it belongs neither to you nor to the owner of flect.toml");
            return Err(read(cause).into());
        }
        let text = search::read(&path)?;
        Self::parse(&text).map_err(|line| LocalError::Line { path, line })
    }

    /// Reads assignments as dotenv does: comments, quotes, `export`, `$NAME` of what stands before or
    /// in the environment. The last of several assignments counts.
    ///
    /// # Errors
    /// The number of the line that is none, where it can be told.
    pub fn parse(text: &str) -> Result<Self, Option<usize>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(at) = text.find('\0') {
            return Err(Some(line_of(text, at)));
        }
        let mut all: Vec<(String, String)> = Vec::new();
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = item.map_err(|error| match error {
                dotenvy::Error::LineParse(part, _) => {
                    text.find(part.trim_end()).map(|at| line_of(text, at))
                }
                _ => None,
            })?;
            all.retain(|(other, _)| *other != name);
            all.push((name, value));
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

impl Variables {
    /// Decides about every variable. An empty URL counts as none: it is what a mistyped
    /// substitution leaves behind, and clients take it for localhost.
    pub fn resolve(
        manifest: &Manifest,
        local: &Local,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let bound: Vec<Variable> = manifest
            .kv
            .iter()
            .map(|kv| {
                let name = kv.binding.variable();
                let own = environment(&name).filter(|value| !value.is_empty());
                let file = local.get(&name).filter(|value| !value.is_empty());
                let hides_local =
                    matches!((&own, file), (Some(own), Some(file)) if own != OsStr::new(file));
                let (source, value) = match (own, file) {
                    (Some(value), _) => (Source::Environment, Some(value)),
                    (None, Some(value)) => (Source::Local, Some(value.into())),
                    (None, None) => (Source::Flect, None),
                };
                Variable {
                    name,
                    kv: kv.clone(),
                    source,
                    value,
                    hides_local,
                }
            })
            .collect();
        let others = local
            .0
            .iter()
            .filter(|(name, _)| {
                environment(name).is_none() && !bound.iter().any(|variable| variable.name == *name)
            })
            .cloned()
            .collect();
        Self { bound, others }
    }

    /// The bindings that need their store's URL.
    pub fn unset(&mut self) -> impl Iterator<Item = Unset<'_>> {
        self.bound.iter_mut().filter(|v| v.source == Source::Flect)
    }

    /// Whether some binding needs its store's URL.
    #[must_use]
    pub fn needs_stores(&self) -> bool {
        self.bound.iter().any(|v| v.source == Source::Flect)
    }

    /// What to set for the command.
    pub fn assignments(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        let bound = self.bound.iter();
        let bound = bound.filter_map(|v| Some((v.name.as_str(), v.value.as_deref()?)));
        let others = self.others.iter();
        bound.chain(others.map(|(name, value)| (name.as_str(), OsStr::new(value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, &str)]) {
        let local = Local::parse(text).unwrap();
        let got: Vec<(&str, &str)> = local.0.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn assignments_are_read_and_never_executed() {
        check("", &[]);
        check("# only a comment\n\n", &[]);
        check("A=1\nB=2\nA=3", &[("B", "2"), ("A", "3")]);
        check(
            "\u{feff}export A='$(reboot) `reboot`'\r\n",
            &[("A", "$(reboot) `reboot`")],
        );
        check("A=x#y # z", &[("A", "x#y")]);
        check("A=\"two\nlines\"", &[("A", "two\nlines")]);
        check(
            "URL=redis://localhost:6379",
            &[("URL", "redis://localhost:6379")],
        );
        check("A=\nB=", &[("A", ""), ("B", "")]);
        check("A=1\nB=${A}2", &[("A", "1"), ("B", "12")]);
    }

    #[test]
    fn wrong_lines_are_numbered_and_not_repeated() {
        for (text, line) in [
            ("A=1\nnonsense secret", Some(2)),
            ("A=two words", Some(1)),
            ("=x", Some(1)),
            ("A=1\0", Some(1)),
            ("\n\nA='open", Some(3)),
        ] {
            assert_eq!(Local::parse(text), Err(line), "{text}");
        }
        let error = LocalError::Line {
            path: ".env.local".into(),
            line: Some(2),
        };
        assert_eq!(
            error.to_string(),
            ".env.local:2: expected NAME=value; quote a value with blanks: NAME=\"two words\""
        );
    }

    #[test]
    fn the_environment_wins_then_the_file_then_flect() {
        let text = "[[kv]]\nbinding = \"A\"\nname = \"a\"\n[[kv]]\nbinding = \"B\"\nname = \"b\"\n\
                    [[kv]]\nbinding = \"C\"\nname = \"c\"\n[[kv]]\nbinding = \"D\"\nname = \"d\"\n";
        let manifest = Manifest::parse(text).unwrap();
        let local =
            Local::parse("A_URL=file\nB_URL=file\nD_URL=\nPATH=/evil\nMORE=1\nEMPTY=x").unwrap();
        let environment = |name: &str| match name {
            "A_URL" => Some("own".into()),
            "C_URL" | "EMPTY" => Some("".into()),
            "PATH" => Some("/bin".into()),
            _ => None,
        };
        let mut variables = Variables::resolve(&manifest, &local, environment);
        let sources: Vec<Source> = variables.bound.iter().map(|v| v.source).collect();
        use Source::{Environment, Flect, Local as File};
        assert_eq!(sources, [Environment, File, Flect, Flect]);
        assert!(variables.bound[0].hides_local && !variables.bound[1].hides_local);
        assert_eq!(variables.others, [("MORE".to_owned(), "1".to_owned())]);
        for variable in variables.unset() {
            variable.value = Some(format!("redis://{}", variable.kv.name).into());
        }
        let all: Vec<String> = variables
            .assignments()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            all,
            [
                "A_URL=own",
                "B_URL=file",
                "C_URL=redis://c",
                "D_URL=redis://d",
                "MORE=1"
            ]
        );
    }
}
