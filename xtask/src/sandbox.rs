//! `cargo xtask sandbox`: runs a command as an app, with a private Valkey behind a private agent.
//!
//! Invariant: nothing but the command writes to stdout, its status is ours, and everything is
//! removed whatever ends it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use flect_tests::bed::{self, Bed, NEIGHBOUR, cleanup};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::build;
use crate::setup::{self, Part};

/// What COMMAND can rely on.
const ENVIRONMENT: &str = "\
The COMMAND's environment:
  CACHE_URL, STORE2_URL ...   its stores, all at the same address; but for the first the URL's user
                              names the store, and the password repeats it, because some clients
                              send AUTH only when there is one
  VALKEY_HOST, VALKEY_PORT    that address alone
  FLECT_OPERATOR_HOST, _PORT  a plain way to the same Valkey with operator rights
  FLECT_PREFIX                what stands before ':' in the first store's keys
  FLECT_NEIGHBOUR_CGROUP      the cgroup folder of another app with a store of its own
  PATH                        has valkey-cli and valkey-benchmark at its end

The exit status is COMMAND's, 128+n when signal n ended it. Everything is removed afterwards.

  cargo xtask sandbox -- sh -c 'valkey-cli -u $CACHE_URL'
  cargo xtask sandbox --stores 2 --neighbour -- npm test";

/// The arguments of `cargo xtask sandbox`.
#[derive(clap::Args)]
#[command(after_long_help = ENVIRONMENT)]
pub struct Args {
    /// How many stores the command's app has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    stores: u16,
    /// Hand bytes over past TCP (sk_msg): as the kernel allows, always, or never
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Keep another app's store busy with writes, SCANs, pub/sub and FLUSHDBs of the same names
    #[arg(long, conflicts_with = "direct")]
    neighbour: bool,
    /// When the command has ended, keep everything until Ctrl-C or SIGTERM and say where it is
    #[arg(long)]
    keep: bool,
    /// The port of the operator's way to Valkey [default: a free one]
    #[arg(long, value_name = "P")]
    operator_port: Option<u16>,
    /// The valkey-server to use [default: the installed one]
    #[arg(long, value_name = "PATH")]
    valkey: Option<PathBuf>,
    /// The folder of flect-agent and flect [default: they are built]
    #[arg(long, value_name = "FOLDER", conflicts_with = "direct")]
    programs: Option<PathBuf>,
    /// Without flect: the same private Valkey alone, for comparison. Needs no root; further stores
    /// are further databases
    #[arg(long)]
    direct: bool,
    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `--accel`
#[derive(Clone, Copy, ValueEnum)]
pub enum Accel {
    /// What passes the agent's self-test on this kernel
    Auto,
    /// Both directions
    On,
    /// Plain TCP
    Off,
}

impl From<Accel> for bed::Acceleration {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::On => Self::On,
            Accel::Off => Self::Off,
        }
    }
}

/// Runs the command and ends as it ended.
///
/// # Errors
/// When the sandbox cannot be made or the command cannot be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no COMMAND");
    };
    if !args.direct {
        need_root(
            "sandbox",
            "with --direct it works without root, and without flect",
        )?;
    }
    if args.valkey.is_none() {
        setup::ensure(&[Part::Valkey])?;
    }
    let mut builder = Bed::builder()
        .stores(usize::from(args.stores))
        .apps(&[bed::APP1, NEIGHBOUR])
        .acceleration(args.accel.into())
        .operator_port(args.operator_port)
        .valkey(args.valkey.clone())
        .direct(args.direct);
    if !args.direct {
        builder = builder.programs(build::in_folder(args.programs.as_deref())?);
    }
    // From here on signals are for the command; until it runs, they end the sandbox.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handling signals")?;
    let watch = SignalWatch::start(signals);
    let bed = builder.start()?;
    let mut command = Command::new(program);
    command.args(arguments).envs(bed.environment());
    command.env("PATH", path_with_tools()?);
    if args.direct {
        command.env("FLECT_PREFIX", "");
    } else {
        command.env("FLECT_PREFIX", bed.prefix("store1")?);
        command.env("FLECT_NEIGHBOUR_CGROUP", bed.cgroup(NEIGHBOUR)?);
        bed.place(bed::APP1, &mut command)?;
    }
    if args.neighbour {
        bed.start_neighbour("store1")?;
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{program}: {error}");
            // As shells have it: 127 not found, 126 not to be run.
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { 127 } else { 126 }));
        }
    };
    let status = watch.wait(child)?;
    if args.keep {
        keep(&bed, &watch, status);
    }
    drop(bed);
    Ok(exit_code(status))
}

