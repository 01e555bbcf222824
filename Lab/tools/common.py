"""Paths, messages and errors of the lab."""
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "Lab"
STATE = ROOT / ".build-lab"
LOGS = STATE / "logs"


class LabError(Exception):
    """Something is missing or wrong; the text is one line for the user. Exit status 2."""


def cache():
    """The folder with packages and what was made from them; CELLMATE_LAB_CACHE may name another."""
    return pathlib.Path(os.environ.get("CELLMATE_LAB_CACHE") or STATE / "cache").resolve()


def say(text):
    print(f"==> {text}", flush=True)


def main(program, function):
    """Runs `function` and maps its errors to the exit status of every verb: 0, 1, 2."""
    try:
        status = function() or 0
    except LabError as error:
        print(f"{program}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
