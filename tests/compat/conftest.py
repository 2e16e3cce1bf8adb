"""The official clients: Python's is installed with the project, JavaScript's is fetched by npm once."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ..acceptance.conftest import http, server, shared_database_url

__all__ = ["http", "server", "shared_database_url"]

SCRIPTS = Path(__file__).parent / "js"
_INSTALL_S = 300
_RUN_S = 120


def installed_packages(scripts: Path = SCRIPTS) -> Path:
    """A folder outside the tree with the packages that `scripts` pins, installed once for each set of pins.

    Raises:
        AssertionError: Node or npm is missing, or the installation failed.
    """
    assert shutil.which("npm"), f"{scripts.parent.name} needs Node 20 or newer with npm"
    pins = (scripts / "package.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "interlock-tests"
    folder = cache / f"js-{sha256(pins).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            (folder / "package.json").write_bytes(pins)
            command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
            assert done.returncode == 0, done.stderr
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run one of our scripts with the official client: `found = javascript("streams.mjs", url, asked)`."""
    folder = tmp_path_factory.mktemp("js")
    # Modules are looked for beside the script, so the scripts go where the packages can be linked to.
    (folder / "node_modules").symlink_to(installed_packages() / "node_modules")
    for script in SCRIPTS.iterdir():
        shutil.copy(script, folder)

    def run(script: str, url: str, asked: Any = None) -> Any:
        done = subprocess.run(
            ["node", script, url],
            input=json.dumps(asked),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