/// `PATH` with valkey-cli and valkey-benchmark behind what the caller has.
fn path_with_tools() -> Result<OsString> {
    let own = env::var_os("PATH").unwrap_or_default();
    let tools = flect_tests::tools::tools().join("bin");
    env::join_paths(env::split_paths(&own).chain([tools])).context("PATH")
}

/// Fails unless this is root.
///
/// # Errors
/// With the command to type instead.
pub fn need_root(task: &str, otherwise: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let given: Vec<_> = env::args().skip(1).collect();
    bail!(
        "`cargo xtask {task}` loads BPF programs and makes cgroups, which takes root:\n  \
         sudo -E env \"PATH=$PATH\" cargo xtask {}\n({otherwise})",
        given.join(" ")
    )
}

/// Passes signals on to the command while it runs.
struct SignalWatch {
    target: std::sync::Arc<std::sync::Mutex<Target>>,
    ended: std::sync::mpsc::Receiver<()>,
}

enum Target {
    /// No command yet: a signal ends the sandbox.
    Sandbox,
    Command(Pid),
    /// The command is over and the sandbox is kept: a signal ends the waiting.
    Waiting,
}

impl SignalWatch {
    fn start(mut signals: Signals) -> Self {
        let target = std::sync::Arc::new(std::sync::Mutex::new(Target::Sandbox));
        let (sender, ended) = std::sync::mpsc::channel();
        let shared = std::sync::Arc::clone(&target);
        thread::spawn(move || {
            for signal in signals.forever() {
                let target = shared
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                match &*target {
                    Target::Sandbox => {
                        cleanup::tear_down_all();
                        std::process::exit(128 + signal);
                    }
                    Target::Command(pid) => forward(signal, *pid),
                    Target::Waiting => {
                        let _ = sender.send(());
                    }
                }
            }
        });
        Self { target, ended }
    }

    fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            self.aim(Target::Command(pid));
        }
        let status = child.wait().context("waiting for the command");
        self.aim(Target::Waiting);
        status
    }

    fn aim(&self, target: Target) {
        *self
            .target
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = target;
    }
}

fn forward(signal: i32, pid: Pid) {
    // A terminal sends Ctrl-C to the whole group, the command included: it must not get it twice.
    let from_terminal = signal == SIGINT
        && std::fs::File::open("/dev/tty")
            .ok()
            .and_then(|tty| rustix::termios::tcgetpgrp(tty).ok())
            == Some(rustix::process::getpgrp());
    if from_terminal {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        // It may have ended just now.
        let _ = kill_process(pid, signal);
    }
}

fn keep(bed: &Bed, watch: &SignalWatch, status: ExitStatus) {
    eprintln!("sandbox: the command has ended ({status}); everything is kept until Ctrl-C");
    for (name, value) in bed.environment() {
        eprintln!("sandbox:   {name}={value}");
    }
    eprintln!("sandbox:   files: {}", bed.folder().display());
    if let Ok(cgroup) = bed.cgroup(bed::APP1) {
        eprintln!(
            "sandbox:   to run more as the same app: echo $$ > {}/cgroup.procs",
            cgroup.display()
        );
    }
    let _ = watch.ended.recv();
}

/// The command's own status, 128+n when signal n ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
