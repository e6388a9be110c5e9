"""Configuration dataclasses as `help` shows them: each field with its meaning, and nothing of pydantic."""

import inspect
import textwrap
from typing import Any

from gptgan_jax.schema.ranges import Range

_BOUNDS = ("gt", "ge", "lt", "le")


class Described(type):
    """The type of the classes, whose `dir` is what they define: `help` goes by it.

    The fields stand in the docstring, and pydantic's own attributes, each of dozens of lines, are no business of the
    reader's. Nothing else goes by `dir`; an instance has its own.
    """

    def __dir__(cls) -> list[str]:
        fields = getattr(cls, "__dataclass_fields__", {})
        return [name for name in super().__dir__() if not name.startswith("_") and name not in fields]


def listed(cls: type) -> type:
    """The class made anew as a `Described` one; what derives from one is one already."""
    if isinstance(cls, Described):
        return cls
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return Described(cls.__name__, cls.__bases__, body | {"__qualname__": cls.__qualname__})


def description_of(cls: Any) -> str:
    """A docstring with an `Attributes:` section of all fields, in front of its example where there is one."""
    text, heading, example = inspect.cleandoc(cls.__doc__ or "").partition("\n\nExample:")
    fields = [_line(name, field) for name, field in cls.__pydantic_fields__.items() if field.description]
    return "\n".join([text, *(["", "Attributes:", *fields] if fields else [])]) + heading + example


def _line(name: str, field: Any) -> str:
    bounds = {bound: getattr(one, bound) for one in field.metadata for bound in _BOUNDS if hasattr(one, bound)}
    allowed = f" ({Range(**bounds)})" if bounds else ""
    line = f"{name}: {field.description}{allowed}."
    return textwrap.fill(line, 112, initial_indent=" " * 4, subsequent_indent=" " * 8)
