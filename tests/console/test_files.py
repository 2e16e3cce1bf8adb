"""The files as they are served: pinned, typed, small, and without a way to run a stranger's markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..servers import InterlockServer

CONSOLE = Path(str(files("interlock.server") / "console"))
VENDORED: dict[str, dict[str, Any]] = json.loads((CONSOLE / "vendor" / "vendored.json").read_text())
OURS = sorted(path for path in CONSOLE.rglob("*.js") if path.parent.name != "vendor")
_TSC_S = 120


def test_vendored_files_are_those_that_npm_published() -> None:
    assert {path.name for path in (CONSOLE / "vendor").glob("*.js")} == set(VENDORED)
    for name, origin in VENDORED.items():
        text = (CONSOLE / "vendor" / name).read_text()
        if "replaced" in origin:
            published, ours = origin["replaced"]
            assert text.count(ours) == 1
            text = text.replace(ours, published)
        assert sha256(text.encode()).hexdigest() == origin["sha256"], name
        assert (CONSOLE / "vendor" / origin["license"]).exists()


def test_vendored_files_are_those_of_the_pinned_packages(packages: Path) -> None:
    for name, origin in VENDORED.items():
        package, version = origin["package"].split("@")
        assert json.loads((packages / package / "package.json").read_text())["version"] == version
        published = (packages / package / origin["path"]).read_bytes()
        assert sha256(published).hexdigest() == origin["sha256"], name


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_file_is_typed_and_makes_elements_only(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// @ts-check\n")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", text)
    assert len(text.splitlines()) <= (200 if path.parent.name == "views" else 400)


def test_the_types_are_right(packages: Path, tmp_path: Path) -> None:
    source = shutil.copytree(CONSOLE, tmp_path / "console")
    (tmp_path / "node_modules").symlink_to(packages)
    # The vendored files are minified; their types are in the packages.
    for name, module in {"preact": "preact", "hooks": "preact/hooks", "htm": "htm"}.items():
        (source / "vendor" / f"{name}.js").unlink()
        what = "{ default }" if name == "htm" else "*"
        (source / "vendor" / f"{name}.d.ts").write_text(f'export {what} from "{module}";\n')
    options = {
        "allowJs": True,
        "checkJs": True,
        "lib": ["es2023", "dom", "dom.iterable"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "noEmit": True,
        "skipLibCheck": True,
        "strict": True,
        "target": "es2023",
        "types": [],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["console"]}))
    done = subprocess.run(
        [packages / ".bin" / "tsc", "-p", tmp_path],
        capture_output=True,
        text=True,
        timeout=_TSC_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_file_comes_under_a_strict_policy(server: InterlockServer) -> None:
    with httpx.Client(base_url=server.url) as http:
        for path in ["", *(str(path.relative_to(CONSOLE)) for path in CONSOLE.rglob("*") if path.is_file())]:
            response = http.get(f"/console/{path}")
            assert response.status_code == 200, path
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
        for script in ("app.js", "vendor/preact.js", "views/thread.js"):
            assert "javascript" in http.get(f"/console/{script}").headers["content-type"]


def test_every_module_is_fetched_at_once() -> None:
    page = (CONSOLE / "index.html").read_text()
    named = re.findall(r'<link rel="modulepreload" href="([^"]+)"|<script type="module" src="([^"]+)"', page)
    modules = {str(path.relative_to(CONSOLE)) for path in CONSOLE.rglob("*.js")}
    assert {preloaded or script for preloaded, script in named} == modules


def test_the_page_refers_to_nothing_outside_and_runs_nothing_inline() -> None:
    page = (CONSOLE / "index.html").read_text()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page)
