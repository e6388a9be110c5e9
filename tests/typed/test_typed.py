"""What a type checker says of a program on the functional API: nothing, though it is asked strictly."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gptgan_jax as gg

PROGRAM = Path(__file__).with_name("whole_api.py")


def test_the_program_is_on_all_of_it() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    named = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gg"
    }
    assert set(gg.__all__) - named == set()
    assert named - set(gg.__all__) == set()


@pytest.mark.thorough
def test_mypy_finds_nothing_strictly() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(PROGRAM)],
        capture_output=True,
        text=True,
        cwd=PROGRAM.parents[2],
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("pyright", path=str(Path(sys.executable).parent)) is None, reason="no pyright here")
def test_pyright_finds_nothing() -> None:
    program = Path(sys.executable).with_name("pyright")
    found = subprocess.run(
        [program, "--pythonpath", sys.executable, str(PROGRAM)], capture_output=True, text=True, cwd=PROGRAM.parents[2]
    )
    assert found.returncode == 0, found.stdout
