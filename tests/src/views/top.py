# Runs `flect top` on a terminal of its own: presses keys, changes the size, ends it. Prints what it
# found, for the trial to compare.
import fcntl, os, pty, re, select, signal, struct, sys, termios, time


def start(arguments, environment=None):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.environ.update(environment or {})
        os.execv(arguments[0], arguments)
    resize(terminal, 24, 80)
    return pid, terminal


def resize(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def visible(text):
    # A terminal is told only what changes, and blanks are jumped over.
    return re.sub(r"\s", "", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def read_until(terminal, wanted, seconds=20, must=True):
    seen = ""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Nobody has the other side any more.
                break
            seen += part.decode(errors="replace")
            if wanted is not None and visible(wanted) in visible(seen):
                return seen
    if wanted is not None and must:
        sys.exit(f"did not see {wanted!r} in {visible(seen)[-2000:]!r}")
    return None if wanted else seen


def redrawn(terminal, wanted):
    # A new size is drawn as a whole, but it may be noticed before the keys are.
    for rows in range(40, 50):
        resize(terminal, rows, 120)
        if read_until(terminal, wanted, 2, must=False) is not None:
            return
    sys.exit(f"did not see {wanted!r}")


def ended(pid, terminal):
    seen = read_until(terminal, None, 20)
    status = os.waitpid(pid, 0)[1]
    restored = "\x1b[?1049l" in seen and "\x1b[?25h" in seen
    code = os.waitstatus_to_exitcode(status)
    return f"{code} {'restored' if restored else repr(seen[-500:])}"


command = sys.argv[1:]
# Keys, a filter, help, a new size.
pid, terminal = start(command)
seen = read_until(terminal, "HOTTEST COMMANDS")
print("colours" if "\x1b[38;5;" in seen or "\x1b[36m" in seen else "no colours")
os.write(terminal, b"?")
# A new size is drawn as a whole.
resize(terminal, 30, 90)
read_until(terminal, "Any key closes this.")
os.write(terminal, b"x/sess\r")
redrawn(terminal, "filter 'sess'")
os.write(terminal, b"q")
print("q", ended(pid, terminal))
for name in ("SIGTERM", "SIGINT", "SIGHUP"):
    pid, terminal = start(command)
    read_until(terminal, "STORE")
    os.kill(pid, getattr(signal, name))
    print(name, ended(pid, terminal))
pid, terminal = start(command)
read_until(terminal, "STORE")
os.write(terminal, b"\x03")
print("Ctrl-C", ended(pid, terminal))
pid, terminal = start(command, {"NO_COLOR": "1"})
seen = read_until(terminal, "STORE")
print("colours" if re.search(r"\x1b\[(3[0-7]|38;)", seen) else "no colours")
os.write(terminal, b"q")
ended(pid, terminal)
