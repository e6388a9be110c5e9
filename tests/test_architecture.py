"""Imports run down the list of rooms, so that a lower one can be read, tested and used without those above."""

import ast
import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import gptgan_jax
from gptgan_jax.system import earlier_names

PACKAGE = Path(gptgan_jax.__file__).parent
# From top to bottom; rooms of one line do not know each other.
FLOORS = [
    {"__main__"},
    {"__init__", "cli"},
    {"studies"},
    {"workflows"},
    {"export"},
    {"reports", "compiling"},
    {"training", "evaluation"},
    {"scoring"},
    {"runs"},
    {"boards", "checkpoints"},
    {"config"},
    {"algorithms", "generation", "mixtures", "pretrained", "text_rewards"},
    {"data", "metrics"},
    {"sources"},
    {"sampling"},
    {"models"},
    {"layers", "estimators"},
    {"gradients"},
    {"objectives", "readers"},
    {"distributed", "tokenization"},
    {"schema", "system"},
    {"types"},
    {"errors"},
]
MOST_FILES, MOST_LINES = 12, 400
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
        if room != room_of(file) and FLOOR_OF[room] <= FLOOR_OF[room_of(file)]
    ]
    assert not wrong


def test_nothing_lies_at_the_top_but_the_functional_api() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py", "types.py"}


def test_rooms_and_files_are_small_enough_to_be_read() -> None:
    files = modules()
    crowded = {room: count for room, count in Counter(map(room_of, files)).items() if count > MOST_FILES}
    lines = {file: len(path.read_text(encoding="utf-8").splitlines()) for file, path in files.items()}
    assert not crowded
    assert not {file: count for file, count in lines.items() if count > MOST_LINES}


def test_every_room_stands_in_the_map_of_the_house() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert not {room for room in rooms if not re.search(rf"^      {room}/ ", text, re.MULTILINE)}


@pytest.mark.parametrize("name", sorted(earlier_names.MOVED))
def test_what_moved_is_found_by_its_earlier_name_with_a_warning(name: str) -> None:
    sys.modules.pop(f"gptgan_jax.{name}", None)
    with pytest.warns(DeprecationWarning, match=re.escape(f"is now gptgan_jax.{earlier_names.MOVED[name]}")):
        earlier = importlib.import_module(f"gptgan_jax.{name}")
    now = importlib.import_module(f"gptgan_jax.{earlier_names.MOVED[name]}")
    public = [attribute for attribute in vars(now) if not attribute.startswith("_")]
    assert public
    assert all(getattr(earlier, attribute) is getattr(now, attribute) for attribute in public)


def test_an_earlier_name_is_not_in_use_again() -> None:
    assert not {name for name in earlier_names.MOVED if f"{name.replace('.', '/')}.py" in modules()}
