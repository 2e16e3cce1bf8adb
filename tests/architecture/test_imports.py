from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_go_down_and_never_sideways() -> None:
    """The contracts stand in `pyproject.toml`, each exception with its reason."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_command_line_does_not_load_the_heavy_libraries() -> None:
    """`interlock dev` starts Postgres before it loads them, and `--help` answers at once."""
    script = (
        "import sys; import interlock.server.cli, interlock.server.startup; "
        "print(*sorted({'langgraph', 'langchain_core', 'fastapi', 'psycopg'} & sys.modules.keys()))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
