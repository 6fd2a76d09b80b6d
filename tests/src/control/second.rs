//! A second agent on a bed's Valkey: explicit mode alone, so it needs no cgroup, no hooks and, if
//! wanted, no root.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;
use crate::bed::Bed;
use crate::bed::agent::{self, wait_until};
use crate::tools::Programs;
use crate::wire::Wire;

/// What such an agent shall be.
#[derive(Debug, Default)]
pub struct Options {
    /// As whom it runs; root otherwise.
    pub uid: Option<u32>,
    /// Certificate and key.
    pub tls: Option<(String, String)>,
    /// Further lines of the configuration.
    pub tail: String,
}

/// It runs until it is dropped.
#[derive(Debug)]
pub struct Second {
    child: Child,
    programs: Programs,
    folder: TempDir,
    address: SocketAddr,
}

impl Second {
    /// Starts it and waits until it serves.
    pub fn start(bed: &Bed, options: &Options) -> Result<Self> {
        let mut programs = Programs::beside_current()?;
        let folder = tempfile::Builder::new().prefix("flect-second-").tempdir()?;
        let mut tls = String::new();
        if let Some((certificate, key)) = &options.tls {
            let (cert_path, key_path) = certify(folder.path(), certificate, key)?;
            tls = format!("tls_certificate = {cert_path:?}\ntls_key = {key_path:?}\n");
        }
        let config = folder.path().join("agent.toml");
        let text = format!(
            "[valkey]\naddress = \"{}\"\n[intercept]\nenabled = false\n\
             [explicit]\nlisten = [\"127.0.0.1:0\"]\n{tls}\
             [agent]\nworkers = 2\nsocket = {:?}\nstatus_page = \"off\"\n{}",
            bed.operator_address(),
            folder.path().join("agent.sock"),
            options.tail,
        );
        fs::write(&config, text)?;
        if let Some(uid) = options.uid {
            // The build's folder may be closed to other users.
            let copy = folder.path().join("flect-agent");
            fs::copy(&programs.agent, &copy)?;
            programs.agent = copy;
            for path in [folder.path(), &config] {
                std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
            }
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        }
        let log = fs::File::create(folder.path().join("agent.log"))?;
        let mut command = Command::new(&programs.agent);
        command.arg("run").arg("--config").arg(&config);
        if let Some(uid) = options.uid {
            command.uid(uid).gid(uid);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting a second agent")?;
        let mut second = Self {
            child,
            programs,
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let waited = wait_until(PATIENCE, || {
            if let Some(end) = second.child.try_wait()? {
                bail!("it ended: {end}");
            }
            Ok(second.status().is_ok_and(|status| status["ready"] == true))
        });
        waited.with_context(|| format!("the second agent says:\n{}", second.log()))?;
        let listen = second.status()?["explicit"]["listen"][0].take();
        second.address = listen.as_str().context("it listens nowhere")?.parse()?;
        Ok(second)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to it that has said nothing.
    pub fn connect(&self) -> Result<Wire> {
        Ok(Wire::connect(self.address)?)
    }

    /// Exchanges its certificate and key, sends SIGHUP, and answers what `flect status` says of how that went.
    pub fn certified_anew(&self, certificate: &str, key: &str) -> Result<Value> {
        certify(self.folder.path(), certificate, key)?;
        let before = self.status()?["config"].take();
        let pid = i32::try_from(self.child.id())?;
        kill_process(Pid::from_raw(pid).context("a pid")?, Signal::HUP)?;
        let mut now = Value::Null;
        wait_until(PATIENCE, || {
            now = self.status()?["config"].take();
            Ok(now != before)
        })?;
        Ok(now)
    }

    /// What `flect status` says of it.
    pub fn status(&self) -> Result<Value> {
        agent::status(&self.programs, &self.socket())
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }
}

/// Writes both, and answers where they are.
fn certify(folder: &Path, certificate: &str, key: &str) -> Result<(PathBuf, PathBuf)> {
    let (cert_path, key_path) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert_path, certificate)?;
    fs::write(&key_path, key)?;
    fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600))?;
    Ok((cert_path, key_path))
}

impl Drop for Second {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
