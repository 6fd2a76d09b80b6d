//! `flect-agent`, the daemon of a node.

mod accept;
mod announce;
mod bounded;
mod companions;
mod control;
mod daemon;
mod enter;
mod explicit;
mod follow;
mod gate;
mod handover;
mod hooks;
mod keeper;
mod leaving;
mod log;
mod login;
mod metrics;
mod monitoring;
mod news;
mod node;
mod page;
mod pursuit;
mod refusals;
mod reload;
mod serving;
mod settings;
mod status;
mod stores;
mod supervisor;
mod understudies;
mod vitals;
mod warden;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use flect_agent::config::{Config, ConfigError, DEFAULT_PATH, LogFormat};
use flect_agent::confinement;
use flect_agent::interception;

use crate::daemon::Begin;
use crate::supervisor::Supervisor;

/// Gives every app of this node its own store on a shared Valkey.
#[derive(Parser)]
#[command(name = "flect-agent", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run in the foreground until SIGTERM or SIGINT. The kernel hooks stay afterwards, so that
    /// connections are refused instead of reaching Valkey unrewritten. Exit code 78 when the
    /// configuration is not valid, 1 after any other failure.
    Run {
        /// The configuration file.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// What lines of the log look like, whatever the configuration says.
        #[arg(long, value_name = "FORMAT")]
        log_format: Option<Format>,
    },
    /// Take over from the agent that runs: as `run`, but nobody is refused meanwhile. Listening sockets and
    /// sessions are handed over, and the running agent ends once this one serves; until then it serves on,
    /// whatever becomes of this one. Under systemd use `systemctl restart flect-agent`, which does the same.
    Upgrade {
        /// The configuration file; its agent.socket says which agent.
        #[arg(long, default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// What lines of the log look like, whatever the configuration says.
        #[arg(long, value_name = "FORMAT")]
        log_format: Option<Format>,
    },
    /// Check a configuration file; exit code 0 when it is valid, 78 otherwise.
    Check {
        /// The configuration file.
        config: PathBuf,
    },
    /// Have the agent listen in a workload's network namespace before its program runs: a hook for
    /// container runtimes. Without it the first connections of a new namespace are refused for up to
    /// some milliseconds. Exit code 0 when connections are taken, 1 otherwise.
    Notify(announce::Args),
    /// Write the manual's pages: for packages.
    #[command(hide = true)]
    Man {
        /// The folder.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Remove the kernel hooks. From then on apps reach whatever listens at the address that they
    /// ask for, with their own credentials and unprefixed keys.
    Detach {
        /// The configuration file that names the folder of pins.
        #[arg(long, conflicts_with = "pin")]
        config: Option<PathBuf>,
        /// The folder of pins itself.
        #[arg(long, value_name = "DIR")]
        pin: Option<PathBuf>,
    },
}

/// [`LogFormat`] on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Run { config, log_format } => run(&config, log_format, false),
        Command::Upgrade { config, log_format } => run(&config, log_format, true),
        Command::Check { config } => check(&config),
        Command::Notify(args) => announce::run(&args),
        Command::Man { out } => man(&out),
        Command::Detach { config, pin } => detach(config, pin),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flect-agent: {error:#}");
            match error.is::<ConfigError>() {
                true => ExitCode::from(EX_CONFIG),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// What programs end with whose configuration is at fault (sysexits.h): the unit is not started again with it.
const EX_CONFIG: u8 = 78;

fn run(path: &std::path::Path, format: Option<Format>, succeeds: bool) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    log::start(&config.agent.log, format.map(LogFormat::from))?;
    // An agent that comes no further has said at least this.
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %path.display(),
        upgrade = succeeds,
        "starting"
    );
    let supervisor = Arc::new(Supervisor::of_environment());
    let begin = match succeeds {
        true => Begin::Succeeding,
        false => Begin::inheriting(&supervisor),
    };
    // Before there is a second thread.
    confinement::process()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop")?
        .block_on(daemon::run(path.to_owned(), config, supervisor, begin))
}

fn check(path: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let stores: std::collections::BTreeSet<_> =
        config.apps.iter().flat_map(|app| &app.stores).collect();
    println!(
        "{}: valid; {} apps, {} stores, Valkey at {}",
        path.display(),
        config.apps.len(),
        stores.len(),
        config.valkey.address
    );
    Ok(())
}

fn man(out: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), out))
        .with_context(|| format!("cannot write to {}", out.display()))
}

fn detach(config: Option<PathBuf>, pin: Option<PathBuf>) -> anyhow::Result<()> {
    let pin = match pin {
        Some(pin) => pin,
        None => {
            let path = config.unwrap_or_else(|| DEFAULT_PATH.into());
            Config::load(&path)?.intercept.pin
        }
    };
    let report = interception::detach(&pin)?;
    if report.removed.is_empty() {
        println!("nothing is attached under {}", pin.display());
        return Ok(());
    }
    println!(
        "removed {} kernel objects under {}:",
        report.removed.len(),
        pin.display()
    );
    for object in &report.removed {
        println!("  {object}");
    }
    println!(
        "Connections are no longer intercepted: an app now reaches whatever listens at the address it asks for."
    );
    Ok(())
}
