"""What `import gptgan_jax as gg` offers: all of it is there and described, and nothing of other libraries is."""

import types
from importlib.metadata import version
from typing import Any

import pytest

import gptgan_jax as gg


@pytest.mark.parametrize("module", [gg, gg.metrics], ids=lambda m: m.__name__)
def test_every_public_name_is_there_and_says_what_it_is(module: types.ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value: Any = getattr(module, name)
        assert name == "__version__" or getattr(value, "__doc__", None), f"{name} has no docstring"


@pytest.mark.parametrize("module", [gg, gg.metrics], ids=lambda m: m.__name__)
def test_nothing_of_another_library_stands_among_them(module: types.ModuleType) -> None:
    for name in dir(module):
        value = getattr(module, name)
        if not name.startswith("_") and isinstance(value, types.ModuleType):
            assert value.__name__.startswith("gptgan_jax"), f"{name} is {value.__name__}"
        elif not name.startswith("_"):
            assert name in module.__all__, f"{name} is neither public nor a module"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert gg.__version__ == version("gptgan_jax")
