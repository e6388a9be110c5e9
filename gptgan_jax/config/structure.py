"""The structure of the configuration: sections, their kinds, keys and types."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union

from gptgan_jax.config import Config


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


def entries_of(annotation: Any) -> list[type]:
    """The configuration dataclass that each entry of a list is; empty where they are plain values."""
    return classes_of(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is tuple else []


def kind_of(cls: Any) -> Any:
    field = fields_of(cls).get("kind")
    return None if field is None else field.default


def annotation_of(annotation: Any, name: str, node: Mapping[str, Any]) -> Any:
    """The annotation of key `name` in a section; Any where there is no such key (the check of keys says so later)."""
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
    if origin is tuple:
        return "list of sections" if entries_of(annotation) else f"list of {type_name(typing.get_args(annotation)[0])}"
    if origin is Annotated:
        return type_name(typing.get_args(annotation)[0])
    if annotation is Any or dataclasses.is_dataclass(annotation):
        return "section"
    return {"str": "text", "bool": "true|false", "float": "number", "int": "integer"}.get(
        annotation.__name__, annotation.__name__
    )


def nearest_key(name: str, cls: type, annotation: Any, path: str) -> str:
    """What would be right: a kind of the section that has the key, a key of nearly that name, or all that there are."""
    fields = fields_of(cls)
    having = [str(kind_of(other)) for other in classes_of(annotation) if name in fields_of(other)]
    if having:
        return f": it is one of {path}kind {' and '.join(having)}, and this is {kind_of(cls)}; set the kind too"
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {path + close[0]!r}?"
    return f"; the keys here are {', '.join(fields)}"


def difference(old: Config, new: Config) -> list[str]:
    """One entry per key that differs, `key: old -> new`."""
    before, after = dict(flat(as_plain(old))), dict(flat(as_plain(new)))
    keys = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in keys
        if before.get(name, "absent") != after.get(name, "absent")
    ]
