//! One virtual machine: QEMU, with the console as the way out.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flect_tests::bed::place;
use flect_tests::tools;
use signal_hook::consts::SIGKILL;

use crate::setup::Kernel;
use crate::test::Counts;

/// Valkey, Python and a value of 512 MB that passes through all of them.
const MEMORY_MEGABYTES: u32 = 4096;
/// Two, so that races between cores can happen.
const CORES: u32 = 2;
/// What the disk's init says in front of the tests' exit status.
const STATUS: &str = "flect-vm-status: ";

/// What to boot.
pub struct Machine<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// The disk.
    pub image: &'a Path,
    /// Where the console's output goes; kept when the tests fail.
    pub log: &'a Path,
    /// The shell line to run.
    pub command: &'a str,
    /// Use the processor's virtualisation instead of emulating one.
    pub kvm: bool,
    /// When to stop the machine.
    pub time_max: Duration,
}

/// How a machine ended.
pub struct Ended {
    /// What the tests' runner counted.
    pub counts: Counts,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Machine<'_> {
    /// Boots, shows the console and waits for the end.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run(&self) -> Result<Ended> {
        let mut command = self.qemu()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        place::end_with_parent(&mut command, SIGKILL);
        let mut child = Killed(command.spawn().context("starting QEMU")?);
        let stdout = child.0.stdout.take().context("QEMU's output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            // Firmware and kernel may print bytes that are no UTF-8.
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let ended = self.watch(&lines)?;
        if ended.failure.is_none() {
            // Nobody reads a log of success.
            let _ = std::fs::remove_file(self.log);
        }
        Ok(ended)
    }

    /// Boots with the console on this terminal; for looking around.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn interactive(&self) -> Result<()> {
        let status = self.qemu()?.status().context("starting QEMU")?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        std::process::exit(0);
    }

    fn watch(&self, lines: &mpsc::Receiver<String>) -> Result<Ended> {
        let deadline = Instant::now() + self.time_max;
        let mut log =
            File::create(self.log).with_context(|| format!("making {}", self.log.display()))?;
        let mut counts = Counts::default();
        let mut status: Option<String> = None;
        let kept = format!("the console: {}", self.log.display());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let minutes = self.time_max.as_secs() / 60;
                    let failure = format!("stopped after {minutes} minutes ({kept})");
                    return Ok(Ended {
                        counts,
                        failure: Some(failure),
                    });
                }
            };
            writeln!(log, "{line}")?;
            println!("  [{}] {line}", self.kernel.release);
            counts.read(&line);
            if let Some((_, said)) = line.split_once(STATUS) {
                status = Some(said.trim().to_owned());
            }
        }
        let failure = match status.as_deref() {
            Some("0") => None,
            Some(other) => Some(format!("the tests ended with status {other} ({kept})")),
            None => Some(format!(
                "the machine ended without the tests' status ({kept})"
            )),
        };
        Ok(Ended { counts, failure })
    }

    fn qemu(&self) -> Result<Command> {
        let mut command = Command::new(tools::program("qemu-system-x86_64")?);
        let run = self.command.replace(' ', "%20");
        let accelerator = if self.kvm { "kvm" } else { "tcg,thread=multi" };
        let drive = format!(
            "if=none,id=disk,format=raw,snapshot=on,file={}",
            self.image.display()
        );
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(["-accel", accelerator, "-machine", "q35"])
            // Without five-level page tables, which only make emulated page walks longer.
            .args(["-cpu", "max,la57=off"])
            .args([
                "-smp",
                &CORES.to_string(),
                "-m",
                &format!("{MEMORY_MEGABYTES}M"),
            ])
            .args(["-serial", "stdio"])
            .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"])
            .arg("-kernel")
            .arg(&self.kernel.vmlinuz)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 flect.run={run}"));
        Ok(command)
    }
}

/// A child that does not outlive its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
