"""Checks arrays and functions against what the docstrings say, when a function is called or traced.

Without the checks [4] and [4, 1] would silently broadcast to [4, 4]. They cost nothing in compiled programs.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

_KINDS = {"float": jnp.floating, "int": jnp.integer, "bool": jnp.bool_}


def check_arrays(function: str, **arrays: tuple[Any, str]) -> None:
    """Checks the arguments of a function.

    Args:
        function: its name, for the message.
        **arrays: for each argument the array and what it should be, such as "float [B, T]": float (of any width), int
            or bool, and its dimensions. A letter is the same number in all arguments, "..." is the same sequence of any
            length, a digit stands for itself, and "float []" is a scalar.

    Raises:
        TypeError: an argument is not an array, or has the wrong type.
        ValueError: it has the wrong shape.
    """
    known: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, (array, expected) in arrays.items():
        kind, dimensions = _parsed(expected)
        try:
            shape, dtype = tuple(array.shape), array.dtype
        except AttributeError:
            raise TypeError(f"{function}: {name} is a {type(array).__name__}, and should be {expected}") from None
        if not jnp.issubdtype(dtype, _KINDS[kind]):
            raise TypeError(f"{function}: {name} is {dtype} {list(shape)}, and should be {expected}")
        if not _fits(name, shape, dimensions, known):
            letters = [letter for letter in dimensions if letter in known and known[letter][1] != name]
            facts = [f"{letter} = {_shown(*known[letter])}" for letter in letters]
            where = f" with {', '.join(facts)}" if facts else ""
            raise ValueError(f"{function}: {name} is {dtype} {list(shape)}, and should be {expected}{where}")


def _fits(
    name: str, shape: tuple[int, ...], dimensions: tuple[str, ...], known: dict[str, tuple[tuple[int, ...], str]]
) -> bool:
    """Whether a shape has these dimensions; sizes of new letters are added to `known`."""
    free = len(shape) - len(dimensions) + 1  # dimensions that "..." covers
    if "..." not in dimensions and len(shape) != len(dimensions):
        return False
    if free < 0:
        return False
    at = 0
    for dimension in dimensions:
        width = free if dimension == "..." else 1
        found, at = shape[at : at + width], at + width
        if dimension.isdigit():
            if found != (int(dimension),):
                return False
        elif known.setdefault(dimension, (found, name))[0] != found:
            return False
    return True


def _shown(numbers: tuple[int, ...], name: str) -> str:
    return f"{numbers[0] if len(numbers) == 1 else list(numbers)} of {name}"


@functools.cache
def _parsed(expected: str) -> tuple[str, tuple[str, ...]]:
    """The kind and the dimensions of "float [B, T]"."""
    kind, _, dimensions = expected.partition(" ")
    return kind, tuple(dimensions.strip("[]").replace(" ", "").split(",")) if dimensions != "[]" else ()


def check_function(name: str, function: Any, such_as: str, gives: str, *arguments: Any) -> None:
    """Raises TypeError for something that is not a function, or does not return an array, such as a factory."""
    if not callable(function):
        raise TypeError(f"{name} should be a function, such as {such_as}, not {shown(function)}")
    wrong = f"{name}: {shown(function)}"
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"{wrong} does not take {len(arguments)} arguments ({error}), as {such_as} does: is it to be called first?"
        ) from None
    except ValueError:  # the function has no signature to check
        pass
    found: Any = None

    def probe(*arguments: Any) -> Any:
        nonlocal found
        found = function(*arguments)
        return ()

    try:
        jax.eval_shape(probe, *arguments)
    except Exception:  # may still work for the batches that it will get
        return
    if not hasattr(found, "shape"):
        raise TypeError(f"{wrong} gives {shown(found)}, and should give {gives}: is it to be called first?")


def shown(value: Any) -> str:
    """A value for a message: a function by its name, a network by its kind."""
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    return f"a {type(value).__name__}" if isinstance(value, tuple) and hasattr(value, "_fields") else repr(value)[:60]
