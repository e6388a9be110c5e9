"""Orbax's temporary folders, with checksums added before the rename that completes a step."""

import asyncio
import contextlib
import json
import os
import time
from typing import Any

from etils import epath
from orbax.checkpoint.path import atomicity

from gptgan_jax.checkpoints.checksums import write_checksums

# Orbax writes the time of the rename into this file, so it changes after the checksums are computed.
METADATA_FILE = "_CHECKPOINT_METADATA"
# The last file that Orbax writes.
COMPLETE_FILE = atomicity.COMMIT_SUCCESS_FILE
# A key of a step's own metadata: the step has checksums, so missing ones mean damage.
SEALED = "checksums"


# The folder next to the checkpoints for what a run starts from.
START = "start"


def sealed_path_class(folder: str | os.PathLike[str]) -> type[atomicity.TemporaryPathBase]:
    """The class with which Orbax creates items in a folder; without an atomic rename, a file marks completion."""
    return _SealedUpload if os.fspath(folder).startswith("gs://") else _SealedRename


def noted(folder: epath.Path) -> dict[str, Any]:
    """A step's own metadata (Orbax's custom metadata), readable even if the step is otherwise damaged."""
    return json.loads((folder / METADATA_FILE).read_text()).get("custom_metadata") or {}


def discard_unfinished(folder: epath.Path) -> None:
    """Deletes the temporary folders of a failed save, repeatedly, as files of it may still be written."""
    quiet = 0
    for _ in range(100):
        unfinished = [path for path in folder.iterdir() if atomicity.TMP_DIR_SUFFIX in path.name]
        quiet = 0 if unfinished else quiet + 1
        if quiet == 3:
            return
        for path in unfinished:
            # A file may appear or vanish meanwhile: the next pass handles it.
            with contextlib.suppress(OSError):
                path.rmtree()
        time.sleep(0.05)


async def _seal(path: atomicity.TemporaryPathBase) -> None:
    """Writes checksums for a whole step or a run's start, but not for the items of a step, which are created alike."""
    name = path.get_final().name
    if name == START or name.isdecimal():
        await asyncio.to_thread(write_checksums, path.get(), (METADATA_FILE,))


class _SealedRename(atomicity.AtomicRenameTemporaryPath):
    async def finalize(self) -> None:
        await _seal(self)
        await super().finalize()


class _SealedUpload(atomicity.CommitFileTemporaryPath):
    async def finalize(self) -> None:
        await _seal(self)
        await super().finalize()
