"""Configuration dataclasses as `help` shows them: each field with its description, and nothing of pydantic."""

import inspect
import textwrap
from typing import Any

from gptgan_jax.schema.ranges import Range

_BOUNDS = ("gt", "ge", "lt", "le")


class Described(type):
    """The metaclass of the configuration classes, whose `dir` only has what they define, as `help` uses it.

    The fields are in the docstring, and pydantic's own attributes, of dozens of lines each, would distract the reader.
    Nothing else uses this `dir`; instances have their own.
    """

    def __dir__(cls) -> list[str]:
        fields = getattr(cls, "__dataclass_fields__", {})
        return [name for name in super().__dir__() if not name.startswith("_") and name not in fields]


def listed(cls: type) -> type:
    """The class recreated with the metaclass `Described`; classes derived from one already have it."""
    if isinstance(cls, Described):
        return cls
    body = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    return Described(cls.__name__, cls.__bases__, body | {"__qualname__": cls.__qualname__})


def description_of(cls: Any) -> str:
    """The docstring with an `Attributes:` section of all fields, before its example if it has one."""
    text, heading, example = inspect.cleandoc(cls.__doc__ or "").partition("\n\nExample:")
    fields = [_line(name, field) for name, field in cls.__pydantic_fields__.items() if field.description]
    return "\n".join([text, *(["", "Attributes:", *fields] if fields else [])]) + heading + example


def _line(name: str, field: Any) -> str:
    bounds = {bound: getattr(one, bound) for one in field.metadata for bound in _BOUNDS if hasattr(one, bound)}
    allowed = f" ({Range(**bounds)})" if bounds else ""
    line = f"{name}: {field.description}{allowed}."
    return textwrap.fill(line, 112, initial_indent=" " * 4, subsequent_indent=" " * 8)
