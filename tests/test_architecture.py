"""Imports run down the list of rooms, so that a lower one can be read, tested and used without those above."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gptgan_jax

PACKAGE = Path(gptgan_jax.__file__).parent
# From top to bottom; rooms of one line do not know each other.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"training_commands"},
    {"comparing"},
    {"export", "running"},
    {"chat", "compiling", "reports", "sample_command"},
    {"distilling", "streaming", "training"},
    {"evaluation"},
    {"config_files", "runs"},
    {"__init__", "config"},
    {"algorithms", "import_command"},
    {"pretrained", "sampling"},
    {"estimators", "models"},
    {"data", "objectives", "optimizers", "partitioning"},
    {"schema"},
    {"hosts", "inverse_cdf", "ranges", "rows", "terminal", "trees", "whole_files"},
    {"errors", "interruptions", "types"},
]
# They hand on what is in a room above by now.
EARLIER_NAMES = {"objectives/baselines.py", "objectives/policy_gradients.py"}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """Files of the package by their room."""
    return {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms whose modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room they are of"
            assert node.module is not None
            names = [f"{node.module}.{name.name}" for name in node.names]
        for name in names:
            package, *parts = name.split(".")
            if package == PACKAGE.name:
                yield parts[0] if parts and parts[0] in FLOOR_OF else "__init__"


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in modules()} == set(FLOOR_OF)


def test_imports_run_down() -> None:
    wrong = [
        f"{file} imports {room}"
        for file, path in modules().items()
        for room in imported(path)
        if file not in EARLIER_NAMES and room != room_of(file) and FLOOR_OF[room] <= FLOOR_OF[room_of(file)]
    ]
    assert not wrong


@pytest.mark.parametrize("module", ["policy_gradients", "baselines"])
def test_earlier_names_of_what_estimators_of_ones_own_import_warn_and_work(module: str) -> None:
    earlier = importlib.import_module(f"gptgan_jax.objectives.{module}")
    name = {"policy_gradients": "surrogate", "baselines": "discounted_returns"}[module]
    with pytest.warns(DeprecationWarning, match=rf"gptgan_jax\.estimators\.{module}"):
        found = getattr(earlier, name)
    assert found is getattr(importlib.import_module(f"gptgan_jax.estimators.{module}"), name)
