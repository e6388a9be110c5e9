"""Reads and writes configurations: YAML files and dotted overrides become a checked `Config`; mistakes are one line."""

import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from, takes_tokenizer
from gptgan_jax.config.paths import with_absolute_paths as with_absolute_paths
from gptgan_jax.config.structure import step_into
from gptgan_jax.errors import UserError
from gptgan_jax.readers.files import format_of
from gptgan_jax.schema.structure import annotation_of, as_plain, brief, classes_of, element_of, fields_of, kind_of
from gptgan_jax.schema.yaml_files import read_yaml


def load_config(path: str | Path, overrides: Sequence[str] = (), run_code: bool = True) -> Config:
    """Reads a YAML file, applies overrides `--key.path value` or `--key.path=value`, and checks everything.

    Args:
        path: of the file, or the name of one of the project's configs, such as quickstart.
        overrides: override its keys.
        run_code: also import and check the module that `objective.estimator.factory` names, and look into the model
            that `init_from` names. Not for a file that the user has not chosen to train with, such as one in a run
            folder.

    Raises:
        UserError: a missing or malformed file, an unknown key (with the closest known one), a wrong value or an
            impossible combination.
    """
    path = Path(path)
    raw = read_yaml(path)
    override(raw, overrides)
    if not raw.get("name"):
        raw["name"] = path.stem
    return with_absolute_paths(config_from(raw, str(path), run_code))


def override(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets keys of a raw configuration given as on the command line: `--key.path value` or `--key.path=value`.

    `--data.train FILE` alone, over a configuration with generated text (grammar, oracle), also sets data.kind: hf for a
    file of rows, otherwise text.

    Raises:
        UserError: arguments that are not such pairs, or a path through a value.
    """
    pairs = list(_pairs(overrides))
    file, data = dict(pairs).get("data.train"), raw.get("data")
    kind = data.get("kind", "grammar") if isinstance(data, dict) else "grammar"
    if file is not None and "data.kind" not in dict(pairs) and kind in ("grammar", "oracle"):
        pairs.insert(0, ("data.kind", "hf" if format_of(file.rstrip("]\"' ")) else "text"))
    for dotted, text in pairs:
        node, name, annotation = _place(raw, dotted, text, f"--{dotted}")
        node[name] = _value(text, annotation)


def set_key(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets a key of a raw configuration to a value from YAML; for a mapping each of its keys, keeping the others.

    Raises:
        UserError: a path through a value.
    """
    node, name, annotation = _place(raw, dotted, value, dotted)
    if isinstance(value, Mapping) and value and classes_of(annotation):
        # The kind first, as a new kind drops keys of the old one.
        for inner in sorted(value, key=lambda inner: inner != "kind"):
            set_key(raw, f"{dotted}.{inner}", value[inner])
    else:
        node[name] = value


def to_yaml(config: Config) -> str:
    """Every key with its value, as YAML that `load_config` reads back to an equal configuration."""
    plain = as_plain(config)
    if takes_tokenizer(config):
        del plain["tokenizer"]
    return yaml.safe_dump(plain, sort_keys=False)


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """("a.b", "value") for each `--a.b value` or `--a.b=value`."""
    rest = list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or len(flag) < 3:
            hint = "; of a glob the shell makes many names: put it in quotes" if os.path.exists(flag) else ""
            raise UserError(f"unexpected argument {brief(flag)}: overrides are written --key.path value{hint}")
        dotted, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{dotted} needs a value: --{dotted} VALUE")
            text = rest.pop(0)
        yield dotted.replace("-", "_"), text


def _place(raw: dict[str, Any], dotted: str, value: Any, shown: str) -> tuple[dict[str, Any], str, Any]:
    """The place of a key in a raw configuration: its section, its name there and its annotation.

    If a section gets a new `kind`, it keeps only the keys that the new kind has too.
    """
    *parents, last = dotted.split(".")
    node: Any = raw
    annotation: Any = Config
    for depth, name in enumerate(parents):
        here = ".".join(parents[: depth + 1])
        annotation = annotation_of(annotation, name, node)
        if annotation is not Any and not classes_of(element_of(annotation) or annotation):
            raise UserError(f"{shown}: {here} is a value, not a section")
        node = step_into(node, name, f"{shown}: {here}")
        if not isinstance(node, dict | list):
            raise UserError(f"{shown}: {here} is a value, not a section")
    if isinstance(node, list):
        raise UserError(
            f"{shown}: {'.'.join(parents)} is a list; name a key of one, such as {'.'.join(parents)}.0.weight"
        )
    if last == "kind":
        kinds = {kind_of(cls): cls for cls in classes_of(annotation)}
        if isinstance(value, str) and value in kinds:
            for name in [name for name in node if name not in fields_of(kinds[value])]:
                del node[name]
    return node, last, annotation_of(annotation, last, node)


def _value(text: str, annotation: Any) -> Any:
    """An override's value: null, a [list], or text for the checker to convert to the key's type."""
    united = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if united else (annotation,)
    choices = [
        choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    ]
    if text in choices:  # such as "none"
        return text
    if text.lower() in ("null", "none"):
        return None
    if not any(typing.get_origin(kind) is tuple for kind in kinds) or (str in kinds and not text.startswith("[")):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if str in kinds and not isinstance(value, list):  # a glob such as [ab]*.txt
        return text
    if value is None:
        raise UserError(f"{brief(text)} is not a list; write [1, 2, 3]")
    return value
