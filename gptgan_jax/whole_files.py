"""Files that are written all or nothing."""

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file by way of a new one beside it: whoever looks sees the old content or the new one.

    Neither is written through a link that lies there already, as it may in a folder from somebody else.

    Raises:
        OSError: where it can't be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.write_bytes(content)
    temporary.replace(path)
