"""Declares parts of a configuration: frozen dataclasses whose fields have a description and bounds.

Each field is `name: type = key(default, "meaning", ge=..., le=...)`. Types, bounds and unknown names are checked
when the dataclass is built, whether from a YAML file or in Python. `gptgan_jax.config` puts the pieces together.
"""

import functools
from typing import Any, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from gptgan_jax.errors import UserError
from gptgan_jax.schema.described import description_of, listed
from gptgan_jax.schema.mistakes import mistakes_in
from gptgan_jax.schema.ranges import Range


def key(default: Any, meaning: str, within: Range | None = None, **bounds: Any) -> Any:
    """A field of a configuration dataclass.

    Args:
        default: the default value; a callable (such as a dataclass) is called to make it.
        meaning: one line for `--help`, with the unit if there is one.
        within: the allowed numbers, if a parameter of the functional API has the same range.
        **bounds: further pydantic constraints: gt, ge, lt, le, min_length.
    """
    bounds |= within.bounds if within else {}
    if callable(default):
        return Field(default_factory=default, description=meaning, **bounds)
    return Field(default=default, description=meaning, **bounds)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config_dataclass(cls: type) -> Any:
    """Class decorator: a frozen, hashable, keyword-only dataclass that validates itself and refuses unknown keys.

    Mistakes in Python raise a UserError with one line each; inside a larger section, which pydantic validates without
    calling `__init__`, pydantic collects them. The docstring gets the description of each field.
    """
    make = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
    built: Any = make(listed(cls))
    built.__doc__ = description_of(built)
    validating = built.__init__

    @functools.wraps(validating)
    def init(self: Any, *args: Any, **keys: Any) -> None:
        try:
            validating(self, *args, **keys)
        except ValidationError as error:
            raise UserError("\n".join(mistakes_in(error, built))).within(built.__name__) from None

    built.__init__ = init
    return built
