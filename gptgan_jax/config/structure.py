"""Keys of the whole configuration: lists of sections, suggestions for wrong keys, and differences between two."""

import difflib
from collections.abc import Mapping
from typing import Any

from gptgan_jax.config.experiment import Config
from gptgan_jax.data.config import HfData, MixtureData
from gptgan_jax.errors import UserError
from gptgan_jax.schema.structure import as_plain, classes_of, fields_of, flat, kind_of


def is_sections(value: Any) -> bool:
    """Whether a raw value is a list of sections."""
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def not_sections(where: str) -> str:
    """The message for a value that should be a list of sections."""
    such = "kind: text, train: a.txt, weight: 1" if where == "data.sources" else "function: length, weight: 0.1"
    return f"{where} should be a list of sections, such as [{{{such}}}]"


def step_into(node: Any, name: str, shown: str) -> Any:
    """The value of a key of a raw section, created if there is none; an element of a list by its number or source.

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


def nearest_key(name: str, cls: type, annotation: Any, path: str) -> str:
    """What would be right: a kind of the section that has the key, a key with a similar name, or all keys."""
    fields = fields_of(cls)
    having = [str(kind_of(other)) for other in classes_of(annotation) if name in fields_of(other)]
    if path.startswith("data.sources."):
        if name in fields_of(MixtureData):
            return f": it is a key of the whole mixture; set data.{name}"
        if name in fields_of(HfData) and not having:
            return ": a source of a mixture has no labels and no columns for rewards; data.kind hf has"
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
