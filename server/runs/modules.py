"""Imports the modules that graphs live in, so that nobody's packages meet.

A file of a project gets a private module name made from its path within the project, so that it is
the same on every machine: stored state names the classes in it. A file of a proper package keeps
its real name when that name leads to it, and a file of our own is our own module, so nothing exists
twice.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import re
import sys
import sysconfig
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_OURS = __name__.split(".", maxsplit=1)[0]
_PRIVATE_ROOT = "interlock_project"


class ModuleNames:
    """Names for the files of one project."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root = _free_root(directory)
        self._own_folders: set[Path] = set()
        self.ambiguous: set[str] = set()
        """Top-level names that files beside different graphs share. Each graph got its own at load;
        stored state and later imports find only the first."""

    def load_file(self, path: Path) -> ModuleType:
        """Import a file.

        Raises:
            FileNotFoundError: there is none. Whatever its code raises passes through.
        """
        path = path.resolve()
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}")
        if name := _module_of_ours(path):
            return importlib.import_module(name)
        if name := _package_name(path):
            return importlib.import_module(name)
        add_import_paths([path.parent])
        with self._siblings_of(path.parent):
            return self._load_private(path)

    def _load_private(self, path: Path) -> ModuleType:
        folder = self._private_package(path.parent)
        name = f"{folder}.{_plain(path.stem)}"
        return sys.modules.get(name) or _execute(name, path)

    def _private_package(self, folder: Path) -> str:
        """Packages for a folder and those above it up to the project, so that relative imports work."""
        relative = os.path.relpath(folder, self._directory)
        parts = [] if relative == "." else relative.split(os.sep)
        name, here = self._root, self._directory
        _declare_package(name, here)
        for part in parts:
            here = here / part
            name = f"{name}.{'up' if part == '..' else _plain(part)}"
            _declare_package(name, here.resolve())
        return name

    @contextmanager
    def _siblings_of(self, folder: Path) -> Generator[None]:
        """Let `import state` mean the file beside this graph, even when another graph has one as well."""
        names = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
        others = {
            name: module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in names and self._belongs_to_another(module, folder)
        }
        for name in others:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
        self._own_folders.add(folder)
        self.ambiguous |= others.keys()
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            if others:
                for name in [name for name in sys.modules if name.partition(".")[0] in names]:
                    if _lies_in(sys.modules[name], folder):
                        del sys.modules[name]
                sys.modules.update(others)

    def _belongs_to_another(self, module: ModuleType, folder: Path) -> bool:
        return any(own != folder and _lies_in(module, own) for own in self._own_folders)


def add_import_paths(folders: Iterable[Path]) -> None:
    """Make the top-level modules of these folders importable: after the standard library, before packages."""
    site = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    place = next((index for index, entry in enumerate(sys.path) if entry in site), len(sys.path))
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(place, str(folder))
            place += 1
    importlib.invalidate_caches()


def foreign_environment(environ: Mapping[str, str], directory: Path) -> Path | None:
    """The site-packages of the project's own virtual environment, when we run from another one.

    So `interlock` may be installed apart from the project, as uv and pipx do.

    Raises:
        ImportError: that environment is for another version of Python.
    """
    for root in filter(None, (environ.get("VIRTUAL_ENV"), str(directory / ".venv"))):
        environment = Path(root).resolve()
        if not (environment / "pyvenv.cfg").exists() or environment == Path(sys.prefix).resolve():
            continue
        here = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = environment / "lib" / here / "site-packages"
        if packages.is_dir():
            return packages
        versions = (
            ", ".join(sorted(path.name for path in environment.glob("lib/python*"))) or "another Python"
        )
        raise ImportError(f"the environment {environment} has {versions}, interlock runs on {here}")
    return None


def _free_root(directory: Path) -> str:
    """The private root name; a second project in the same process gets another."""
    number = 1
    while True:
        name = _PRIVATE_ROOT if number == 1 else f"{_PRIVATE_ROOT}_{number}"
        present = sys.modules.get(name)
        if present is None or list(present.__path__) == [str(directory)]:
            return name
        number += 1


def _declare_package(name: str, folder: Path) -> None:
    if name in sys.modules:
        return
    initial = folder / "__init__.py"
    if initial.exists():
        _execute(name, initial, package_folder=folder)
        return
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)


def _execute(name: str, path: Path, *, package_folder: Path | None = None) -> ModuleType:
    """Run a file as the module of this name; a failing one leaves no trace."""
    locations = None if package_folder is None else [str(package_folder)]
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_of_ours(path: Path) -> str | None:
    package = Path(sys.modules[_OURS].__path__[0])
    for floor in package.iterdir():
        # In a checkout the floors are links to folders at the top of the repository.
        if floor.is_dir() and path.is_relative_to(floor.resolve()):
            inner = path.relative_to(floor.resolve()).with_suffix("").parts
            return ".".join([_OURS, floor.name, *(part for part in inner if part != "__init__")])
    return None


def _package_name(path: Path) -> str | None:
    """The real dotted name of a file in a package, if importing that name gives this very file."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) < 2 and path.stem != "__init__":
        return None
    add_import_paths([folder])
    name = ".".join(parts)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
    return name if spec is not None and spec.origin and Path(spec.origin).resolve() == path else None


def _plain(part: str) -> str:
    return re.sub(r"\W", "_", part)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return origin is not None and Path(origin).is_relative_to(folder)
