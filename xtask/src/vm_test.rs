//! `cargo xtask vm-test`: the integration tests under other kernels, in virtual machines.
//!
//! ```text
//! vmlinuz + initramfs (busybox, virtio modules)    boots, mounts the disk
//! disk image: the programs of this machine that    runs flect-integration, says its status on
//! the tests use, at the same paths                 the console, powers off
//! ```
//!
//! Invariant: a machine that does not say the tests' status has failed, and no machine runs longer
//! than its time.

mod image;
mod initramfs;
mod machine;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flect_tests::tools;

use crate::build;
use crate::setup::{self, Kernel, Part};
use crate::test::Counts;

/// Debian's kernels that the task knows: the oldest recommended, the present one, the newest.
pub const SERIES: [&str; 3] = ["6.1", "6.12", "7.3"];

/// Trials that meet other kernels in what they share with the rest: connections and cgroups. They
/// would take two thirds of an emulated machine's time.
const ABOVE_THE_KERNEL: [&str; 23] = [
    "clients::",
    "control::a_",
    "control::changes",
    "control::clients",
    "control::creators",
    "control::explicit",
    "control::hostile",
    "control::metrics",
    "control::no_store",
    "control::operators",
    "control::strangers",
    "control::tls",
    "equality::",
    "limits::",
    "protocol::",
    "restarts::",
    "sessions::",
    "smoke::clients",
    "smoke::direct_bed",
    "smoke::over_a",
    "smoke::same_keys",
    "smoke::store_wide",
    "smoke::the_user",
];

/// Half of an emulated machine's time, and tried on this machine's kernel as well: `cargo xtask test`, which has
/// forty minutes, repeats them on the oldest kernel alone.
const ATTACKS: &str = "intruders::";

/// What `--kernel` takes, and where things are.
const KERNELS: &str = "\
KERNEL is 6.1, 6.12 or 7.3, for the newest of Debian's cloud kernels of that series, which is
downloaded once and kept below target/tools; or the path of a folder that kernel packages were
unpacked into (dpkg -x), or of a vmlinuz in such a folder.

The machines are emulated, with the programs of this machine at the same paths on a throw-away disk.
When tests fail, the console's output is kept in target/vm.";

/// The arguments of `cargo xtask vm-test`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_long_help = KERNELS)]
pub struct Args {
    /// A kernel to test; may be repeated [default: 6.1 and 6.12]
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "S")]
    filter: Option<String>,
    /// Without tests whose name contains this; may be repeated
    #[arg(long, value_name = "S")]
    skip: Vec<String>,
    /// How long one machine may run
    #[arg(long, value_name = "MINUTES", default_value_t = 25)]
    timeout: u64,
    /// Use /dev/kvm instead of emulation: much faster where it works, but in virtual machines it
    /// often only seems to
    #[arg(long)]
    kvm: bool,
    /// Test the programs of this folder, such as target/debug, instead of building optimised ones
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Start a shell in the machine instead of the tests
    #[arg(long)]
    shell: bool,
    /// Leave out [`ATTACKS`] in all machines but the first
    #[arg(skip)]
    briefly: bool,
}

impl Args {
    /// What `cargo xtask test` runs: without what only speaks RESP, which is tried on this machine's
    /// kernel just before, and without [`ATTACKS`] on the newer kernels, unless it is asked for by name.
    #[must_use]
    pub fn standard(filter: Option<String>) -> Self {
        let briefly = filter.is_none();
        let skip = match filter {
            Some(_) => Vec::new(),
            None => ABOVE_THE_KERNEL.map(str::to_owned).to_vec(),
        };
        Self {
            kernel: Vec::new(),
            filter,
            skip,
            timeout: 25,
            kvm: false,
            programs: None,
            shell: false,
            briefly,
        }
    }
}

