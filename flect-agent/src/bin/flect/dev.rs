//! `flect dev`: a private Valkey, an agent and the manifest's stores for one project, without root.
//!
//! Invariant: whatever ends `flect dev`, its servers end too: in order when it ends by itself or on
//! a signal, and by the kernel (PR_SET_PDEATHSIG) when it is killed. No password is in an argument
//! list or in a file that others may read.

mod agent;
mod folder;
mod process;
mod server;
mod signals;
mod supervise;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use flect_agent::admin::Admin;
use flect_agent::config::{Endpoint, Valkey};
use flect_agent::manifest::{Found, Source, Variables};
use flect_agent::registry::{Record, TokenDigest};
use flect_agent::store::Slug;
use serde_json::json;

use crate::Global;
use crate::failure::Failure;
use crate::operator::block_on;
use crate::output::{FAINT, GOOD};
use crate::run::{FLECT_FAILED, quoted};
use agent::Agent;
use folder::Folder;
use server::Server;
use signals::Signals;

/// What `flect --env` calls the environment of `flect dev`.
const ENVIRONMENT: &str = "dev";

/// The arguments of `flect dev`.
#[derive(clap::Args)]
pub struct Args {
    /// The manifest [default: flect.toml in this folder or the nearest above]
    #[arg(long, value_name = "PATH")]
    manifest: Option<PathBuf>,
    /// The valkey-server to run [default: the one in PATH, or else redis-server]
    #[arg(long, value_name = "PATH")]
    valkey: Option<PathBuf>,
    /// The port of the URLs, on loopback [default: the last one of this project, or a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Keep nothing: stores begin empty, and nothing is written beside flect.toml
    #[arg(long)]
    ephemeral: bool,
    /// Say on stderr where each variable comes from
    #[arg(long, short)]
    verbose: bool,
    /// The command and its arguments; without one the stores stay until Ctrl-C
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the servers and the command; the exit code is the command's.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    match develop(global, args) {
        Ok(code) => Ok(code),
        Err(error) => {
            Failure::report(&error, global.json && args.command.is_empty());
            Ok(ExitCode::from(FLECT_FAILED))
        }
    }
}

fn develop(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let (found, mut variables) = crate::run::resolve(args.manifest.as_deref())?;
    if !variables.needs_stores() {
        crate::run::tell(&variables, args.verbose, None);
        if args.command.is_empty() {
            anyhow::bail!(
                "{} needs no store of flect's: there is nothing to start",
                found.path.display()
            );
        }
        return Ok(crate::run::exec(&args.command, &variables));
    }
    let program = server::find(args.valkey.as_deref(), &variables)?;
    let signals = Signals::block()?;
    let folder = Folder::open(found.folder(), args.ephemeral)?;
    let server = Server::start(&program, &folder, args.ephemeral, &signals)?;
    let tokens = create_stores(&server, &folder, &variables)?;
    let agent = Agent::start(&server, &folder, args.port, &tokens, &signals)?;
    for variable in variables.unset() {
        let name = &variable.kv.name;
        let token = tokens.get(name).context("every store has a token")?;
        variable.value = Some(format!("redis://{name}:{token}@{}", agent.address()).into());
    }
    crate::run::tell(&variables, args.verbose, None);
    let mut servers = supervise::Servers { agent, server };
    if args.command.is_empty() {
        announce(global, &found, &folder, &variables, &servers.agent)?;
        supervise::until_ended(&signals, &mut servers)
    } else {
        let address = servers.agent.address();
        let kept = folder
            .kept()
            .map(|path| format!(", data in {}", path.display()));
        let kept = kept.unwrap_or_default();
        anstream::eprintln!("{FAINT}flect: stores on {address}{kept}{FAINT:#}");
        let more = [
            ("FLECT_CONFIG_DIR", folder.path().as_os_str()),
            ("FLECT_ENV", ENVIRONMENT.as_ref()),
        ];
        supervise::command(&args.command, &variables, &more, &signals, &mut servers)
    }
}

/// Makes the stores that are missing, and gives each the token that this project keeps for it.
fn create_stores(
    server: &Server,
    folder: &Folder,
    variables: &Variables,
) -> anyhow::Result<folder::Tokens> {
    let needed = variables.bound.iter().filter(|v| v.source == Source::Flect);
    let slugs: Vec<&Slug> = needed.map(|variable| &variable.kv.name).collect();
    let tokens = folder.tokens(&slugs)?;
    let address = Endpoint {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
    };
    let valkey = Valkey {
        environment: ENVIRONMENT.to_owned(),
        password_file: Some(folder.password_file()),
        ..Valkey::at(address)
    };
    block_on(async {
        let mut admin = Admin::connect(&valkey).await?;
        let registry = admin.registry();
        for (slug, token) in &tokens {
            let record = registry.ensure(slug).await?;
            let digest = TokenDigest::of(token.as_bytes());
            if record.token.as_ref() != Some(&digest) {
                let change = |record: &mut Record| record.token = Some(digest.clone());
                registry.change(slug, change).await?;
            }
        }
        Ok(())
    })?;
    Ok(tokens)
}

/// Without a command: what to connect to, and how to look inside.
fn announce(
    global: &Global,
    found: &Found,
    folder: &Folder,
    variables: &Variables,
    agent: &Agent,
) -> anyhow::Result<()> {
    let urls: Vec<(String, String)> = variables
        .bound
        .iter()
        .filter_map(|v| {
            Some((
                v.name.clone(),
                v.value.as_ref()?.to_string_lossy().into_owned(),
            ))
        })
        .collect();
    let shown = json!({
        "manifest": found.path,
        "folder": folder.path(),
        "address": agent.address().to_string(),
        "variables": urls.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    crate::output::print(global.json, &shown, |_| {
        let mut out = format!(
            "{GOOD}the stores of {} are ready{GOOD:#}; Ctrl-C stops them\n\n",
            found.path.display()
        );
        for (name, url) in &urls {
            out.push_str(&format!("  {name}={}\n", quoted(url)));
        }
        let path = folder.path().to_string_lossy().into_owned();
        out.push_str(&format!(
            "\n{FAINT}look inside with: FLECT_CONFIG_DIR={} FLECT_ENV={ENVIRONMENT} flect kv list{FAINT:#}",
            quoted(&path)
        ));
        out
    })?;
    // A pipe is read before the servers end.
    std::io::Write::flush(&mut std::io::stdout())?;
    Ok(())
}
