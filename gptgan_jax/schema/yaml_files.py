"""YAML files as plain dictionaries, without further checks; the project's own configs by name."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gptgan_jax.errors import UserError, unknown

OWN = Path(__file__).parents[1] / "configs"
"""The project's own configurations."""

# More values than any configuration has; with nested anchors a few lines could exceed all memory.
LARGEST = 10_000


def file_of(path: str | Path) -> Path:
    """A file, or if there is none the project's config of that name: quickstart, configs/quickstart.yaml."""
    path = Path(path)
    name = f"{path.name.removesuffix('.yaml')}.yaml"
    for folder in (Path(), Path("studies")):
        own = OWN / folder / name
        if path.parent in (Path(), folder, Path("configs") / folder) and not path.exists() and own.is_file():
            return own
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, without further checks; an empty file is an empty mapping.

    Raises:
        UserError: a missing or malformed file, or one that is not a mapping.
    """
    try:
        raw = yaml.load(file_of(path).read_text(encoding="utf-8"), _UniqueKeyLoader)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.stem, [one.stem for one in OWN.rglob("*.yaml")], 1)
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


def read_beside(file: Path, name: Any, where: str) -> dict[str, Any]:
    """The mapping in a YAML file that another file names, relative to that file's folder.

    Raises:
        UserError: beginning with `where`; as `read_yaml`, or where the name is none.
    """
    if not isinstance(name, str):
        raise UserError(f"{where} should be a config file, not {name!r}")
    try:
        return read_yaml(file.parent / Path(name).expanduser())
    except UserError as error:
        raise error.within(where) from None


def check_keys(given: Iterable[Any], known: Sequence[str], where: str, what: str = "key") -> None:
    """Raises UserError for an unknown key or other name, with the closest known one."""
    for name in given:
        if name not in known:
            raise UserError(where + unknown(what, str(name), known))


def mapping_of(raw: Mapping[Any, Any], key: str, where: str) -> Mapping[Any, Any]:
    """The mapping under a key; empty if the key is missing.

    Raises:
        UserError: the value is something else.
    """
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}{key} should be a mapping of names to values, not a {type(value).__name__}")
    return value


def own_copy(tree: Any) -> Any:
    """A copy in which no two keys share a section, as YAML anchors make them."""
    if isinstance(tree, dict):
        return {name: own_copy(value) for name, value in tree.items()}
    return [own_copy(value) for value in tree] if isinstance(tree, list) else tree


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


def _size(tree: Any) -> int:
    """The number of values in a tree, with each anchor counted at every use; counting stops beyond `LARGEST`."""
    count, waiting = 0, [tree]
    while waiting and count <= LARGEST:
        node = waiting.pop()
        count += 1
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return count
