"""What a forked process does: become a server as the shell would have started it. Run by `forks.py`."""

from __future__ import annotations

import json
import os
import sys

from interlock.server import cli


def main() -> None:
    """Take on session, folder, environment, import path and output; then run the command line."""
    start = json.loads(globals()["START"])
    os.setsid()
    os.chdir(start["cwd"])
    os.environ.clear()
    os.environ.update(start["env"])
    sys.path[:] = start["import_path"]
    log = os.open(start["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for output in (1, 2):
        os.dup2(log, output)
    os.close(log)
    sys.argv = ["interlock", *start["command"]]
    cli.main()


if __name__ == "__main__":
    main()
