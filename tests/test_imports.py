"""The architecture as a table: who may import whom. Imports go down only.

A row is a unit of qwend/ and the units it may import besides itself, from the lowest up. A new
package needs a row here, and a new arrow an entry.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwend

ROOT = Path(qwend.__file__).parent

MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),  # qwend/__init__.py
    "errors": set(),
    "failpoint": {"errors"},
    "journal_stream": set(),
    "fault_report": {"errors"},
    "paths": {"errors"},
    "config": {"errors", "paths"},
    "wire": {"errors"},
    "host": {"errors", "failpoint"},
    "models": {"errors"},
    "engine": {"errors", "failpoint", "journal_stream"},
    "engine.startable_threads": set(),
    "engine.llama": {"errors", "engine", "engine.startable_threads"},
    "engine.snapshot_writer": {"errors", "engine"},
    "engine.hop_socket": {"errors", "failpoint", "engine"},
    "engine.worker": {
        "errors",
        "failpoint",
        "fault_report",
        "engine",
        "engine.llama",
        "engine.snapshot_writer",
        "engine.hop_socket",
    },
    "client": {"version", "errors", "paths", "wire"},
    "cli": {"version", "errors", "paths", "config", "wire", "host", "models", "client"},
    "daemon": {
        "version",
        "errors",
        "failpoint",
        "fault_report",
        "journal_stream",
        "paths",
        "config",
        "wire",
        "host",
        "models",
        "engine",
    },
}
# What does not come with Python: who may use it.
THIRD_PARTY: dict[str, set[str]] = {
    "llama_cpp": {"engine.llama"},
    "numpy": {"engine.llama"},
    "msgpack": {"wire", "engine"},
    "click": {"cli", "daemon"},
    "rich": {"cli"},
    "prompt_toolkit": {"cli"},
    "sdnotify": {"daemon"},
    "psutil": {"daemon", "host", "cli"},
}
# What does come with Python and is input or output: whose business it is not.
PURE: dict[str, set[str]] = {
    "asyncio": {"wire", "engine", "engine.llama", "engine.worker", "host", "models", "config"},
    "socket": {"wire", "engine", "engine.llama", "host", "config"},
    "subprocess": {"wire", "engine", "engine.llama", "engine.worker", "models", "config", "client"},
    "threading": {"wire", "engine", "engine.llama", "engine.worker"},
}
# Started often, or kept running for years: none may pay for the engine's libraries.
LIGHT = ("cli", "client", "daemon")


def module_names() -> list[str]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


MODULES = module_names()


def unit_of(module: str) -> str:
    """The row of the table that a module of ours belongs to."""
    inner = module.removeprefix("qwend").removeprefix(".")
    if not inner:
        return "version"
    for unit in MAY_IMPORT:
        if "." in unit and (inner == unit or inner.startswith(unit + ".")):
            return unit
    return inner.split(".")[0]


def imported_by(module: str) -> Iterator[str]:
    """The modules that a module of ours imports anywhere, inside of functions too."""
    path = ROOT.parent.joinpath(*module.split("."))
    package = path.is_dir()
    source = path / "__init__.py" if package else path.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text("utf-8"), str(source))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = module.split(".")[: None if package else -1]
                above = above[: len(above) - node.level + 1]
                origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in MODULES else origin


def own_units(module: str) -> set[str]:
    return {unit_of(name) for name in imported_by(module) if name.split(".")[0] == "qwend"}


def foreign(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported_by(module)} - {"qwend"}


def test_every_unit_has_a_row() -> None:
    assert {unit_of(module) for module in MODULES} <= set(MAY_IMPORT)


def test_the_table_has_no_circle_and_names_only_lower_rows() -> None:
    rows = list(MAY_IMPORT)
    for unit, below in MAY_IMPORT.items():
        assert below <= set(rows[: rows.index(unit)])


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    unit = unit_of(module)
    assert own_units(module) <= MAY_IMPORT[unit] | {unit}


@pytest.mark.parametrize("module", MODULES)
def test_a_library_is_imported_only_where_it_belongs(module: str) -> None:
    for name in foreign(module):
        if name in THIRD_PARTY:
            assert unit_of(module) in THIRD_PARTY[name], name
        else:
            assert name in sys.stdlib_module_names, f"{name} is in no row of THIRD_PARTY"


@pytest.mark.parametrize("module", MODULES)
def test_what_is_pure_does_no_input_or_output(module: str) -> None:
    for name in foreign(module):
        assert unit_of(module) not in PURE.get(name, set()), name


@pytest.mark.parametrize("unit", LIGHT)
def test_the_libraries_of_the_engine_are_not_loaded_by(unit: str) -> None:
    modules = [module for module in MODULES if unit_of(module) == unit]
    script = f"import sys, {', '.join(modules)}; print(*sys.modules, sep='\\n')"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT.parent
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert loaded >= set(modules)
    assert not loaded & {"llama_cpp", "numpy"}


def test_the_engine_process_loads_llama_cpp_only_when_it_opens_a_model() -> None:
    # The scripted backend must run where llama_cpp is not installed.
    script = "import sys, qwend.engine.worker; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT.parent).returncode == 0
