//! `flect env add` and `flect env remove`: the user's own `environments.toml`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use flect_agent::admin::Admin;
use flect_agent::config::environments::Folders;
use flect_agent::config::{Endpoint, Tls, Valkey};
use serde_json::json;
use toml::{Table, Value};

use crate::Global;
use crate::operator::block_on;

/// The arguments of `flect env add`.
#[derive(clap::Args)]
pub struct Args {
    /// What people call it, such as production
    name: String,
    /// The shared Valkey
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    address: Endpoint,
    /// A unix socket of it on this machine, to connect over instead
    #[arg(long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// A user who may administer users and use the registry
    #[arg(long, default_value = "default")]
    user: String,
    /// A file that holds the user's password and nothing else, and that not everybody may read
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Speak TLS to it; the other --tls options say so as well
    #[arg(long)]
    tls: bool,
    /// The authorities that may have signed its certificate, a PEM file [default: the system's]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show it, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// That certificate's key, a PEM file that not everybody may read
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// The name that its certificate must have [default: the host of the address]
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl Args {
    /// `[environment.NAME.tls]`, with whole paths.
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let whole = |path: &PathBuf| {
            path.canonicalize()
                .with_context(|| path.display().to_string())
        };
        let tls = Tls {
            ca: self.tls_ca.as_ref().map(whole).transpose()?,
            certificate: self.tls_certificate.as_ref().map(whole).transpose()?,
            key: self.tls_key.as_ref().map(whole).transpose()?,
            server_name: self.tls_server_name.clone(),
        };
        Ok((self.tls || tls != Tls::default()).then_some(tls))
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::try_from(text.to_owned())
}

/// Tries the environment, then writes it down.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if args.name.is_empty() || !args.name.chars().all(plain) {
        bail!(
            "'{}' is no name: expected letters, digits, '-', '_', '.'",
            args.name
        );
    }
    let password_file = match &args.password_file {
        None => None,
        Some(path) => Some(
            path.canonicalize()
                .with_context(|| format!("password file {}", path.display()))?,
        ),
    };
    let tls = args.tls()?;
    let valkey = Valkey {
        environment: args.name.clone(),
        socket: args.unix_socket.clone(),
        user: args.user.clone(),
        password_file: password_file.clone(),
        tls: tls.clone(),
        ..Valkey::at(args.address.clone())
    };
    valkey.check().map_err(anyhow::Error::msg)?;
    block_on(async { Ok(Admin::connect(&valkey).await?) })?;
    let mut entry = Table::new();
    if let Some(tls) = &tls {
        entry.insert("tls".into(), Value::Table(table(tls)?));
    }
    entry.insert("address".into(), args.address.to_string().into());
    if let Some(path) = &args.unix_socket {
        let path = path.to_str().context("the socket's path is not UTF-8")?;
        entry.insert("socket".into(), path.into());
    }
    entry.insert("user".into(), args.user.clone().into());
    if let Some(path) = password_file {
        let path = path
            .to_str()
            .context("the password file's path is not UTF-8")?;
        entry.insert("password_file".into(), path.into());
    }
    let file = change(|environments| {
        environments.insert(args.name.clone(), Value::Table(entry));
        Ok(())
    })?;
    let shown = json!({ "added": args.name, "file": file });
    crate::output::print(global.json, &shown, |_| {
        format!("environment {} is known ({})", args.name, file.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(tls: &Tls) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let files = [
        ("ca", &tls.ca),
        ("certificate", &tls.certificate),
        ("key", &tls.key),
    ];
    for (name, path) in files {
        if let Some(path) = path {
            let path = path.to_str().context("a file's path is not UTF-8")?;
            table.insert(name.into(), path.into());
        }
    }
    if let Some(name) = &tls.server_name {
        table.insert("server_name".into(), name.clone().into());
    }
    Ok(table)
}

/// Forgets an environment.
pub fn remove(global: &Global, name: &str) -> anyhow::Result<ExitCode> {
    let file = change(|environments| match environments.remove(name) {
        Some(_) => Ok(()),
        None => bail!("your own file names no environment '{name}': flect env list"),
    })?;
    let shown = json!({ "removed": name, "file": file });
    crate::output::print(global.json, &shown, |_| {
        format!("environment {name} is forgotten here; its Valkey is as it was")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Changes the table of environments in the user's file, whole or not at all.
fn change(work: impl FnOnce(&mut Table) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let folders = Folders::from_env();
    folders.known()?;
    let path = folders.own_file();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    let mut file: Table = text.parse()?;
    let environments = file
        .entry("environment")
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
        .context("'environment' is no table")?;
    work(environments)?;
    std::fs::create_dir_all(&folders.user)
        .with_context(|| format!("cannot create {}", folders.user.display()))?;
    let new = path.with_extension("toml.new");
    std::fs::write(&new, toml::to_string(&file)?)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
