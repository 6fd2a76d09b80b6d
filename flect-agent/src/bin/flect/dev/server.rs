//! The private Valkey of `flect dev`.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use flect_agent::manifest::{Source, Variables};
use flect_agent::registry::new_token;

use super::folder::Folder;
use super::process::{self, Process};
use super::signals::Signals;

/// A server starts in milliseconds; one with a large dump reads it first.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Writing the dump at the end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);
/// Another program may take a free port before the server does.
const PORTS_TRIED: usize = 5;
/// The release that Valkey began with; older servers lack what the agent asks of ACLs.
const VERSION_MIN: (u32, u32) = (7, 2);
/// Where distributions put servers that are not in every user's PATH.
const MORE_FOLDERS: [&str; 4] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
];

/// A running server.
pub struct Server {
    process: Process,
    port: u16,
}

/// The server to run: the one given, or the first of the right age that is found.
pub fn find(given: Option<&Path>, variables: &Variables) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        let version = version(path)?;
        if version < VERSION_MIN {
            bail!(
                "{} is version {}.{}; flect needs 7.2 or newer",
                path.display(),
                version.0,
                version.1
            );
        }
        return Ok(path.to_owned());
    }
    let mut too_old = String::new();
    for name in ["valkey-server", "redis-server"] {
        for folder in folders() {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            match version(&path) {
                Ok(version) if version >= VERSION_MIN => return Ok(path),
                Ok((major, minor)) => {
                    too_old = format!(" ({} is {major}.{minor})", path.display());
                }
                Err(_) => {}
            }
        }
    }
    bail!("{}", how_to_get(&too_old, variables))
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect();
    if let Ok(own) = std::env::current_exe()
        && let Some(folder) = own.parent()
    {
        all.push(folder.to_owned());
        // target/debug/flect of this project finds target/tools/bin/valkey-server.
        all.push(folder.join("../tools/bin"));
    }
    all.extend(MORE_FOLDERS.map(PathBuf::from));
    all
}

/// What `--version` says: `Valkey server v=8.0.1 sha=...`.
fn version(program: &Path) -> anyhow::Result<(u32, u32)> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).with_context(|| {
        format!(
            "{} is no valkey-server: it says '{}'",
            program.display(),
            text.trim()
        )
    })
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once("v=")?;
    let mut numbers = rest.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn how_to_get(too_old: &str, variables: &Variables) -> String {
    let bound = variables.bound.iter();
    let names: Vec<&str> = bound
        .filter(|variable| variable.source == Source::Flect)
        .map(|variable| variable.name.as_str())
        .collect();
    let mut lines = format!(
        "there is no valkey-server here, nor a redis-server from 7.2 on{too_old}. Get one:\n\
         \n  Debian, Ubuntu  sudo apt install valkey-server\
         \n  Fedora          sudo dnf install valkey\
         \n  Alpine          sudo apk add valkey\
         \n  Homebrew        brew install valkey\n\
         \nor say where it is: --valkey PATH. Or run one with Docker, and write into .env.local beside flect.toml:\n\
         \n  docker run -d -p 6379:6379 valkey/valkey:8-alpine\n"
    );
    for (number, name) in names.iter().enumerate() {
        // Without flect nothing but its databases keeps a server's stores apart.
        let database = if number == 0 {
            String::new()
        } else {
            format!("/{number}")
        };
        lines.push_str(&format!("\n  {name}=redis://localhost:6379{database}"));
    }
    lines
}

/// A port of loopback that is free now.
pub fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

impl Server {
    /// Starts it with the folder's data and waits until it answers.
    pub fn start(
        program: &Path,
        folder: &Folder,
        ephemeral: bool,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        let password = new_token();
        folder.write("valkey.password", &password)?;
        for _ in 1..PORTS_TRIED {
            let port = free_port()?;
            match Self::start_on(port, program, folder, ephemeral, &password, signals) {
                Err(error) if in_use(&error) => {}
                other => return other,
            }
        }
        Self::start_on(free_port()?, program, folder, ephemeral, &password, signals)
    }

    fn start_on(
        port: u16,
        program: &Path,
        folder: &Folder,
        ephemeral: bool,
        password: &str,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        let (path, log) = folder.log("valkey.log")?;
        let mut command = Command::new(program);
        command
            // The configuration on standard input: arguments can be seen by everybody.
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the command; the server is stopped after it.
            .process_group(0);
        process::end_with_us(&mut command, signals, Some(folder.lock()));
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let stdin = child.stdin.take();
        let mut process = Process::new(child, "valkey-server", path, ENDS_WITHIN);
        let config = config(port, folder, ephemeral, password);
        if let Some(mut stdin) = stdin
            && let Err(error) = stdin.write_all(&config)
        {
            process.check()?;
            return Err(error.into());
        }
        wait_until_answers(
            (Ipv4Addr::LOCALHOST, port).into(),
            &[password],
            &mut process,
            READY_WITHIN,
            signals,
        )?;
        Ok(Self { process, port })
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The error that says so, once it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}

/// Whether a server ended because something else has its port.
pub fn in_use(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("in use") || text.contains("EADDRINUSE")
}

fn config(port: u16, folder: &Folder, ephemeral: bool, password: &str) -> Vec<u8> {
    let save = if ephemeral {
        "\"\""
    } else {
        "3600 1 300 10 30 1000"
    };
    let mut text = format!(
        "bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\n\
         daemonize no\nlogfile \"\"\nappendonly no\nsave {save}\n\
         shutdown-on-sigterm force\nshutdown-timeout 0\ndir "
    )
    .into_bytes();
    // As `sdssplitargs` reads it, whatever is in the path.
    text.push(b'"');
    for byte in folder.data().as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            0x20..=0x7e => text.push(*byte),
            other => text.extend(format!("\\x{other:02x}").as_bytes()),
        }
    }
    text.extend(b"\"\n");
    text
}

/// Waits until something at `address` takes `AUTH` with these words and answers PING.
pub fn wait_until_answers(
    address: SocketAddr,
    words: &[&str],
    process: &mut Process,
    time_max: Duration,
    signals: &Signals,
) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let answer = ask(address, words);
        // Whoever answered, it was not this one if that has ended.
        process.check()?;
        match answer {
            Ok(text) if text.ends_with("+PONG\r\n") && text.starts_with("+OK\r\n") => return Ok(()),
            _ if started.elapsed() < time_max => signals.pause(POLL)?,
            Ok(text) => bail!("{address} is not ready after {time_max:?}: {}", text.trim()),
            Err(error) => bail!("{address} is not ready after {time_max:?}: {error}"),
        }
    }
}

/// Both replies, or the error that came instead.
fn ask(address: SocketAddr, words: &[&str]) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("AUTH {}\r\nPING\r\n", words.join(" ")).as_bytes())?;
    let mut text = String::new();
    let mut buffer = [0; 512];
    while text.matches("\r\n").count() < 2 {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (text, expect) in [
            (
                "Valkey server v=8.0.1 sha=0:0 malloc=jemalloc-5.3.0 bits=64",
                Some((8, 0)),
            ),
            ("Redis server v=7.0.15 sha=00000000:0", Some((7, 0))),
            ("Server v=9.1.0", Some((9, 1))),
            ("bash, version 5", None),
            ("v=x.y", None),
        ] {
            assert_eq!(parse_version(text), expect, "{text}");
        }
    }
}
