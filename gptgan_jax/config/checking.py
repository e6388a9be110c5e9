"""From nested dictionaries to a checked `Config`; every mistake gives one line that says what would be right."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gptgan_jax.config import MOST_SEEDS, Config, with_twin
from gptgan_jax.config.compatibility import check_custom_code
from gptgan_jax.config.structure import is_sections, nearest_key, not_sections
from gptgan_jax.data.config import UNMIXED
from gptgan_jax.data.tokenizers import FileTokenizer, IdsTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.hub import is_model, with_network
from gptgan_jax.schema.mistakes import mistakes_in
from gptgan_jax.schema.structure import as_plain, brief, classes_of, element_of, fields_of, kind_of, type_name
from gptgan_jax.schema.yaml_files import read_yaml

# Top-level keys that had another name in earlier versions and still have it in their run folders.
RENAMED = {"start_from": "init_from", "start_checkpoint": "init_checkpoint"}
# The most mistakes of one configuration to report, one line each.
MOST_TOLD = 8


def config_from(raw: dict[str, Any], source: str = "config", run_code: bool = True) -> Config:
    """The configuration given by nested dictionaries; missing keys take their defaults.

    Args:
        raw: the dictionaries.
        source: where they come from, for messages.
        run_code: see `load_config`.

    Raises:
        UserError: naming `source` and the key.
    """
    try:
        whole = with_twin(_with_run_network(with_network(raw)) if run_code else _renamed(raw))
        mistakes: list[str] = []
        checked = _checked_keys(whole, Config, "", mistakes)
        config = _validated(checked, mistakes)
        if takes_tokenizer(config):
            config = dataclasses.replace(config, tokenizer=Config().tokenizer)
        if run_code:
            check_custom_code(config)
    except UserError as error:
        raise error.within(source) from None
    except ValueError as error:  # from the user's own code
        raise UserError(f"{source}: {' '.join(str(error).split())}") from None
    return config


def replaced(config: Config, where: str, **sections: Any) -> Config:
    """The configuration with other sections; mistakes in it are told with `where` before them."""
    try:
        return dataclasses.replace(config, **sections)
    except UserError as error:
        raise UserError("\n".join(line.removeprefix("Config: ") for line in error.lines)).within(where) from None


def check_seeds(given: Any, where: str) -> None:
    """Raises UserError for what is no number of seeds."""
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_SEEDS:
        raise UserError(f"{where}: seeds {given!r} should be a whole number, at least 1 and at most {MOST_SEEDS}")


def _validated(checked: Mapping[str, Any], mistakes: Sequence[str]) -> Config:
    """The configuration from sections with known keys; mistakes that were already found are reported too.

    Raises:
        UserError: if there is any mistake, one line each.
    """
    found = list(mistakes)
    try:
        config = TypeAdapter(Config).validate_python(checked)
    except ValidationError as error:
        # With a misspelt key, later checks would report that it is missing, or that its default does not fit.
        found += mistakes_in(error, Config, ("value_error", "missing") if mistakes else ())
    if found:
        more = len(found) - MOST_TOLD
        raise UserError("\n".join([*found[:MOST_TOLD], *([f"and {more} more mistakes"] if more > 0 else [])]))
    return config


def takes_tokenizer(config: Config) -> bool:
    """Whether the tokenizer comes from `init_from`, so that the section `tokenizer` has no effect.

    A tokenizer file is checked against it, and so is text that consists of token ids.
    """
    same = config.init_from is not None and config.init_vocabulary == "same"
    return same and not isinstance(config.tokenizer, FileTokenizer | IdsTokenizer)


def _with_run_network(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The raw configuration with the generator of the run that `init_from` names, for keys that are not given.

    This excludes adapters: those that the run learned are merged into its weights.
    """
    source, given = raw.get("init_from"), raw.get("generator") or {}
    if not isinstance(source, str) or is_model(source) or not isinstance(given, Mapping):
        return raw
    file = Path(source).expanduser() / "config.yaml"
    if not os.path.isfile(file):  # reported later, when the run is read
        return raw
    theirs = read_yaml(file).get("generator")
    if not isinstance(theirs, Mapping) or given.get("kind", theirs.get("kind")) != theirs.get("kind"):
        return raw
    return {**raw, "generator": {**{name: value for name, value in theirs.items() if name != "lora"}, **given}}


def _renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an earlier version's run folder under their present names."""
    return {RENAMED.get(name, name): value for name, value in raw.items()}


def _checked_keys(raw: Any, annotation: Any, path: str, mistakes: list[str]) -> dict[str, Any]:
    """The raw section with its `kind` filled in and without its mistakes.

    Args:
        raw: the section.
        annotation: its type.
        path: of its keys, ending in a dot.
        mistakes: a line is added for each: an unknown key with the closest known one, or a value of wrong shape.
    """
    cls = _chosen(annotation, raw, path)
    if isinstance(cls, str):
        mistakes.append(cls)
        return {}
    fields = fields_of(cls)
    checked = {}
    for name, value in raw.items():
        full = f"{path}{name}"
        if name not in fields:
            mistakes.append(f"unknown key {brief(full)}{nearest_key(str(name), cls, annotation, path)}")
            continue
        is_optional = fields[name].default_factory is None  # an optional section
        if classes_of(fields[name].annotation) and not (value is None and is_optional):
            if value is None:
                value = {}
            if not isinstance(value, Mapping):
                mistakes.append(f"{full} is a section with keys of its own, not a {type(value).__name__}")
                continue
            before = len(mistakes)
            section = _over_default(fields[name], value)
            value = _checked_keys(section, fields[name].annotation, f"{full}.", mistakes)
            if not value and len(mistakes) > before:  # without its kind, the section can't be checked
                continue
        elif (element := element_of(fields[name].annotation)) is not None:
            if not is_sections(value):
                mistakes.append(not_sections(full))
                continue
            before = len(mistakes)
            value = [_checked_keys(one, element, f"{full}.{i}.", mistakes) for i, one in enumerate(value)]
            if not all(value) and len(mistakes) > before:
                continue
        elif isinstance(value, bool) and "bool" not in str(fields[name].annotation):
            # YAML's "yes" and "on" are booleans, which would pass as the number 1.
            mistakes.append(f"{full} should be {type_name(fields[name].annotation)}, not {str(value).lower()}")
            continue
        elif isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            mistakes.append(f"{full} {brief(value)} holds a character that no file has in its name; take it out")
            continue
        checked[name] = value
    return checked


def _chosen(annotation: Any, raw: Mapping[str, Any], path: str) -> type | str:
    """The dataclass of a section: the only one, or the one that its `kind` names; or the mistake, if there is none."""
    classes = classes_of(annotation)
    if len(classes) == 1:
        return classes[0]
    kinds = {kind_of(cls): cls for cls in classes}
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        why = (
            f": {UNMIXED[kind]}"
            if path.startswith("data.sources.") and isinstance(kind, str) and kind in UNMIXED
            else ""
        )
        return f"{path}kind is {brief(kind)}{why}; choose one of {', '.join(kinds)}"
    return kinds[kind]


def _over_default(field: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    """The section merged over the field's own default, unless it names another `kind`."""
    if field.default_factory is None:
        return dict(section)
    default = as_plain(field.default_factory())
    if "sources" in section and "kind" not in section:  # only a mixture has sources
        return {"kind": "mixture", **section}
    if section.get("kind", default.get("kind")) != default.get("kind"):
        return dict(section)
    return {**default, **section}
