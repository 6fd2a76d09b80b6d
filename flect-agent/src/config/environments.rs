//! The environments that `flect` knows on this machine, and the one it works on.
//!
//! They are named in `environments.toml`, in the system's folder and in the user's; the node's own
//! `agent.toml`, where it may be read, names one more. Files are read when a command needs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Config, ConfigError, Valkey};

/// The folder of what the whole machine knows.
const SYSTEM_FOLDER: &str = "/etc/flect";

/// Where environments are looked for: `environments.toml`, `agent.toml` and what was selected.
#[derive(Clone, Debug)]
pub struct Folders {
    /// For everybody; only read.
    pub system: PathBuf,
    /// The user's own.
    pub user: PathBuf,
}

/// Where an environment is known from, and how it is reached.
#[derive(Clone, Debug)]
pub struct Known {
    /// The endpoint and the operator's credentials.
    pub valkey: Valkey,
    /// The file that names it.
    pub file: PathBuf,
}

/// `environments.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    environment: BTreeMap<String, Valkey>,
}

/// Why there is no environment to work on.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A file cannot be read or is not valid.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The selection cannot be kept.
    #[error("cannot write {path}: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Several are known and none is chosen.
    #[error("no environment selected: flect env use NAME; known: {}", .known.join(", "))]
    NoneSelected {
        /// Their names.
        known: Vec<String>,
    },
    /// None is known at all.
    #[error(
        "no environment is known here: flect env add NAME --address HOST:PORT, or run this on a node where you may read {SYSTEM_FOLDER}/agent.toml"
    )]
    NoneKnown,
    /// The chosen one is not known.
    #[error("no environment '{name}' is known ({chosen_by}); known: {}", list(.known))]
    Unknown {
        /// What was chosen.
        name: String,
        /// Where.
        chosen_by: &'static str,
        /// The names there are.
        known: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none; flect env add NAME --address HOST:PORT".to_owned()
    } else {
        names.join(", ")
    }
}

impl Folders {
    /// As the variables of the process say: `FLECT_CONFIG_DIR` stands for both folders; otherwise
    /// the user's is `flect` below `XDG_CONFIG_HOME` or `~/.config`.
    #[must_use]
    pub fn from_env() -> Self {
        use etcetera::BaseStrategy;
        if let Some(folder) = std::env::var_os("FLECT_CONFIG_DIR") {
            return Self {
                system: folder.clone().into(),
                user: folder.into(),
            };
        }
        let user = etcetera::base_strategy::choose_base_strategy()
            .map(|strategy| strategy.config_dir().join("flect"))
            .unwrap_or_else(|_| SYSTEM_FOLDER.into());
        Self {
            system: SYSTEM_FOLDER.into(),
            user,
        }
    }

    /// The user's `environments.toml`.
    #[must_use]
    pub fn own_file(&self) -> PathBuf {
        self.user.join("environments.toml")
    }

    fn selection_file(&self) -> PathBuf {
        self.user.join("selected-environment")
    }

    /// All environments by name; the user's own hide the machine's of the same name.
    ///
    /// # Errors
    /// When a file is there and not valid. A file that this user may not read is as good as none.
    pub fn known(&self) -> Result<BTreeMap<String, Known>, EnvironmentError> {
        let mut all = BTreeMap::new();
        let agent = self.system.join("agent.toml");
        if let Some(text) = readable(&agent) {
            let config = Config::parse(&text).map_err(invalid(&agent))?;
            let known = Known {
                valkey: config.valkey,
                file: agent,
            };
            all.insert(known.valkey.environment.clone(), known);
        }
        let system = self.system.join("environments.toml");
        for path in [system, self.own_file()] {
            let Some(text) = readable(&path) else {
                continue;
            };
            let file: File = toml::from_str(&text)
                .map_err(|error| invalid(&path)(error.to_string().trim_end().to_owned()))?;
            for (name, mut valkey) in file.environment {
                let wrong = |message| format!("environment.{name}: {message}");
                valkey.check().map_err(wrong).map_err(invalid(&path))?;
                valkey.environment.clone_from(&name);
                let file = path.clone();
                all.insert(name, Known { valkey, file });
            }
        }
        Ok(all)
    }

