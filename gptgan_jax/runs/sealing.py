"""Orbax's temporary folders, with checksums written in before the rename that makes a step of them."""

import asyncio
import os

from orbax.checkpoint.path import atomicity

from gptgan_jax.runs.checksums import write_checksums

# Orbax writes the time of the rename into it, so it changes after the checksums were taken.
METADATA_FILE = "_CHECKPOINT_METADATA"
# What it writes last of all.
COMPLETE_FILE = atomicity.COMMIT_SUCCESS_FILE
# What a step's own metadata says of it: that it has checksums, so that to lack them is damage.
SEALED = "checksums"


def sealed_path_class(folder: str | os.PathLike[str]) -> type[atomicity.TemporaryPathBase]:
    """What Orbax shall make the steps under a folder with: where there is no atomic rename, a file says "complete"."""
    return _SealedUpload if os.fspath(folder).startswith("gs://") else _SealedRename


async def _seal(path: atomicity.TemporaryPathBase) -> None:
    """Orbax makes the items of a step in the same way; the checksums are of the whole step."""
    if path.get_final().name.isdecimal():
        await asyncio.to_thread(write_checksums, path.get(), (METADATA_FILE,))


class _SealedRename(atomicity.AtomicRenameTemporaryPath):
    async def finalize(self) -> None:
        await _seal(self)
        await super().finalize()


class _SealedUpload(atomicity.CommitFileTemporaryPath):
    async def finalize(self) -> None:
        await _seal(self)
        await super().finalize()
