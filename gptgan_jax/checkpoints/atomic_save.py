"""Orbax's temporary folders, with checksums written in before the rename that makes a step of them."""

import asyncio
import json
import os
from typing import Any

from etils import epath
from orbax.checkpoint.path import atomicity

from gptgan_jax.checkpoints.checksums import write_checksums

# Orbax writes the time of the rename into it, so it changes after the checksums were taken.
METADATA_FILE = "_CHECKPOINT_METADATA"
# What it writes last of all.
COMPLETE_FILE = atomicity.COMMIT_SUCCESS_FILE
# What a step's own metadata says of it: that it has checksums, so that to lack them is damage.
SEALED = "checksums"


# Beside the checkpoints: what a run starts from.
START = "start"


def sealed_path_class(folder: str | os.PathLike[str]) -> type[atomicity.TemporaryPathBase]:
    """What Orbax shall make what lies in a folder with: where there is no atomic rename, a file says "complete"."""
    return _SealedUpload if os.fspath(folder).startswith("gs://") else _SealedRename


def noted(folder: epath.Path) -> dict[str, Any]:
    """What a step's own metadata says of it, by Orbax's custom metadata; also of a step that is damaged otherwise."""
    return json.loads((folder / METADATA_FILE).read_text()).get("custom_metadata") or {}


async def _seal(path: atomicity.TemporaryPathBase) -> None:
    """Orbax makes the items of a step in the same way; the checksums are of the whole step, or of a run's start."""
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