/// Boots the kernels one after the other and runs the tests in each.
///
/// # Errors
/// When a machine cannot be made.
pub fn run(args: &Args) -> Result<ExitCode> {
    let outcomes = run_all(args)?;
    let mut failed = false;
    for outcome in &outcomes {
        println!("{}", outcome.line());
        failed |= !outcome.passed();
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// How one machine ended.
pub struct Outcome {
    /// The kernel's release.
    pub release: String,
    /// What the tests' runner counted.
    pub counts: Counts,
    /// Why it failed, in words.
    pub failure: Option<String>,
    /// From power on to power off.
    pub time: Duration,
}

impl Outcome {
    /// Did every test pass?
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// One line for the summary.
    #[must_use]
    pub fn line(&self) -> String {
        let seconds = self.time.as_secs();
        let end = self.failure.as_deref().unwrap_or("ok");
        format!(
            "Linux {}: {} in {seconds} s: {end}",
            self.release, self.counts
        )
    }
}

/// Boots the kernels one after the other.
///
/// # Errors
/// When a machine cannot be made.
pub fn run_all(args: &Args) -> Result<Vec<Outcome>> {
    let parts = [Part::Bpf, Part::Valkey, Part::Clients, Part::Sdk, Part::Vm];
    setup::ensure(&parts)?;
    let names = match args.kernel.as_slice() {
        [] => vec!["6.1".to_owned(), "6.12".to_owned()],
        given => given.to_vec(),
    };
    let kernels = names
        .iter()
        .map(|name| find(name))
        .collect::<Result<Vec<_>>>()?;
    let programs = match &args.programs {
        // Its place in the machine is the same as here.
        Some(folder) => folder
            .canonicalize()
            .with_context(|| format!("--programs {}", folder.display()))?,
        None => build::tried()?,
    };
    let folder = tools::target().join("vm");
    let image = image::make(&folder, &programs).context("making the disk image")?;
    let mut args = args.clone();
    let mut outcomes = Vec::new();
    for kernel in &kernels {
        outcomes.push(boot(&args, kernel, &programs, &folder, &image)?);
        if args.briefly && !args.skip.iter().any(|skip| skip == ATTACKS) {
            args.skip.push(ATTACKS.to_owned());
        }
    }
    Ok(outcomes)
}

fn boot(
    args: &Args,
    kernel: &Kernel,
    programs: &Path,
    folder: &Path,
    image: &Path,
) -> Result<Outcome> {
    let start = Instant::now();
    let initramfs = initramfs::make(folder, kernel).context("making the initramfs")?;
    let machine = machine::Machine {
        kernel,
        initramfs: &initramfs,
        image,
        log: &folder.join(format!("console-{}.log", kernel.release)),
        command: &command(args, programs),
        kvm: args.kvm,
        time_max: Duration::from_secs(args.timeout * 60),
    };
    if args.shell {
        machine.interactive()?;
    }
    eprintln!("vm-test: booting Linux {}", kernel.release);
    let ended = machine.run()?;
    Ok(Outcome {
        release: kernel.release.clone(),
        counts: ended.counts,
        failure: ended.failure,
        time: start.elapsed(),
    })
}

/// What the machine runs, as a line for its shell.
fn command(args: &Args, programs: &Path) -> String {
    if args.shell {
        return "/bin/sh".to_owned();
    }
    let program = programs.join("flect-integration");
    let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let mut words = vec![
        quoted(&program.to_string_lossy()),
        "--color never".to_owned(),
    ];
    words.extend(args.filter.as_deref().map(quoted));
    words.extend(
        args.skip
            .iter()
            .map(|skip| format!("--skip {}", quoted(skip))),
    );
    words.join(" ")
}

fn find(name: &str) -> Result<Kernel> {
    if SERIES.contains(&name) {
        return setup::kernel(name);
    }
    let path = PathBuf::from(name);
    let above = path
        .ancestors()
        .take(6)
        .find_map(|root| setup::kernel_in(root).ok());
    above.with_context(|| {
        format!(
            "--kernel {name}: expected {} or the path of a folder (or a vmlinuz in it) that a \
             kernel package was unpacked into",
            SERIES.join(", ")
        )
    })
}
