"""Configurations in and out: YAML files and dotted overrides become a checked `Config`, and every mistake one line."""

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from gptgan_jax.config import Config, with_twin
from gptgan_jax.config.compatibility import check_custom_code
from gptgan_jax.config.paths import with_absolute_paths as with_absolute_paths
from gptgan_jax.config.structure import (
    annotation_of,
    as_plain,
    classes_of,
    element_of,
    fields_of,
    kind_of,
    nearest_key,
    sections_in,
    step_into,
    type_name,
)
from gptgan_jax.data.config import UNMIXED
from gptgan_jax.data.tokenizers import FileTokenizer, IdsTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.hub import is_model, with_network
from gptgan_jax.readers.files import format_of

OWN = Path(__file__).parents[1] / "configs"
"""The project's own configurations."""

# More values than any configuration has; of anchors in anchors a few lines can make more than a memory holds.
LARGEST = 10_000
# Top-level keys that had another name in earlier versions, whose run folders still have it.
RENAMED = {"start_from": "init_from", "start_checkpoint": "init_checkpoint"}
# Characters of a wrong value in a message.
LONGEST_SHOWN = 120


def load_config(path: str | Path, overrides: Sequence[str] = (), run_code: bool = True) -> Config:
    """Reads a YAML file, applies overrides `--key.path value` or `--key.path=value`, and checks everything.

    Args:
        path: of the file, or the name of one of the project's own, such as quickstart.
        overrides: over what it says.
        run_code: import the module that `objective.estimator.factory` names, if it does, to check it too, and look
            into the model that `init_from` names. Not for a file that the user hasn't chosen to train with, such as
            that of a run folder.

    Raises:
        UserError: a missing or malformed file, an unknown key (with the nearest right one), a wrong value or an
            impossible combination.
    """
    path = Path(path)
    raw = read_yaml(path)
    override(raw, overrides)
    if not raw.get("name"):
        raw["name"] = path.stem
    return with_absolute_paths(config_from(raw, str(path), run_code))


def file_of(path: str | Path) -> Path:
    """A file, or where there is none the project's own of that name: quickstart, configs/quickstart.yaml."""
    path = Path(path)
    own = OWN / f"{path.name.removesuffix('.yaml')}.yaml"
    return own if not path.exists() and path.parent in (Path(), Path("configs")) and own.is_file() else path


