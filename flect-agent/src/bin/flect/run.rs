//! `flect run`: a command with the stores of its `flect.toml`, inside its app.
//!
//! Invariant: flect becomes the command (exec), so signals, exit code, terminal and standard input
//! are the command's own; nothing that flect opened stays open.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use flect_agent::manifest::{AppName, Found, LOCAL_FILE_NAME, Local, Source, Variables};
use serde_json::{Map, Value, json};

use crate::Global;
use crate::app::{self, Apps};
use crate::failure::Failure;
use crate::node::Node;

/// flect itself failed, and the command was not started; as `env`, `nohup` and `docker run` have it.
pub const FLECT_FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The arguments of `flect run`.
#[derive(clap::Args)]
pub struct Args {
    /// The app to run as [default: app in flect.toml, then the one this shell is in, then the only one you may run]
    #[arg(long, value_name = "NAME", value_parser = app_name)]
    app: Option<AppName>,
    /// The manifest [default: flect.toml in this folder or the nearest above]
    #[arg(long, value_name = "PATH")]
    manifest: Option<PathBuf>,
    /// Print the variables that the command would get, and run nothing
    #[arg(long)]
    print_env: bool,
    /// Say on stderr where each variable comes from
    #[arg(long, short)]
    verbose: bool,
    /// The command and its arguments
    #[arg(
        last = true,
        required_unless_present = "print_env",
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

fn app_name(text: &str) -> Result<AppName, String> {
    AppName::parse(text).map_err(|error| error.to_string())
}

/// Becomes the command; comes back only when that fails.
pub fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let prepared = prepare(global, args);
    if args.print_env {
        let (app, variables) = prepared?;
        print(global, app.as_deref(), &variables)?;
        return Ok(ExitCode::SUCCESS);
    }
    match prepared {
        Ok((_, variables)) => Ok(exec(&args.command, &variables)),
        Err(error) => {
            Failure::report(&error, false);
            Ok(ExitCode::from(FLECT_FAILED))
        }
    }
}

/// The variables, and the app where one is needed; unless they are only printed, this process is
/// inside that app afterwards.
fn prepare(global: &Global, args: &Args) -> anyhow::Result<(Option<String>, Variables)> {
    let (found, mut variables) = resolve(args.manifest.as_deref())?;
    let app = if variables.needs_stores() {
        Some(enter(global, args, &found, &mut variables)?)
    } else {
        None
    };
    tell(&variables, args.verbose, app.as_deref());
    Ok((app, variables))
}

/// The manifest, and what the environment and `.env.local` say about its bindings.
pub fn resolve(manifest: Option<&Path>) -> anyhow::Result<(Found, Variables)> {
    let found = Found::load(manifest)?;
    let local = Local::load(&found.path, found.folder())?;
    let variables = Variables::resolve(&found.manifest, &local, |name| std::env::var_os(name));
    Ok((found, variables))
}

fn enter(
    global: &Global,
    args: &Args,
    found: &Found,
    variables: &mut Variables,
) -> anyhow::Result<String> {
    let mut node = Node::connect(&global.socket).map_err(|error| {
        let unset: Vec<&str> = variables.unset().map(|v| v.name.as_str()).collect();
        anyhow::anyhow!(
            "{}. {} would come from it; to develop without an agent: flect dev -- COMMAND, or write it into {LOCAL_FILE_NAME}",
            crate::failure::text(&error),
            unset.join(", ")
        )
    })?;
    let apps = Apps::ask_for(&mut node, args.app.as_ref(), found)?;
    let app = apps.choose(args.app.as_ref(), found)?;
    app.has_all(found)?;
    if apps.current.as_ref() != Some(&app.name) && !args.print_env {
        app::enter(&mut node, &app.name).with_context(|| format!("entering app {}", app.name))?;
    }
    for variable in variables.unset() {
        let store = variable.kv.name.as_str();
        if app.tokens.iter().any(|name| name == store) && app.default.as_deref() != Some(store) {
            let (name, address) = (&variable.name, &apps.address);
            anstream::eprintln!(
                "flect: store {store} has a token, which flect does not know; set {name}=redis://{store}:TOKEN@{address} in {LOCAL_FILE_NAME}"
            );
        }
        let url = app.url(&apps.address, store);
        variable.value = Some(url.into());
    }
    Ok(app.name.clone())
}

/// Notes on stderr: everything with `verbose`, otherwise what is not as the manifest has it.
pub fn tell(variables: &Variables, verbose: bool, app: Option<&str>) {
    use crate::output::FAINT;
    for variable in &variables.bound {
        let name = &variable.name;
        let from = match variable.source {
            Source::Environment if variable.hides_local => {
                "the environment, which hides .env.local".to_owned()
            }
            Source::Environment => "the environment".to_owned(),
            Source::Local => ".env.local".to_owned(),
            Source::Flect if verbose => {
                let app = app.map(|app| format!(" of app {app}")).unwrap_or_default();
                format!("store {}{app}", variable.kv.name)
            }
            Source::Flect => continue,
        };
        anstream::eprintln!("{FAINT}flect: {name} from {from}{FAINT:#}");
    }
    if verbose {
        for (name, _) in &variables.others {
            anstream::eprintln!("{FAINT}flect: {name} from .env.local{FAINT:#}");
        }
    }
}

/// The variables on stdout: lines that a POSIX shell reads, or one object.
fn print(global: &Global, app: Option<&str>, variables: &Variables) -> anyhow::Result<()> {
    let assignments = variables.assignments();
    let assignments: Map<String, Value> = assignments
        .map(|(name, value)| (name.to_owned(), value.to_string_lossy().into()))
        .collect();
    let shown = json!({ "app": app, "variables": assignments });
    crate::output::print(global.json, &shown, |_| {
        variables
            .assignments()
            .map(|(name, value)| format!("{name}={}\n", quoted(&value.to_string_lossy())))
            .collect()
    })
}

/// A value as a POSIX shell takes it for one word.
pub fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Becomes the command; what comes back says why not.
pub fn exec(command: &[OsString], variables: &Variables) -> ExitCode {
    // clap asks for at least one word.
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(FLECT_FAILED);
    };
    let error = Command::new(program)
        .args(arguments)
        .envs(variables.assignments())
        .exec();
    not_started(program, &error)
}

/// Tells why a command did not start, and the exit code that says so.
pub fn not_started(program: &OsStr, error: &io::Error) -> ExitCode {
    let missing = match error.kind() {
        io::ErrorKind::NotFound => true,
        // A folder in PATH that may not be searched: execvp(3) reports it when no other has the
        // command.
        io::ErrorKind::PermissionDenied => !is_anywhere(program),
        _ => false,
    };
    let (code, reason) = if missing {
        (NOT_FOUND, "there is no such command".to_owned())
    } else {
        (NOT_EXECUTABLE, error.to_string())
    };
    let failure = anyhow::anyhow!("cannot run {}: {reason}", program.to_string_lossy());
    Failure::report(&failure, false);
    ExitCode::from(code)
}

/// Whether there is a file of that name where commands are looked for.
fn is_anywhere(program: &OsStr) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    program.as_encoded_bytes().contains(&b'/')
        || folders.any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_for_the_shell() {
        for (value, expect) in [
            ("redis://a:b@127.0.0.1:6379", "redis://a:b@127.0.0.1:6379"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's $(x)", r"'it'\''s $(x)'"),
        ] {
            assert_eq!(quoted(value), expect);
        }
    }
}
