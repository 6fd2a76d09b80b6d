//! Explicit mode behind TLS.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Body;
use super::explicit::served;
use super::second::Options;
use crate::smoke::output;
use crate::tools;

pub const BODIES: [(&str, Body); 3] = [
    ("tls_protects_explicit_mode", clients),
    ("tls_certificates_are_renewed", renewed),
    ("tls_is_not_optional_where_it_is_set", plain_is_refused),
];

/// A certificate for localhost that signs itself, and its key.
fn certificate() -> Result<(String, String)> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("making a certificate")?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

fn clients() -> Result<()> {
    let (certificate, key) = certificate()?;
    let options = Options {
        tls: Some((certificate.clone(), key)),
        ..Options::default()
    };
    let (bed, second, tokens) = served(&["one", "two"], &options)?;
    let trusted = bed.folder().join("trusted.pem");
    fs::write(&trusted, certificate)?;
    let url = format!("rediss://one:{}@{}", tokens[0], second.address());
    let script = "import os, redis\n\
        r = redis.Redis.from_url(os.environ['URL'], ssl_ca_certs=os.environ['CA'])\n\
        r.set('a', 'b'); assert r.get('a') == b'b'\n\
        big = os.urandom(20_000_000)\n\
        r.set('big', big); assert r.get('big') == big\n\
        s = r.pubsub(); s.subscribe('news'); s.get_message(timeout=5)\n\
        r.publish('news', 'hello'); m = s.get_message(timeout=5); assert m['data'] == b'hello', m\n\
        try: r.execute_command('AUTH', 'two', os.environ['OTHER']); print('got in')\n\
        except redis.AuthenticationError: print('refused')\n\
        print(r.client_info()['addr'].split(':')[0], r.client_info()['laddr'])";
    let mut command = Command::new(tools::program("python3")?);
    command
        .env("PYTHONPATH", tools::python_packages())
        .env("URL", &url)
        .env("CA", &trusted)
        .env("OTHER", &tokens[1]);
    let got = output(command.args(["-c", script])).with_context(|| second.log())?;
    let expected = format!("refused\n127.0.0.1 {}", second.address());
    ensure!(got == expected, "{got}\ninstead of\n{expected}");
    let port = second.address().port().to_string();
    let mut command = Command::new(tools::program("valkey-cli")?);
    command
        .args(["--tls", "--cacert"])
        .arg(&trusted)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--user",
            "one",
            "--no-auth-warning",
        ])
        .env("REDISCLI_AUTH", &tokens[0])
        .args(["GET", "a"]);
    let got = output(&mut command)?;
    ensure!(got == "b", "{got}");
    ensure!(second.status()?["explicit"]["tls"] == true, "status");
    // Sessions end with their clients.
    super::soon("the end of sessions", || {
        Ok(second.status()?["sessions"] == 0)
    })
}

/// Certificates end, sessions need not: the next is taken on SIGHUP, and one that is no good is not.
fn renewed() -> Result<()> {
    let (first, second_pair) = (certificate()?, certificate()?);
    let options = Options {
        tls: Some(first.clone()),
        ..Options::default()
    };
    let (bed, second, tokens) = served(&["one"], &options)?;
    let port = second.address().port().to_string();
    let ping = |trusted: &str| -> Result<bool> {
        let path = bed.folder().join("trusted.pem");
        fs::write(&path, trusted)?;
        let mut command = Command::new(tools::program("valkey-cli")?);
        command
            .args(["--tls", "--cacert"])
            .arg(&path)
            .args(["-h", "127.0.0.1", "-p", &port, "--user", "one"])
            .arg("--no-auth-warning")
            .env("REDISCLI_AUTH", &tokens[0])
            .arg("PING");
        let output = command.output()?;
        Ok(output.status.success() && output.stdout.starts_with(b"PONG"))
    };
    ensure!(ping(&first.0)?, "{}", second.log());
    ensure!(!ping(&second_pair.0)?, "any certificate is trusted");

    let told = second.certified_anew(&first.0, "no key")?;
    let error = told["error"].as_str().unwrap_or_default();
    ensure!(error.contains("explicit.tls_key"), "{told}");
    ensure!(ping(&first.0)?, "what held does not hold any more");

    let told = second.certified_anew(&second_pair.0, &second_pair.1)?;
    ensure!(
        told["error"].is_null() && told["ignored"] == json!([]),
        "{told}"
    );
    ensure!(ping(&second_pair.0)?, "the new one is not used");
    ensure!(!ping(&first.0)?, "the old one is used still");
    Ok(())
}

/// A client that speaks plain RESP, and one that says nothing, get nothing and are let go.
fn plain_is_refused() -> Result<()> {
    let (certificate, key) = certificate()?;
    let options = Options {
        tls: Some((certificate, key)),
        ..Options::default()
    };
    let (_bed, second, tokens) = served(&["one"], &options)?;
    let mut wire = second.connect()?;
    let got = super::said(&mut wire, &format!("AUTH one {}", tokens[0]));
    ensure!(got != "OK", "served without TLS");
    let mut silent = TcpStream::connect(second.address())?;
    silent.set_read_timeout(Some(Duration::from_secs(30)))?;
    let got = std::io::Read::read(&mut silent, &mut [0; 10]);
    ensure!(matches!(got, Ok(0)), "a silent client got {got:?}");
    Ok(())
}
