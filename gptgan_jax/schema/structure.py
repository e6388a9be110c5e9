"""The structure of a configuration: sections, their kinds, keys and types."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union

# The most characters of a wrong value in a message.
LONGEST_SHOWN = 120


def fields_of(cls: Any) -> dict[str, Any]:
    return cls.__pydantic_fields__


def classes_of(annotation: Any) -> list[type]:
    """The configuration dataclasses that an annotation allows."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return classes_of(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [cls for part in typing.get_args(annotation) for cls in classes_of(part)]
    return [annotation] if dataclasses.is_dataclass(annotation) else []  # type: ignore[list-item]


def kind_of(cls: Any) -> Any:
    field = fields_of(cls).get("kind")
    return None if field is None else field.default


def element_of(annotation: Any) -> Any:
    """The annotation of each element of a list of sections; None for anything else."""
    inner = typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else None
    return inner if inner is not None and classes_of(inner) else None


def annotation_of(annotation: Any, name: str, node: Any) -> Any:
    """The annotation of key `name` in a section; Any if there is no such key (which is reported later)."""
    if (element := element_of(annotation)) is not None:
        return element
    for cls in classes_of(annotation):
        if name in fields_of(cls):
            return fields_of(cls)[name].annotation
    return Any


def as_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [as_plain(one) for one in value] if isinstance(value, tuple) else value


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "|".join(str(option) for option in typing.get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else type_name(part) for part in typing.get_args(annotation))
    if origin is tuple and element_of(annotation) is not None:
        return "list of sections"
    if origin is tuple:
        return f"list of {type_name(typing.get_args(annotation)[0])}"
    if origin is Annotated:
        return type_name(typing.get_args(annotation)[0])
    if annotation is Any or dataclasses.is_dataclass(annotation):
        return "section"
    return {"str": "text", "bool": "true|false", "float": "number", "int": "integer"}.get(
        annotation.__name__, annotation.__name__
    )


def brief(value: Any) -> str:
    """A value's repr, shortened in the middle if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 2 :]}"
