"""What a data set on the disk may name: files inside its own folder, and no code.

A data set folder often comes from somebody else. `datasets` follows any path in its description files, so these paths
are checked first. In every function `where` is the start of an error message.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from gptgan_jax.errors import UserError

# The description files of `save_to_disk`: for one set, and for a dict of splits.
STATE_FILE, SPLITS_FILE = "state.json", "dataset_dict.json"
# The configurations of a folder of plain files: in the header of the first file, or the whole second file.
CARD_FILE, CARD_YAML = "README.md", ".huggingface.yaml"


def check_folder(where: str, folder: str | Path) -> None:
    """Raises UserError if a data set folder refers to a file outside of itself, by a link or in a description file."""
    root = Path(folder).resolve()
    # A snapshot in the hub's cache consists of links into the folder that holds all snapshots of its set.
    allowed = root.parents[1] if root.parent.name == "snapshots" and (root.parents[1] / "blobs").is_dir() else root
    for path in _all_paths(root):
        if path.is_symlink() and not path.resolve().is_relative_to(allowed):
            raise UserError(f"{where}: {path} is a link to {path.resolve()}, outside of the data set; copy the file in")
    for file, named in _named_files(where, root):
        if not _stays_inside(named):
            raise UserError(f"{where}: {file} names {named!r}, outside of the data set; its files must lie beside it")


def check_not_a_builder(where: str, path: str) -> None:
    """Raises UserError if a path is the name of a file format of `datasets` that this project does not read.

    Such a name is neither a folder nor a hub data set: it loads whatever files are in the current folder, and older
    releases may unpickle them.
    """
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if path in _PACKAGED_DATASETS_MODULES and not os.path.isdir(path):
        raise UserError(
            f"{where}: {path} is a format, not a data set; json, csv, tsv and parquet files are read, and plain text "
            "with data.kind text"
        )


def _all_paths(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):  # follows no links
        yield from (Path(folder) / name for name in [*folders, *files])


def _named_files(where: str, root: Path) -> Iterator[tuple[Path, str]]:
    """(description file, path that it names) for all description files of a folder."""
    state, splits = root / STATE_FILE, root / SPLITS_FILE
    for file in [state, *root.glob(f"*/{STATE_FILE}")]:
        if file.is_file():
            listed = _json(where, file).get("_data_files")
            yield from ((file, str(one.get("filename"))) for one in _dicts(listed))
    if splits.is_file():
        listed = _json(where, splits).get("splits")
        yield from ((splits, str(name)) for name in (listed if isinstance(listed, list) else ()))
    for file, card in _cards(where, root):
        for configuration in _dicts(card.get("configs")):
            found = [configuration.get("data_dir"), *_strings(configuration.get("data_files"))]
            yield from ((file, name) for name in found if isinstance(name, str))


def _cards(where: str, root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name in (CARD_FILE, CARD_YAML):
        file = root / name
        if not file.is_file():
            continue
        text = _text(where, file)
        if name == CARD_FILE:
            # Its header, if any, is between two lines of three dashes.
            parts = text.replace("\r\n", "\n").split("\n---\n", 1)
            text = parts[0].removeprefix("---\n") if parts[0].startswith("---\n") and len(parts) > 1 else ""
        try:
            card = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{where}: {file}: not valid YAML ({' '.join(str(error).split())[:120]})") from None
        if isinstance(card, dict):
            yield file, card


def _strings(value: Any) -> Iterator[str]:
    """Every string in lists and dicts, at any depth; a part that occurs twice, by a YAML anchor, only once."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list) and id(one) not in seen:
            seen.add(id(one))
            waiting += [inner for key, inner in one.items() if key != "split"] if isinstance(one, dict) else one


def _dicts(value: Any) -> list[dict[str, Any]]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict)]


def _json(where: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(where, file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {file}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{where}: {file} should hold a JSON object")
    return content


def _text(where: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {file}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise UserError(f"{where}: {file}: cannot be read ({error.strerror})") from None


def _stays_inside(name: str) -> bool:
    """Whether a path or a glob stays in the folder that it is relative to; URLs and paths into archives do not."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not (path.is_absolute() or ".." in path.parts or "::" in name or "://" in name or name.startswith("~"))
