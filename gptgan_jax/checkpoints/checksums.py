"""The size and checksum of every file of a folder, stored next to them, to find damage before the files are used.

Orbax notices a file that is missing or truncated, but loads a flipped bit as a parameter.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

CHECKSUMS_FILE = "checksums.json"
_TEMPORARY_FILE = f"{CHECKSUMS_FILE}.tmp"


def write_checksums(folder: epath.Path, left_out: Sequence[str] = ()) -> None:
    """Writes checksums.json into a folder atomically: the size and BLAKE2b of each file in it, at any depth.

    Args:
        folder: local or remote; each file is read back once.
        left_out: files at the top of the folder that will still change.
    """
    left_out = (*left_out, CHECKSUMS_FILE, _TEMPORARY_FILE)
    listed = {name: _entry(file) for name, file in _files(folder) if name not in left_out}
    (folder / _TEMPORARY_FILE).write_text(json.dumps(listed, indent=0, sort_keys=True))
    (folder / _TEMPORARY_FILE).replace(folder / CHECKSUMS_FILE)


def damage(folder: epath.Path, within: str = "") -> str | None:
    """The first damage in a folder according to its checksums.json, naming the file; None if all files are intact.

    Args:
        folder: local or remote.
        within: check only files whose path in the folder begins with this.

    Raises:
        FileNotFoundError: there is no checksums.json.
    """
    try:
        listed: dict[str, dict[str, Any]] = json.loads((folder / CHECKSUMS_FILE).read_text())
        wanted = [(name, (entry["bytes"], entry["blake2b"])) for name, entry in listed.items()]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{CHECKSUMS_FILE} is damaged"
    for name, (size, checksum) in wanted:
        if not name.startswith(within):
            continue
        try:
            found = _entry(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} can't be read: {error.strerror or error}"
        if found["bytes"] != size:
            return f"{name} has {found['bytes']} bytes instead of {size}"
        if found["blake2b"] != checksum:
            return f"{name} has changed since it was written"
    return None


def _entry(file: epath.Path) -> dict[str, Any]:
    """The entry of a file in checksums.json."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "blake2b": digest.hexdigest()}


def _files(folder: epath.Path, parent: str = "") -> Iterator[tuple[str, epath.Path]]:
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.is_dir():
            yield from _files(entry, f"{parent}{entry.name}/")
        else:
            yield f"{parent}{entry.name}", entry
