"""Every public name has an example in its docstring, which gives what it says.

The examples share what docs/reference.md sets up, so that each is a few lines: a batch of two texts, two tiny networks,
a gan and its state.
"""

import doctest
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from hf_folders import write_model

import gptgan_jax as gg

PAGE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")
(SET_UP,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def is_described(value: Any) -> bool:
    """Whether it has a docstring of its own: a string or an alias of types has none."""
    return inspect.ismodule(value) or str(getattr(value, "__module__", "")).startswith("gptgan_jax")


NAMES = [name for name in gg.__all__ if is_described(getattr(gg, name))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page sets up."""
    found: dict[str, Any] = {}
    exec(SET_UP, found)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where "hf:model" is a model."""
    path = tmp_path_factory.mktemp("examples")
    write_model(path / "model", gg.TransformerConfig(layers=1, width=8, heads=2))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_gives_what_it_says(
    name: str, names: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text = getattr(gg, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, dict(names), name, None, None)
    assert example.examples, f"gg.{name} has no example (>>> ...) in its docstring: see CONTRIBUTING.md"
    told: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(example, out=told.append)
    assert not told, "".join(told)
