"""Files that are written all or nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file by way of a new one beside it: whoever looks sees the old content or the new one.

    Neither is written through a link that lies there already, as it may in a folder from somebody else.

    Raises:
        OSError: where it can't be written.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write into, which takes the place of `path` at the end of the block.

    Where the block raises, what was written is removed, and an older file stays as it was.

    Raises:
        OSError: as `write_whole` does.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
