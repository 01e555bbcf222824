"""Child processes in groups of their own; nothing outlives the lab."""
import atexit
import os
import signal
import subprocess
import time

LIVE = []


def start(words, log, **more):
    """Starts a program in a new session; its output goes to the file `log`."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            [str(w) for w in words], stdin=more.pop("stdin", subprocess.DEVNULL), stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True, **more)
    LIVE.append(process)
    return process


def kill(process):
    """SIGKILL for the whole group, then the child is collected."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process in LIVE:
        LIVE.remove(process)


def stop(process, seconds=30):
    """SIGTERM and, when that does not end it in time, SIGKILL. True when it ended by itself."""
    process.terminate()
    try:
        process.wait(seconds)
        clean = True
    except subprocess.TimeoutExpired:
        clean = False
    kill(process)
    return clean


def kill_all():
    for process in list(LIVE):
        kill(process)


def install():
    """No way out of the program leaves a child behind: exit, Ctrl-C, SIGTERM, SIGHUP."""
    def leave(number, frame):
        raise KeyboardInterrupt

    atexit.register(kill_all)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def passed(self):
        return time.monotonic() >= self.end
