//! `flect kv shell`.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::tools;

/// One command, its output and its exit code.
pub fn one_command(stage: &Stage) -> Result<()> {
    let prefix = stage.create("store")?;
    let run = |words: &[&str]| stage.output(&[&["kv", "shell", "store"], words].concat());
    let check = |words: &[&str], code: i32, expect: &str| -> Result<()> {
        let output = run(words)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(code), "{words:?}: {output:?}");
        ensure!(said == expect, "{words:?} printed {said:?}");
        Ok(())
    };
    check(&["--", "SET", "user:1", "a b"], 0, "OK\n")?;
    check(&["--", "GET", "user:1"], 0, "a b\n")?;
    check(&["--no-raw", "--", "GET", "user:1"], 0, "\"a b\"\n")?;
    check(&["--", "KEYS", "*"], 0, "user:1\n")?;
    check(
        &["--no-raw", "--", "LPUSH", "user:1", "x"],
        1,
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value\n",
    )?;
    check(&["--json", "--", "KEYS", "*"], 0, "[\"user:1\"]\n")?;
    check(&["--json", "--", "GET", "none"], 0, "null\n")?;
    ensure!(
        stage.names(&prefix)? == [b":user:1".to_vec()],
        "the key has no prefix"
    );
    // What no store offers is refused here as well.
    let refused = run(&["--", "SHUTDOWN"])?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    let said = stage.fails(&["kv", "shell", "stor", "--", "PING"], 4)?;
    ensure!(said.contains("did you mean 'store'"), "{said}");
    Ok(())
}

/// One command a line, in one session; quoting as in valkey-cli.
pub fn lines(stage: &Stage) -> Result<()> {
    use std::io::Write;
    stage.create("store")?;
    let input = "SET a \"x\\n\\x41\"\n\nGET a\nMULTI\nINCR n\nEXEC\nSELECT 3\nSET k v\nDBSIZE\n\
        HELLO 3\nHSET h f 1 g 2\nHGETALL h\nSUBSCRIBE\nEVAL \"return {1,{2,'x'}}\" 0\nexit\nSET never 1\n";
    let mut command = stage.command(&["kv", "shell", "store", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no stdin")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = said.lines().collect();
    ensure!(lines.len() == 13, "{said}");
    ensure!(
        lines[..8]
            == [
                "\"OK\"",
                "\"x\\nA\"",
                "\"OK\"",
                "\"QUEUED\"",
                "[1]",
                "\"OK\"",
                "\"OK\"",
                "1"
            ],
        "{said}"
    );
    ensure!(lines[8].contains("\"proto\":3"), "{said}");
    ensure!(lines[10] == "{\"f\":\"1\",\"g\":\"2\"}", "{said}");
    ensure!(lines[11].contains("error"), "{said}");
    ensure!(lines[12] == "[1,[2,\"x\"]]", "{said}");
    ensure!(output.status.success(), "the last command succeeded");
    Ok(())
}

/// Types into a shell on a pseudo terminal: each step is what to wait for and what to type then.
const TYPING: &str = r"
import os, pty, re, select, sys, time
steps = eval(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.environ['TERM'] = 'xterm'
    os.execvp(sys.argv[2], sys.argv[2:])
said, at = b'', 0
end = time.time() + 40
def plain(text):
    return re.sub(rb'\x1b\[[0-9;?]*[a-zA-Z]', b'', text)
for wait, line in steps:
    while plain(said).find(wait, at) < 0:
        if time.time() > end:
            sys.exit('waited for %r in %r' % (wait, plain(said)[at:]))
        if select.select([fd], [], [], 1)[0]:
            try:
                piece = os.read(fd, 4096)
            except OSError:
                piece = b''
            if not piece:
                sys.exit('ended before %r: %r' % (wait, said))
            said += piece
    at = plain(said).find(wait, at) + len(wait)
    if line == b'\x03':
        # What is pressed before the command is under way is not meant for it.
        time.sleep(1)
    os.write(fd, line)
while True:
    try:
        piece = os.read(fd, 4096)
    except OSError:
        break
    if not piece:
        break
    said += piece
sys.stdout.buffer.write(plain(said))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// A session at the prompt: replies, transactions, databases, completion, Ctrl-C, history.
pub fn prompt(stage: &Stage) -> Result<()> {
    stage.create("store")?;
    let steps = r"[
        (b'store> ', b'SET greeting hello\r'),
        (b'OK', b''), (b'store> ', b'GET greeting\r'),
        (b'\x22hello\x22', b''), (b'store> ', b'MULTI\r'),
        (b'store(TX)> ', b'DISCARD\r'),
        (b'store> ', b'AUTH store sesame\r'),
        (b'store> ', b'SELECT 3\r'),
        (b'store[3]> ', b'GETS'),
        (b'GETS', b'\x15BLPOP nothing 0\r'),
        (b'BLPOP nothing 0', b''), (b'\n', b'\x03'),
        (b'store[3]> ', b'SUBSCRIBE news\r'),
        (b'Reading messages', b'\x03'),
        (b'store[3]> ', b'zrangest\t'),
        (b'zrangestore', b'\x15help get\r'),
        (b'Returns the string value', b''), (b'store[3]> ', b'\x04'),
    ]";
    let flect = stage.command(&["kv", "shell", "store"]);
    let mut command = Command::new(tools::program("python3")?);
    command.args(["-c", TYPING, steps]);
    command.arg(flect.get_program()).args(flect.get_args());
    command.env("FLECT_CONFIG_DIR", stage.bed.folder());
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let history = stage.bed.folder().join("kv-shell-history");
    let mode = std::fs::metadata(&history)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    let kept = std::fs::read_to_string(&history)?;
    ensure!(
        kept.contains("GET greeting") && !kept.contains("sesame"),
        "{kept}"
    );
    Ok(())
}
