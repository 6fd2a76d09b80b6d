//! The agent of `flect dev`: explicit mode on loopback, no kernel hooks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::ENVIRONMENT;
use super::folder::{Folder, Tokens};
use super::process::{self, Process};
use super::server::{self, Server, free_port};
use super::signals::Signals;

/// The agent starts in milliseconds; a debug build on a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The agent ends its sessions in order.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Another program may take a free port before the agent does.
const PORTS_TRIED: usize = 5;
/// Remembers the port, so that URLs in other programs' settings stay true.
const PORT_FILE: &str = "port";

/// A running agent.
pub struct Agent {
    process: Process,
    address: SocketAddr,
}

impl Agent {
    /// Starts it and waits until every store answers.
    pub fn start(
        server: &Server,
        folder: &Folder,
        port: Option<u16>,
        tokens: &Tokens,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        let start = |port| Self::start_on(port, server, folder, tokens, signals);
        if let Some(port) = port {
            return start(port).with_context(|| format!("on port {port}"));
        }
        let last = folder
            .read(PORT_FILE)
            .and_then(|text| text.trim().parse().ok());
        let mut next = match last {
            Some(port) if is_free(port) => port,
            _ => free_port()?,
        };
        for _ in 1..PORTS_TRIED {
            match start(next) {
                Err(error) if server::in_use(&error) => next = free_port()?,
                other => return other,
            }
        }
        start(next)
    }

    fn start_on(
        port: u16,
        server: &Server,
        folder: &Folder,
        tokens: &Tokens,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        // Relative: the folder's path may be longer than a socket's may be.
        folder.write(
            "agent.toml",
            &format!(
                "# Made by flect dev for as long as it runs.\n\
                 [valkey]\nenvironment = \"{ENVIRONMENT}\"\naddress = \"127.0.0.1:{}\"\n\
                 password_file = {}\n\n\
                 [intercept]\nenabled = false\n\n\
                 [explicit]\nlisten = [\"{address}\"]\n\n\
                 [agent]\nworkers = 1\nsocket = \"./agent.sock\"\nstatus_page = \"off\"\n",
                server.port(),
                toml::Value::from(folder.password_file().to_string_lossy().into_owned()),
            ),
        )?;
        let (path, log) = folder.log("agent.log")?;
        let program = program();
        let mut command = Command::new(&program);
        command
            .args(["run", "--config", "agent.toml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        process::end_with_us(&mut command, signals, None);
        let child = command.spawn().with_context(|| {
            format!("cannot run {}; install it beside flect", program.display())
        })?;
        let mut process = Process::new(child, "flect-agent", path, ENDS_WITHIN);
        for (slug, token) in tokens {
            let words = [slug.as_str(), token.as_str()];
            server::wait_until_answers(address, &words, &mut process, READY_WITHIN, signals)?;
        }
        folder.write(PORT_FILE, &format!("{port}\n"))?;
        Ok(Self { process, address })
    }

    /// Where the stores are.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The error that says so, once it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}

/// The agent beside this executable, or else the one in PATH.
fn program() -> PathBuf {
    const NAME: &str = "flect-agent";
    let beside = std::env::current_exe().map(|own| own.with_file_name(NAME));
    match beside {
        Ok(path) if path.is_file() => path,
        _ => NAME.into(),
    }
}

fn is_free(port: u16) -> bool {
    let bound: io::Result<TcpListener> = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bound.is_ok()
}
