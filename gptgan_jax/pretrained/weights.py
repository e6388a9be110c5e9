"""The safetensors files of a model's folder, one or several with an index: read in parts, written shard by shard."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the bfloat16 that the files hold)
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.layouts import Index, Shape
from gptgan_jax.system.atomic_files import write_whole

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 4 * 10**9
MAPPED_BYTES = 2**25
"""After so many a file is opened anew: what was read of a mapped file counts as this process's memory until then."""
# What numbers a network's weights may be; the others mean a quantisation that only its own program can undo.
FLOATS = ("F64", "F32", "F16", "BF16")

FLOAT32 = np.dtype(np.float32)


class Weights:
    """The tensors in a folder, by name; their numbers stay on the disk until they are read. A context manager.

    Raises:
        UserError: no such files, or a damaged one; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tensors: dict[str, dict[str, tuple[Shape, str]]] = {}  # by file and name: shape and type
        self._opened: tuple[str, Any] | None = None
        self._mapped = 0  # bytes read since it was opened
        self._file_of = self._index()

    def __enter__(self) -> "Weights":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._file_of)

    def file_of(self, name: str) -> Path:
        """Where a tensor lies."""
        return self.folder / self._file_of[name]

    def shape(self, name: str) -> Shape:
        """The shape of a tensor.

        Raises:
            UserError: where it holds no floating-point numbers.
        """
        shape, dtype = self._tensors[self._file_of[name]][name]
        if dtype not in FLOATS:
            raise UserError(f"{self.file_of(name)}: {name} is {dtype}; only {', '.join(FLOATS)} are read")
        return shape

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, in the type that it has there."""
        if self._mapped > MAPPED_BYTES:
            self._close()
        try:
            part = self._open(self._file_of[name]).get_slice(name)[index]
            self._mapped += part.nbytes
            return part
        except UserError:
            raise
        except Exception as error:  # of the library's own kind, or the operating system's
            raise UserError(f"{self.file_of(name)}: {name} can't be read ({_reason(error)})") from error

    def _index(self) -> dict[str, str]:
        """The file of each tensor."""
        if (self.folder / WEIGHTS_FILE).is_file():  # `transformers` reads no index beside it
            return dict.fromkeys(self._look_through(WEIGHTS_FILE), WEIGHTS_FILE)
        index = self.folder / INDEX_FILE
        if index.is_file():
            return self._checked(index)
        pickled = sorted(path.name for path in self.folder.glob("*.bin"))
        if pickled:
            raise UserError(
                f"{self.folder} has {pickled[0]}, a pickle, which is never read as it can run code, and no "
                f"{WEIGHTS_FILE}; save it as safetensors"
            )
        raise UserError(f"{self.folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}")

    def _checked(self, index: Path) -> dict[str, str]:
        try:
            file_of = json.loads(index.read_text("utf-8"))["weight_map"]
            pairs = [(str(name), str(file)) for name, file in file_of.items()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{index}: should hold weight_map, the file of each tensor ({_reason(error)})") from None
        for _, file in pairs:
            # What lies in a folder names no file outside of it.
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise UserError(f"{index}: {file!r} is no safetensors file of this folder")
            if not (self.folder / file).is_file():
                raise UserError(f"{self.folder / file}: no such file, though {INDEX_FILE} names it")
        for file in dict.fromkeys(file for _, file in pairs):
            self._look_through(file)
        for name, file in pairs:
            if name not in self._tensors[file]:
                raise UserError(f"{self.folder / file}: tensor {name} is missing, though {INDEX_FILE} places it there")
        return dict(pairs)

    def _look_through(self, file: str) -> dict[str, tuple[Shape, str]]:
        opened = self._open(file)
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  (it is no mapping)
        self._tensors[file] = {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
        return self._tensors[file]

    def _open(self, file: str) -> Any:
        """The file, the one before it closed."""
        if self._opened is not None and self._opened[0] == file:
            return self._opened[1]
        self._close()
        try:
            self._opened = (file, safe_open(self.folder / file, framework="np"))
        except Exception as error:
            raise UserError(f"{self.folder / file}: no whole safetensors file ({_reason(error)})") from error
        return self._opened[1]

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[1].__exit__(None, None, None)
        self._opened, self._mapped = None, 0


@dataclass(frozen=True)
class Parameter:
    """Tensors that are made together from one parameter.

    Attributes:
        shapes: by name.
        make: their numbers.
        dtype: what they are written as.
    """

    shapes: Mapping[str, Shape]
    make: Callable[[], Mapping[str, np.ndarray]]
    dtype: np.dtype = FLOAT32


def write_weights(folder: Path, parameters: Iterable[Parameter], shard_bytes: int = SHARD_BYTES) -> None:
    """Writes tensors: into one file, or into shards with an index; one shard at a time is held in memory.

    Args:
        folder: that there is.
        parameters: in the order of the files.
        shard_bytes: a shard takes no further parameter when it would become larger.

    Raises:
        OSError: where they can't be written.
    """
    shards: list[list[Parameter]] = [[]]
    for parameter in parameters:
        if shards[-1] and _bytes([*shards[-1], parameter]) > shard_bytes:
            shards.append([])
        shards[-1].append(parameter)
    names = [WEIGHTS_FILE]
    if len(shards) > 1:
        names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    file_of: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        tensors = dict(_made(shard))
        save_file(tensors, folder / name, metadata={"format": "pt"})
        file_of |= dict.fromkeys(tensors, name)
    if len(shards) > 1:
        total = sum(map(_bytes, shards))
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(file_of.items()))}
        write_whole(folder / INDEX_FILE, f"{json.dumps(content, indent=2)}\n".encode())


def _made(shard: Iterable[Parameter]) -> Iterator[tuple[str, np.ndarray]]:
    for parameter in shard:
        for name, tensor in parameter.make().items():
            yield name, np.ascontiguousarray(tensor, parameter.dtype)


def _bytes(shard: Iterable[Parameter]) -> int:
    return sum(one.dtype.itemsize * int(np.prod(shape)) for one in shard for shape in one.shapes.values())


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