def override(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets keys of a raw configuration as the command line names them: `--key.path value` or `--key.path=value`.

    `--data.train FILE` alone over a configuration whose text is drawn means text, or rows where the file has such.

    Raises:
        UserError: arguments that are no such pairs, or a path through a value.
    """
    pairs = list(_pairs(overrides))
    file, data = dict(pairs).get("data.train"), raw.get("data")
    kind = data.get("kind", "grammar") if isinstance(data, dict) else "grammar"
    if file is not None and "data.kind" not in dict(pairs) and kind in ("grammar", "oracle"):
        pairs.insert(0, ("data.kind", "hf" if format_of(file.rstrip("]\"' ")) else "text"))
    for dotted, text in pairs:
        node, name, annotation = _place(raw, dotted, text, f"--{dotted}")
        lists = typing.get_origin(annotation) is tuple
        lists |= text.startswith("[") and any(typing.get_origin(one) is tuple for one in typing.get_args(annotation))
        node[name] = _value(text, lists)


def set_key(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Sets a key of a raw configuration to a value as YAML gives it; of a mapping each key, whatever else is there.

    Raises:
        UserError: a path through a value.
    """
    node, name, annotation = _place(raw, dotted, value, dotted)
    if isinstance(value, Mapping) and value and classes_of(annotation):
        # The kind first, as a new one drops the old one's keys.
        for inner in sorted(value, key=lambda inner: inner != "kind"):
            set_key(raw, f"{dotted}.{inner}", value[inner])
    else:
        node[name] = value


def config_from(raw: dict[str, Any], source: str = "config", run_code: bool = True) -> Config:
    """The configuration that nested dictionaries describe; missing keys take their defaults.

    Args:
        raw: the dictionaries.
        source: where they come from, for messages.
        run_code: see `load_config`.

    Raises:
        UserError: naming `source` and the key.
    """
    try:
        whole = with_twin(_with_run_network(with_network(raw)) if run_code else _renamed(raw))
        config = TypeAdapter(Config).validate_python(_checked_keys(whole, Config, ""))
        if takes_tokenizer(config):
            config = dataclasses.replace(config, tokenizer=Config().tokenizer)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except ValidationError as error:
        raise UserError(f"{source}: {_one_line(error)}") from None
    try:
        if run_code:
            check_custom_code(config)
    except ValueError as error:
        raise UserError(f"{source}: {' '.join(str(error).split())}") from None
    return config


def takes_tokenizer(config: Config) -> bool:
    """Whether the tokenizer is that of what the run starts from, so that the section `tokenizer` says nothing.

    A tokenizer's file is checked against it, and so is text that is token ids.
    """
    same = config.init_from is not None and config.init_vocabulary == "same"
    return same and not isinstance(config.tokenizer, FileTokenizer | IdsTokenizer)


def to_yaml(config: Config) -> str:
    """Every key with its value, as YAML that `load_config` reads back to an equal configuration."""
    plain = as_plain(config)
    if takes_tokenizer(config):
        del plain["tokenizer"]
    return yaml.safe_dump(plain, sort_keys=False)


# ---- reading


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key given twice is an error: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=name.start_mark)
            if name.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {name.value!r} is given twice", problem_mark=name.start_mark)
            seen.add(name.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, not checked any further; an empty file is an empty one.

    Raises:
        UserError: a missing or malformed file, or one that holds something else.
    """
    try:
        raw = yaml.load(file_of(path).read_text(encoding="utf-8"), _UniqueKeyLoader)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.stem, [one.stem for one in OWN.glob("*.yaml")], 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{path}: no such config file; {meant}the project's own are in {OWN}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; give a YAML file") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem or 'not valid YAML'}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; give a YAML file like those in configs/") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if _size(raw) > LARGEST:
        raise UserError(f"{path}: an anchor (&name) holds itself, or too much; write it out")
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values, not a {type(raw).__name__}")
    return raw


def _size(tree: Any) -> int:
    """How many values a tree has, each anchor counted wherever it stands; more than `LARGEST` are not counted on."""
    count, waiting = 0, [tree]
    while waiting and count <= LARGEST:
        node = waiting.pop()
        count += 1
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return count


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """("a.b", "value") for each `--a.b value` or `--a.b=value`."""
    rest = list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or len(flag) < 3:
            hint = "; of a glob the shell makes many names: put it in quotes" if os.path.exists(flag) else ""
            raise UserError(f"unexpected argument {_brief(flag)}: overrides are written --key.path value{hint}")
        dotted, equals, text = flag[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"--{dotted} needs a value: --{dotted} VALUE")
            text = rest.pop(0)
        yield dotted.replace("-", "_"), text


def _place(raw: dict[str, Any], dotted: str, value: Any, shown: str) -> tuple[dict[str, Any], str, Any]:
    """Where a key of a raw configuration lies: its section, its name there and its annotation.

    A new `kind` of a section keeps, of the section's keys, those that the new kind has too.
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


def _value(text: str, is_list: bool) -> Any:
    """An override's value: null, a [list], or text for the checker to convert to the key's type."""
    if text.lower() in ("null", "none"):
        return None
    if is_list:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"{_brief(text)} is not a list; write [1, 2, 3]") from None
    return text


# ---- checking


