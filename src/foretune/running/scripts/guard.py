"""The process between foretune and a script: it outlives no one, and lets nothing outlive itself.

    python -I -S guard.py LOCK ARGUMENT...

runs the command of these arguments, of which it is the parent, and ends with everything that the
command has started: when the command ends, when it is told to, and when whoever started it is gone,
`kill -9` included. It is a file of its own that imports nothing of foretune, so that it starts in
hundredths of a second.

| stream          | what it carries                                                              |
|-----------------|------------------------------------------------------------------------------|
| standard input  | lines `SIGNAL SECONDS`: send it to the process group, and SIGKILL after so   |
|                 | long (inf: never); its end means that the other side is gone: SIGKILL now                 |
| standard output | lines `started PID`, `refused REASON`, `sent SIGNAL`, `ended EXIT_CODE` (minus |
|                 | the signal that ended it)                                                    |
| standard error  | what the script writes to its standard output and standard error             |

LOCK is a file that is locked as long as anything of the script may live: the next guard of the same
trial waits for it, so that no two write to one folder.
"""

import fcntl
import os
import select
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LOCK_SECONDS = 30.0  # for the guard of a run that was killed to end
LOOK_SECONDS = 1.0  # between two looks at whether the other side is there


def prctl(option: int, value: int) -> None:
    """Ask Linux for an attribute of this process; nothing elsewhere."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def say(line: str) -> None:
    """Write a line to the other side, which may be gone."""
    with suppress(OSError):
        os.write(1, f"{line}\n".encode())


def locked(path: str) -> bool:
    """Take the lock, for the life of this process; False where another one keeps it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)


def become(command: list[str], guard: int, refusals: int) -> None:
    """Turn this new process into the command, in a session of its own; never returns."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(refusals, f"{command[0]}: {error.strerror}".encode())
    os._exit(127)


def descendants(root: int) -> list[int]:
    """Process ids below `root`, as far as the system tells (Linux: all, since orphans come to
    it).
    """
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    state, parent = stream.read().rpartition(b")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in (b"Z", b"X"):
                parents[int(name)] = int(parent)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def kill_all(group: int) -> None:
    """SIGKILL to the process group and everything below this process, until nothing is left."""
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)
    reap()
    while has_children():
        for pid in descendants(os.getpid()):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
        reap()


def has_children() -> bool:
    """Whether this process has children, ended ones that nobody has waited for among them."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def reap() -> dict[int, int]:
    """Wait for children that have ended: process id -> exit code, minus the signal's number."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def watch(script: int, parent: int, wake: int) -> int | None:
    """Obey the other side until the script has ended; its exit code, None where the other side is
    gone.
    """
    deadline = None
    while True:
        wait = LOOK_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
        ready = select.select([0, wake], [], [], min(wait, LOOK_SECONDS))[0]
        if wake in ready:
            os.read(wake, 4096)
        ended = reap()
        if script in ended:
            return ended[script]
        orders = os.read(0, 4096) if 0 in ready else None
        if orders == b"" or os.getppid() != parent:
            return None
        for line in (orders or b"").decode().splitlines():
            name, _, seconds = line.partition(" ")
            deadline = time.monotonic() + float(seconds)
            with suppress(OSError):
                os.killpg(script, int(name))
            say(f"sent {name}")
        if deadline is not None and time.monotonic() >= deadline:
            os.killpg(script, signal.SIGKILL)
            deadline = None


def main(lock: str, command: list[str]) -> None:
    """Run the command, and leave nothing of it behind."""
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the other side decides what stops
    if not locked(lock):
        say(f"refused another run of this trial has been at work for {LOCK_SECONDS:.0f} s")
        return
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    refusal, refusals = os.pipe()
    guard = os.getpid()
    script = os.fork()
    if script == 0:
        become(command, guard, refusals)
    os.close(refusals)
    reason = os.read(refusal, 4096)  # ends when the command has taken over
    if reason:
        say("refused " + reason.decode(errors="replace"))
        return
    say(f"started {script}")
    code = watch(script, parent, wake)
    kill_all(script)
    if code is not None:
        say(f"ended {code}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
    os._exit(0)  # an interpreter that tidies up first would be waited for
