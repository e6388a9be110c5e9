"""What `import gptgan_jax as gg` offers: all of it is there and described, and nothing of other libraries is."""

import inspect
import types
from importlib.metadata import version
from typing import Any

import pytest

import gptgan_jax as gg

MODULES = [gg, *(value for value in (getattr(gg, name) for name in gg.__all__) if inspect.ismodule(value))]
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)


def test_its_modules_are_those_that_its_docstring_names() -> None:
    assert all(f"`{module.__name__.rpartition('.')[2]}`" in (gg.__doc__ or "") for module in MODULES[1:])
    assert len(MODULES) == 6


@EACH
def test_every_public_name_is_there_and_says_what_it_is(module: types.ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value: Any = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            assert value.__doc__, f"{name} has no docstring"


@EACH
def test_nothing_of_another_library_stands_among_them(module: types.ModuleType) -> None:
    assert set(dir(module)) == set(module.__all__)
    for name in module.__all__:
        value: Any = getattr(module, name)
        if value is not Any and (inspect.isclass(value) or inspect.isroutine(value)):  # Any: Params and PyTree
            assert value.__module__.startswith("gptgan_jax"), f"{name} is of {value.__module__}"
        elif inspect.ismodule(value):
            assert value.__name__.startswith("gptgan_jax"), f"{name} is {value.__name__}"


@EACH
def test_every_public_function_and_class_of_a_module_is_among_them(module: types.ModuleType) -> None:
    own = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    }
    assert own <= set(module.__all__)


def test_what_is_built_in_has_the_protocols_functions() -> None:
    """So a class with those functions is a player or an estimator; what the type checkers say of it is in typed.py."""
    for kind, protocol in (
        (gg.Generator, gg.GeneratorProtocol),
        (gg.Discriminator, gg.DiscriminatorProtocol),
        (gg.PolicyGradient, gg.PolicyGradientProtocol),
        (gg.Pathwise, gg.PathwiseProtocol),
        (gg.SelfPlay, gg.SelfPlayProtocol),
        (gg.Mediated, gg.MediatedProtocol),
        (gg.Distillation, gg.DistillationProtocol),
    ):
        named = {name for name in vars(protocol) if not name.startswith("_")}
        fields: Any = kind
        assert named == set(fields._fields) - set(fields._field_defaults), protocol.__name__


def callees() -> dict[str, Any]:
    """What users call with names: functions with parameters, named tuples and configurations."""
    found = {name: getattr(module, name) for module in (gg, gg.data, gg.metrics) for name in module.__all__}
    return {
        name: value
        for name, value in found.items()
        if (inspect.isfunction(value) and inspect.signature(value).parameters)
        or (inspect.isclass(value) and (issubclass(value, tuple) or hasattr(value, "__pydantic_fields__")))
    }


@pytest.mark.parametrize("name", [*callees(), "Vocabulary"])
def test_a_misspelt_argument_is_told_with_the_name_that_was_meant(name: str) -> None:
    callee = callees().get(name, gg.Vocabulary)
    right = next(iter(inspect.signature(callee).parameters))
    with pytest.raises((TypeError, ValueError), match=f"'{right}x'; did you mean '"):
        callee(**{f"{right}x": 1})


def test_the_version_is_that_of_the_installed_package() -> None:
    assert gg.__version__ == version("gptgan_jax")
