"""The keys of a configuration as text, for `--help`."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml

from gptgan_jax.config import Config
from gptgan_jax.schema.structure import as_plain, classes_of, element_of, fields_of, kind_of, type_name


class Key(NamedTuple):
    """A key of a configuration.

    Attributes:
        name: as on the command line, without the leading dashes: likelihood.steps.
        meaning: one line.
        options: its values, if they are a few names.
    """

    name: str
    meaning: str
    options: tuple[str, ...] = ()


def every_key() -> list[Key]:
    """Every key once, of all kinds of each section, without the keys inside lists of sections."""
    found: dict[str, Key] = {}
    for key in _keys(Config, ""):
        options = dict.fromkeys((*found[key.name].options, *key.options)) if key.name in found else key.options
        found[key.name] = key._replace(options=tuple(options))
    return list(found.values())


def _keys(section: type, path: str) -> Iterator[Key]:
    for name, field in fields_of(section).items():
        sections = classes_of(field.annotation)
        for inner in sections:
            yield from _keys(inner, f"{path}{name}.")
        if not sections:
            literal = get_origin(field.annotation) is Literal
            options = get_args(field.annotation) if literal else ("true", "false") if field.annotation is bool else ()
            yield Key(path + name, field.description, tuple(map(str, options)))


def describe_keys() -> str:
    """Every key with its type, default and meaning, one line each, as `--help` prints it."""
    return "\n".join(_describe(Config(), ""))


def _describe(defaults: Any, path: str) -> Iterator[str]:
    """Lines for the keys of a section, given as an instance with its defaults."""
    for name, field in fields_of(type(defaults)).items():
        default, sections = getattr(defaults, name), classes_of(field.annotation)
        if not sections and field.annotation != Literal[default]:
            shown = yaml.safe_dump(as_plain(default), default_flow_style=True).split("\n")[0]
            given = "required" if field.is_required() else f"default {shown}"
            yield f"  --{path}{name}  {type_name(field.annotation)}, {given}: {field.description}"
            for section in classes_of(element_of(field.annotation)):
                if kind_of(section) is not None:
                    yield f"\n{path}{name}, each with kind {kind_of(section)}: {summary_of(section)}"
                    bare = {inner: 1 for inner, one in fields_of(section).items() if one.is_required()}
                    yield from _describe(section(**bare), f"{path}{name}.N.")
                    continue
                for inner, one in fields_of(section).items():
                    given = "required" if one.is_required() else "optional"
                    yield f"      in each, {inner}: {type_name(one.annotation)}, {given}: {one.description}"
        for section in sections:
            heading = f"{path}{name}"
            if len(sections) > 1:
                chosen = " (the default)" if section is type(default) else ""
                heading += f" with --{path}{name}.kind {kind_of(section)}{chosen}"
            yield f"\n{heading}: {summary_of(section)}"
            required = [inner for inner, one in fields_of(section).items() if one.is_required()]
            example = default if section is type(default) else section(**dict.fromkeys(required, ""))
            yield from _describe(example, f"{path}{name}.")


def summary_of(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())