def _with_run_network(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A raw configuration whose `init_from` names a run has that run's generator, where it gives no key of its own.

    Adapters are not among it: those that the run learned are merged into what they adapt.
    """
    source, given = raw.get("init_from"), raw.get("generator") or {}
    if not isinstance(source, str) or is_model(source) or not isinstance(given, Mapping):
        return raw
    file = Path(source).expanduser() / "config.yaml"
    if not os.path.isfile(file):  # told later, by what reads the run
        return raw
    theirs = read_yaml(file).get("generator")
    if not isinstance(theirs, Mapping) or given.get("kind", theirs.get("kind")) != theirs.get("kind"):
        return raw
    return {**raw, "generator": {**{name: value for name, value in theirs.items() if name != "lora"}, **given}}


def _renamed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a run folder of an earlier version under their present names."""
    return {RENAMED.get(name, name): value for name, value in raw.items()}


def _checked_keys(raw: Any, annotation: Any, path: str) -> dict[str, Any]:
    """The raw section with its `kind` filled in, once every key in it is known.

    Raises:
        UserError: naming the unknown key and the nearest right one.
    """
    cls = _chosen(annotation, raw, path)
    fields = fields_of(cls)
    checked = {}
    for name, value in raw.items():
        full = f"{path}{name}"
        if name not in fields:
            raise UserError(f"unknown key {_brief(full)}{nearest_key(str(name), cls, annotation, path)}")
        is_optional = fields[name].default_factory is None  # a section that may be left out
        if classes_of(fields[name].annotation) and not (value is None and is_optional):
            if value is None:
                value = {}
            if not isinstance(value, Mapping):
                raise UserError(f"{full} is a section with keys of its own, not a {type(value).__name__}")
            value = _checked_keys(_over_default(fields[name], value), fields[name].annotation, f"{full}.")
        elif (element := element_of(fields[name].annotation)) is not None:
            value = [_checked_keys(one, element, f"{full}.{i}.") for i, one in enumerate(sections_in(value, full))]
        elif isinstance(value, bool) and "bool" not in str(fields[name].annotation):
            # YAML's "yes" and "on" are truth values, which would pass as the number 1.
            raise UserError(f"{full} should be {type_name(fields[name].annotation)}, not {str(value).lower()}")
        elif isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            raise UserError(f"{full} {_brief(value)} holds a character that no file has in its name; take it out")
        checked[name] = value
    return checked


def _chosen(annotation: Any, raw: Mapping[str, Any], path: str) -> type:
    """The dataclass of a section: the only one, or the one that its `kind` names."""
    classes = classes_of(annotation)
    if len(classes) == 1:
        return classes[0]
    kinds = {kind_of(cls): cls for cls in classes}
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        why = f": {UNMIXED[kind]}" if path.startswith("data.sources.") and kind in UNMIXED else ""
        raise UserError(f"{path}kind is {_brief(kind)}{why}; choose one of {', '.join(kinds)}")
    return kinds[kind]


def _over_default(field: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    """The section laid over the field's own default, unless it names another `kind` than that."""
    if field.default_factory is None:
        return dict(section)
    default = as_plain(field.default_factory())
    if "sources" in section and "kind" not in section:  # only a mixture has any
        return {"kind": "mixture", **section}
    if section.get("kind", default.get("kind")) != default.get("kind"):
        return dict(section)
    return {**default, **section}


def _one_line(error: ValidationError) -> str:
    """Pydantic's first complaint: key, what is wrong, what it got."""
    details = error.errors(include_url=False)
    first = details[0]
    path = _dotted(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    got = "" if first["type"] in ("value_error", "missing") else f", not {_brief(first['input'])}"
    more = f" (and {len(details) - 1} more mistakes)" if len(details) > 1 else ""
    return f"{path + ': ' if path else ''}{message.removeprefix('input ')}{got}{more}"


def _dotted(location: Sequence[str | int]) -> str:
    """Pydantic's place of a mistake as a key: after a section of several kinds it has the kind, which is in no key."""
    parts: list[str] = []
    annotation: Any = Config
    for part in location:
        classes = classes_of(annotation)
        chosen = [cls for cls in classes if kind_of(cls) == part]
        if len(classes) > 1 and chosen:
            annotation = chosen[0]
        else:
            parts.append(str(part))
            annotation = element_of(annotation) or annotation_of(annotation, str(part), {})
    return ".".join(parts)


def _brief(value: Any) -> str:
    """A value as Python writes it, its middle left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 2 :]}"


# ---- the shape of the configuration
