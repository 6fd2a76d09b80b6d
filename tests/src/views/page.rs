//! The status page as a server: who gets what from it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Body;
use super::town::Town;
use crate::bed::agent::wait_until;
use crate::bed::{APP1, Bed};
use crate::smoke::{check, output};
use crate::tools;

pub const TRIALS: [(&str, Body); 5] = [
    ("page_data_needs_the_token", data_needs_the_token),
    ("page_is_closed_to_apps", is_closed_to_apps),
    ("page_port_in_use", port_in_use),
    ("page_switched_off", switched_off),
    ("page_computes_as_flect_does", computes_as_flect_does),
];

/// What the page computes with.
const RATES: &str = include_str!("../../../flect-agent/src/bin/flect-agent/page/rates.js");
/// A page answers within milliseconds.
const REPLY_WITHIN: Duration = Duration::from_secs(10);

/// Where the page is, and its token.
fn place(bed: &Bed) -> Result<(SocketAddr, String)> {
    let status = bed.status()?;
    let url = status["status_page"].as_str().context("no status page")?;
    let rest = url.strip_prefix("http://").context("no URL")?;
    let (address, token) = rest.split_once("/#token=").context("no token")?;
    Ok((address.parse()?, token.to_owned()))
}

/// The status code, the head and the body of a reply.
fn get(address: SocketAddr, path: &str, headers: &str) -> Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no reply")?;
    let code = head.split(' ').nth(1).context("no code")?.parse()?;
    Ok((code, head.to_lowercase(), body.to_owned()))
}

fn data_needs_the_token() -> Result<()> {
    let town = Town::quiet()?;
    let (address, token) = place(&town.bed)?;
    let host = format!("Host: {address}\r\n");
    let bearer = format!("{host}Authorization: Bearer {token}\r\n");
    for path in ["/metrics.json", "/status.json"] {
        let (code, _, body) = get(address, path, &host)?;
        ensure!(
            code == 401 && !body.contains("my-cache"),
            "{path}: {code} {body}"
        );
        let wrong = format!("{host}Authorization: Bearer {}\r\n", "0".repeat(64));
        ensure!(
            get(address, path, &wrong)?.0 == 401,
            "{path} with a wrong token"
        );
        let rebound = bearer.replace(&address.to_string(), "evil.example:80");
        let (code, _, body) = get(address, path, &rebound)?;
        ensure!(
            code == 421 && !body.contains("my-cache"),
            "{path}: {code} {body}"
        );
    }
    // With the token it is what the control socket says.
    let (code, head, body) = get(address, "/metrics.json", &bearer)?;
    ensure!(code == 200, "{code} {body}");
    ensure!(head.contains("cache-control: no-store"), "{head}");
    ensure!(!head.contains("access-control"), "{head}");
    let metrics: Value = serde_json::from_str(&body)?;
    let control = town.control("metrics")?;
    ensure!(
        shape(&metrics) == shape(&control),
        "{metrics:#}\nand\n{control:#}"
    );
    let status: Value = serde_json::from_str(&get(address, "/status.json", &bearer)?.2)?;
    let mut control = town.control("status")?;
    let fields = control.as_object_mut().context("no object")?;
    ensure!(fields.remove("status_page").is_some(), "no status_page");
    ensure!(
        shape(&status) == shape(&control),
        "{status:#}\nand\n{control:#}"
    );
    // The shell: the same for everybody, nothing in it, nothing from elsewhere.
    let (code, head, body) = get(address, "/", &host)?;
    ensure!(code == 200 && !body.contains("my-cache"), "{code} {body}");
    ensure!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    ensure!(head.contains("referrer-policy: no-referrer"), "{head}");
    // An SVG's namespace is a name, not an address that anything is loaded from.
    let rest = body.replace("http://www.w3.org/2000/svg", "");
    ensure!(
        !rest.contains("http://") && !rest.contains("https://") && !rest.contains("src="),
        "something from elsewhere"
    );
    ensure!(
        !rest.contains(" onclick") && !rest.contains("innerHTML") && !rest.contains("javascript:"),
        "a way in"
    );
    // Neither token nor page in the log.
    ensure!(
        !town.bed.agent_log().contains(&token),
        "the token is logged"
    );
    Ok(())
}

/// A document without its values: the names of fields, and how long lists are.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        other => other.clone(),
    }
}

