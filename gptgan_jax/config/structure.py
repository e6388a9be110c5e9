"""The structure of the configuration: sections, their kinds, keys and types."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union

from gptgan_jax.config.experiment import Config
from gptgan_jax.data.config import HfData, MixtureData
from gptgan_jax.errors import UserError


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
    """Of a list of sections the annotation of each; None for anything else."""
    inner = typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else None
    return inner if inner is not None and classes_of(inner) else None


def sections_in(value: Any, where: str) -> list[Mapping[str, Any]]:
    """A raw list of sections. Raises UserError where it is none."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        such = "kind: text, train: a.txt, weight: 1" if where == "data.sources" else "function: length, weight: 0.1"
        raise UserError(f"{where} should be a list of sections, such as [{{{such}}}]")
    return value


def step_into(node: Any, name: str, shown: str) -> Any:
    """The value of a key of a raw section, made a section where there is none; of a list by its number or source.

    Raises:
        UserError: a list without such an element.
    """
    if not isinstance(node, list):
        if node.get(name) is None:
            node[name] = {}
        return node[name]
    called = [str(one.get("source", "")).replace("-", "_") if isinstance(one, dict) else "" for one in node]
    if name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    if called.count(name) == 1:
        return node[called.index(name)]
    known = ", ".join(one for one in called if one) or f"0 to {len(node) - 1}"
    raise UserError(f"{shown}: there is none; give one's number or its key source: {known}")


def annotation_of(annotation: Any, name: str, node: Any) -> Any:
    """The annotation of key `name` in a section; Any where there is no such key (the check of keys says so later)."""
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


def nearest_key(name: str, cls: type, annotation: Any, path: str) -> str:
    """What would be right: a kind of the section that has the key, a key of nearly that name, or all that there are."""
    fields = fields_of(cls)
    if path.startswith("data.sources."):
        if name in fields_of(MixtureData):
            return f": it is a key of the whole mixture; set data.{name}"
        if name in fields_of(HfData):
            return ": a source of a mixture has no labels, and no answers beside its text; data.kind hf has"
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