    /// What `flect env use` chose, if anything.
    #[must_use]
    pub fn selected(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.selection_file()).ok()?;
        let name = text.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// Chooses an environment for the commands that follow.
    ///
    /// # Errors
    /// When it is not known, or the choice cannot be written.
    pub fn select(&self, name: &str) -> Result<(), EnvironmentError> {
        self.find(name, "flect env use")?;
        let path = self.selection_file();
        std::fs::create_dir_all(&self.user)
            .and_then(|()| std::fs::write(&path, format!("{name}\n")))
            .map_err(|cause| EnvironmentError::Write { path, cause })
    }

    /// The environment to work on: `asked` for on the command line, else `FLECT_ENV`, else what
    /// `flect env use` chose, else the only one.
    ///
    /// # Errors
    /// When there is none, or it is not clear which.
    pub fn choose(&self, asked: Option<&str>) -> Result<(String, Known), EnvironmentError> {
        if let Some(name) = asked {
            return self.find(name, "--env");
        }
        if let Ok(name) = std::env::var("FLECT_ENV")
            && !name.is_empty()
        {
            return self.find(&name, "FLECT_ENV");
        }
        if let Some(name) = self.selected() {
            return self.find(&name, "flect env use");
        }
        let mut known = self.known()?;
        match known.len() {
            0 => Err(EnvironmentError::NoneKnown),
            1 => known.pop_first().ok_or(EnvironmentError::NoneKnown),
            _ => Err(EnvironmentError::NoneSelected {
                known: known.into_keys().collect(),
            }),
        }
    }

    fn find(
        &self,
        name: &str,
        chosen_by: &'static str,
    ) -> Result<(String, Known), EnvironmentError> {
        let mut known = self.known()?;
        match known.remove(name) {
            Some(found) => Ok((name.to_owned(), found)),
            None => Err(EnvironmentError::Unknown {
                name: name.to_owned(),
                chosen_by,
                known: known.into_keys().collect(),
            }),
        }
    }
}

/// The text of a file that is there and may be read.
fn readable(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn invalid(path: &Path) -> impl FnOnce(String) -> EnvironmentError {
    let path = path.to_owned();
    move |message| ConfigError::Invalid { path, message }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(folder: &tempfile::TempDir) -> Folders {
        let system = folder.path().join("system");
        let user = folder.path().join("user");
        std::fs::create_dir(&system).unwrap();
        std::fs::create_dir(&user).unwrap();
        Folders { system, user }
    }

    #[test]
    fn the_only_one_needs_no_choice_and_several_do() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(&folder);
        let none = folders.choose(None).unwrap_err().to_string();
        assert!(none.contains("flect env add"), "{none}");

        let agent = "[valkey]\naddress = \"127.0.0.1:1\"\nenvironment = \"here\"\n";
        std::fs::write(folders.system.join("agent.toml"), agent).unwrap();
        assert_eq!(folders.choose(None).unwrap().0, "here");

        let more = "[environment.staging]\naddress = \"127.0.0.1:2\"\n";
        std::fs::write(folders.own_file(), more).unwrap();
        let several = folders.choose(None).unwrap_err().to_string();
        assert_eq!(
            several,
            "no environment selected: flect env use NAME; known: here, staging"
        );
        let unknown = folders.choose(Some("prod")).unwrap_err().to_string();
        assert!(unknown.contains("known: here, staging"), "{unknown}");

        folders.select("staging").unwrap();
        let (name, known) = folders.choose(None).unwrap();
        assert_eq!((name.as_str(), known.valkey.address.port), ("staging", 2));
        assert_eq!(folders.choose(Some("here")).unwrap().0, "here");
    }

    #[test]
    fn mistakes_have_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(&folder);
        let text = "[environment.a]\naddress = \"127.0.0.1:1\"\npasword_file = \"x\"\n";
        std::fs::write(folders.own_file(), text).unwrap();
        let error = folders.known().unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
