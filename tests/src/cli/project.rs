//! A project folder with a `flect.toml`, and flect run in it, as root or as an ordinary user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::tools::{self, Programs};

/// nobody: a user with no rights, present without an entry in /etc/passwd.
pub const NOBODY: u32 = 65534;

/// Two stores.
pub const TWO: &str = "[[kv]]\nbinding = \"CACHE\"\nname = \"store1\"\n\n\
                       [[kv]]\nbinding = \"SESSION_STORE\"\nname = \"store2\"\n";

/// The folder, removed with its value.
pub struct Project {
    folder: TempDir,
    user: Option<u32>,
    flect: PathBuf,
}

impl Project {
    /// A project of the user who runs the trials.
    pub fn new(manifest: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let project = Self {
            folder,
            user: None,
            flect: Programs::beside_current()?.flect,
        };
        project.write("flect.toml", manifest)?;
        Ok(project)
    }

    /// A project of nobody, who runs flect in it.
    pub fn of_nobody(manifest: &str) -> Result<Self> {
        let mut project = Self::new(manifest)?;
        project.user = Some(NOBODY);
        for path in [project.path().to_owned(), project.path().join("flect.toml")] {
            chown(path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(project)
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts another flect in the place of the one that was built.
    pub fn with_flect(mut self, flect: PathBuf) -> Self {
        self.flect = flect;
        self
    }

    /// Writes a file, for the project's user.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, text)?;
        if let Some(user) = self.user {
            chown(&path, Some(user), Some(user))?;
        }
        Ok(path)
    }

    /// flect in the project's folder, knowing no environment and no agent but what `args` name.
    pub fn flect<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(&self.flect);
        command
            .current_dir(self.path())
            .stdin(Stdio::null())
            .env("HOME", "/nonexistent")
            .env("FLECT_CONFIG_DIR", self.path())
            .env("NODE_PATH", tools::node_modules());
        for name in ["FLECT_ENV", "CACHE_URL", "SESSION_STORE_URL"] {
            command.env_remove(name);
        }
        command.args(["--socket", "no-agent.sock"]).args(args);
        self.own(&mut command);
        command
    }

    /// flect with a private Valkey.
    pub fn dev<A: AsRef<OsStr>>(&self, args: &[A]) -> Result<Command> {
        let mut command = self.flect::<&str>(&["dev", "--valkey"]);
        command.arg(tools::program("valkey-server")?).args(args);
        Ok(command)
    }

    /// Lets a command run as the project's user.
    pub fn own(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
    }
}

/// Node.js with ioredis: `store(variable)` connects, the script is the body of an async function.
pub fn node(script: &str) -> Result<Vec<String>> {
    let whole = format!(
        "const Redis = require('ioredis'); const all = [];\n\
         const store = name => {{ const r = new Redis(process.env[name]); all.push(r); return r }};\n\
         (async () => {{ {script} }})().then(() => all.forEach(r => r.disconnect()), \
         error => {{ console.error(error); process.exit(1) }});"
    );
    let node = tools::program("node")?;
    let node = node.to_str().context("the path of node")?.to_owned();
    Ok(vec!["--".to_owned(), node, "-e".to_owned(), whole])
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Result<Self> {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().context("starting flect")?;
        Ok(Self {
            status,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Fails unless it ended with this code and said this on stdout or stderr.
    pub fn expect(self, code: i32, said: &str) -> Result<Self> {
        ensure!(
            self.status.code() == Some(code)
                && (self.stdout.contains(said) || self.stderr.contains(said)),
            "{} instead of {code}, or not '{said}':\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless a signal ended it.
    pub fn expect_signal(self, signal: i32) -> Result<Self> {
        ensure!(self.status.signal() == Some(signal), "{self:?}");
        Ok(self)
    }

    /// stdout as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self:?}"))
    }
}