/// An app reaches the port, as every process does, and learns nothing.
fn is_closed_to_apps() -> Result<()> {
    let town = Town::quiet()?;
    let (address, token) = place(&town.bed)?;
    let script = format!(
        "import socket\n\
         for path in ('/', '/metrics.json', '/status.json', '/metrics.json?token=x', '/stores', '/..'):\n    \
             s = socket.create_connection(('127.0.0.1', {port}), 10)\n    \
             s.sendall(f'GET {{path}} HTTP/1.1\\r\\nHost: {address}\\r\\n\\r\\n'.encode())\n    \
             reply = b''\n    \
             while part := s.recv(65536): reply += part\n    \
             print(path, reply.split(b' ')[1].decode(), b'my-cache' in reply, b'{token}' in reply)\n",
        port = address.port(),
    );
    let said = output(town.bed.python("shop")?.args(["-c", &script]))?;
    let expect = "/ 200 False False\n/metrics.json 401 False False\n/status.json 401 False False\n\
        /metrics.json?token=x 401 False False\n/stores 404 False False\n/.. 404 False False";
    ensure!(said == expect, "{said}");
    // Nor does the command tell it.
    let mut flect = town.bed.flect()?;
    town.bed.place("shop", &mut flect)?;
    let ended = flect.args(["status", "--page"]).output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(!ended.status.success() && ended.stdout.is_empty(), "{said}");
    ensure!(said.contains("apps may not see the node"), "{said}");
    Ok(())
}

/// Somebody else has the port: the agent serves without a page, and takes the port when it can.
fn port_in_use() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let bed = Bed::builder().status_page(Some(port)).start()?;
    check(&mut bed.connect(APP1)?, "SET a 1", "OK")?;
    let status = bed.status()?;
    ensure!(status["status_page"].is_null(), "{status}");
    let why = status["status_page_error"].as_str().context("no reason")?;
    ensure!(
        why.contains(&format!("cannot listen at 127.0.0.1:{port}")),
        "{why}"
    );
    let text = output(bed.flect()?.arg("status"))?;
    ensure!(text.contains("status page   none: "), "{text}");
    let ended = bed.flect()?.args(["status", "--page"]).output()?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(
        bed.agent_log().contains("cannot listen at"),
        "{}",
        bed.agent_log()
    );
    drop(taken);
    wait_until(Duration::from_secs(20), || {
        Ok(bed.status()?["status_page"].is_string())
    })?;
    let (address, _) = place(&bed)?;
    ensure!(
        get(address, "/", &format!("Host: {address}\r\n"))?.0 == 200,
        "no page"
    );
    Ok(())
}

fn switched_off() -> Result<()> {
    let bed = Bed::builder().start()?;
    let ended = bed.flect()?.args(["status", "--page"]).output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(
        said.contains("this agent has no status page; give [agent] status_page"),
        "{said}"
    );
    let status = bed.status()?;
    ensure!(
        status["status_page"].is_null() && status["status_page_error"].is_null(),
        "{status}"
    );
    Ok(())
}

/// The page's script and `flect top` say the same of the same two looks.
fn computes_as_flect_does() -> Result<()> {
    let town = Town::busy()?;
    let before = town.control("metrics")?;
    std::thread::sleep(Duration::from_millis(700));
    let after = town.control("metrics")?;
    let looks = (
        serde_json::from_value(before.clone())?,
        serde_json::from_value(after.clone())?,
    );
    let ours = flect_agent::series::between(&looks.0, &looks.1).context("no rates")?;
    let script = format!("{RATES}\nconsole.log(JSON.stringify(between({before}, {after})))");
    let theirs = output(Command::new(tools::program("node")?).args(["-e", &script]))?;
    let theirs: Value = serde_json::from_str(&theirs)?;
    let mut compared = 0;
    for (ours, theirs) in serde_json::to_value(&ours)?["stores"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(theirs["stores"].as_array().context("no stores")?)
    {
        for (name, value) in ours.as_object().context("no store")? {
            ensure!(
                alike(value, &theirs[name]),
                "{name}: {value} and {}",
                theirs[name]
            );
            compared += 1;
        }
    }
    ensure!(compared >= 5 * 15, "only {compared} values were compared");
    let busy = ours
        .stores
        .iter()
        .filter(|store| store.latency_p99_us.is_some())
        .count();
    ensure!(busy >= 3, "{ours:?}");
    Ok(())
}

/// Equal but for the last digits of fractions.
fn alike(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => {
            let (one, two) = (one.as_f64().unwrap_or(0.0), two.as_f64().unwrap_or(1.0));
            (one - two).abs() <= 1e-9 * one.abs().max(1.0)
        }
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| alike(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            one.len() == two.len() && one.iter().all(|(name, value)| alike(value, &two[name]))
        }
        _ => one == two,
    }
}
