//! Who sees what: the names of stores are for operators.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Body;
use super::http::{at_port, at_socket, bed};
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::smoke::output;

pub const TRIALS: [(&str, Body); 3] = [
    ("socket_is_closed_to_apps", socket_is_closed_to_apps),
    ("port_asks_for_the_token", port_asks_for_the_token),
    ("port_in_use_costs_the_token", port_in_use_costs_the_token),
];

/// Prints the status codes of requests over a unix socket, and whether a store is named.
const ASK: &str = "import socket, sys\n\
    for path in ('/metrics', '/healthz', '/readyz', '/', '/metrics?x', '//metrics'):\n    \
        s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])\n    \
        s.sendall(f'GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'.encode())\n    \
        reply = b''\n    \
        while part := s.recv(65536): reply += part\n    \
        print(path, reply.split(b' ')[1].decode(), b'store1' in reply or b'app2' in reply)\n";

/// An app that runs as root and reaches the socket gets health and readiness, and learns no name.
fn socket_is_closed_to_apps() -> Result<()> {
    let (bed, folder, socket) = bed(Bed::builder())?;
    // The app can reach the socket: what keeps it out is the judgement alone.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    ensure!(
        at_socket(&socket, "/metrics")?.1.contains("store1"),
        "nothing to be told"
    );
    let said = output(bed.python(APP1)?.args(["-c", ASK]).arg(&socket))?;
    let expect = "/metrics 403 False\n/healthz 200 False\n/readyz 200 False\n/ 404 False\n\
        /metrics?x 403 False\n//metrics 404 False";
    ensure!(said == expect, "{said}");
    // Nor a user of the machine who is no operator.
    let mut user = std::process::Command::new("setpriv");
    user.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    user.arg(crate::tools::program("python3")?)
        .args(["-c", ASK])
        .arg(&socket);
    let said = output(&mut user)?;
    ensure!(said == expect, "{said}");
    Ok(())
}

fn port_asks_for_the_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token_file = folder.path().join("token");
    // The operator's choice of who reads it.
    fs::write(&token_file, "")?;
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o640))?;
    let address = free_address()?;
    let bed = Bed::builder()
        .config_tail(&config(address, &token_file))
        .start()?;
    let token = written(&token_file)?;
    ensure!(
        fs::metadata(&token_file)?.permissions().mode() & 0o777 == 0o640,
        "the mode"
    );
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let (code, text) = at_port(address, "/metrics", &bearer)?;
    ensure!(code == 200 && text.contains("store1"), "{code} {text}");
    for headers in [
        "",
        "Authorization: Bearer x\r\n",
        "Authorization: Bearer \r\n",
    ] {
        let (code, text) = at_port(address, "/metrics", headers)?;
        ensure!(
            code == 401 && !text.contains("store1"),
            "{headers}: {code} {text}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        ensure!(
            at_port(address, path, "")? == (200, "ok\n".to_owned()),
            "{path}"
        );
    }
    ensure!(!bed.agent_log().contains(&token), "the token is logged");
    // The next agent has another.
    bed.stop_agent()?;
    bed.start_agent()?;
    wait_until(Duration::from_secs(10), || {
        Ok(written(&token_file)? != token)
    })?;
    ensure!(
        at_port(address, "/metrics", &bearer)?.0 == 401,
        "the old token is taken"
    );
    Ok(())
}

/// Who has the port while the agent begins is told a token by scrapers that is worth nothing.
fn port_in_use_costs_the_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token_file = folder.path().join("token");
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let bed = Bed::builder()
        .config_tail(&config(address, &token_file))
        .start()?;
    wait_until(Duration::from_secs(10), || {
        Ok(bed.agent_log().contains("monitoring cannot listen at"))
    })?;
    ensure!(!token_file.exists(), "a token is made without a port");
    drop(taken);
    wait_until(Duration::from_secs(20), || {
        Ok(token_file.exists() && !written(&token_file)?.is_empty())
    })?;
    let bearer = format!("Authorization: Bearer {}\r\n", written(&token_file)?);
    ensure!(
        at_port(address, "/metrics", &bearer)?.0 == 200,
        "no metrics"
    );
    Ok(())
}

fn config(address: SocketAddr, token_file: &std::path::Path) -> String {
    format!(
        "\n[agent.metrics]\nlisten = \"{address}\"\ntoken_file = \"{}\"\n",
        token_file.display()
    )
}

fn written(token_file: &std::path::Path) -> Result<String> {
    fs::read_to_string(token_file).context("reading the token")
}

/// Free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
