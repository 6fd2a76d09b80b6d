//! At a terminal: it stays the command's, and Ctrl-C reaches the command once.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::Body;
use super::project::{Ended, Project, TWO};
use crate::tools::{self, Programs};

pub const TRIALS: &[(&str, Body)] = &[("terminals_belong_to_the_command", terminal)];

/// Runs the words behind it in a terminal of their own, presses Ctrl-C when they say `ready`, and
/// ends as they do.
const PRESS: &str = r"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
said = b''
pressed = False
while True:
    try:
        got = os.read(fd, 1000)
    except OSError:
        break
    if not got:
        break
    said += got
    if b'ready' in said and not pressed:
        pressed = True
        os.write(fd, b'\x03')
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Counts interrupts for half a second after the first.
const COUNT: &str = r"
import os, signal, sys, time
count = 0
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), 'ready', flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.5)
print('interrupts', count, flush=True)
sys.exit(5)
";

fn terminal() -> Result<()> {
    let project = Project::new(TWO)?;
    let python = tools::program("python3")?;
    let flect = Programs::beside_current()?.flect;
    let valkey = tools::program("valkey-server")?;
    let press = |subcommand: &[&str]| {
        let mut command = Command::new(&python);
        command
            .args(["-c", PRESS])
            .arg(&flect)
            .args(subcommand)
            .arg("--")
            .arg(&python)
            .args(["-c", COUNT])
            .current_dir(project.path())
            .stdin(Stdio::null());
        Ended::of(&mut command)
    };
    let valkey = valkey.to_string_lossy().into_owned();
    let ran = press(&["dev", "--valkey", &valkey])?.expect(5, "True True ready")?;
    ran.expect(5, "interrupts 1\r\n")?;
    project.write(
        ".env.local",
        "CACHE_URL=redis://a\nSESSION_STORE_URL=redis://b\n",
    )?;
    let ran = press(&["run"])?.expect(5, "True True ready")?;
    ran.expect(5, "interrupts 1\r\n")?;
    Ok(())
}
