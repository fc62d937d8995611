"""The codec's plain-Python form beside the compiled one, to compare them and to trace the first."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

import engine.codec

PACKAGE = "engine.codec"
FOLDER = Path(engine.codec.__file__).parent
Transform = Callable[[CodeType], CodeType]


class SourceLoader(SourceFileLoader):
    """Loads a .py file, its code changed by `transform`: a fuzzer puts its counters in."""

    def __init__(self, fullname: str, path: str, transform: Transform) -> None:
        super().__init__(fullname, path)
        self.transform = transform

    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        return None if code is None else self.transform(code)


class SourceFinder(MetaPathFinder):
    """Finds `engine.codec.*` in its .py files only, also where compiled ones lie beside them."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        source = FOLDER / f"{name}.py"
        if package != PACKAGE or not source.exists():
            return None
        loader = SourceLoader(fullname, str(source), self.transform)
        return spec_from_file_location(fullname, source, loader=loader)


@contextmanager
def interpreted_imports(transform: Transform = lambda code: code) -> Iterator[None]:
    """Inside, imports from engine.codec give the interpreted form; afterwards all is as it was."""
    package = sys.modules[PACKAGE]
    prefix = PACKAGE + "."
    hidden = {name: module for name, module in sys.modules.items() if name.startswith(prefix)}
    for name in hidden:
        del sys.modules[name]
    finder = SourceFinder(transform)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(prefix)]:
            del sys.modules[name]
        sys.modules.update(hidden)
        for name, module in hidden.items():
            setattr(package, name.removeprefix(prefix), module)


def interpreted(name: str) -> ModuleType:
    """Import `engine.codec.<name>` as plain Python, with all it imports from the codec."""
    with interpreted_imports():
        return importlib.import_module(f"{PACKAGE}.{name}")
