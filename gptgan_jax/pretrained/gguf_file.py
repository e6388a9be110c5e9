"""A GGUF file, as llama.cpp and Ollama keep models: its keys with their types, and its tensors as they are read.

The PyPI package `gguf` (llama.cpp's own) parses the file and dequantises; here is what a bad file is refused for.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.layouts import Shape

PREFIX = "gguf:"


class GgufFile:
    """A file that was looked through; the numbers of its tensors stay on the disk until they are read.

    Attributes:
        path: of the file.
        fields: its keys, with values in Python's types.
    """

    def __init__(self, path: Path, fields: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        self.path = path
        self.fields = fields
        self._tensors = tensors

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors."""
        return tuple(self._tensors)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, the outermost dimension first (the file has them the other way round)."""
        return tuple(int(size) for size in self._tensors[name].shape)[::-1]

    def dtype(self, name: str) -> np.dtype:
        """The type that holds a tensor's numbers exactly: the file's own, or float32 where they are quantised.

        Raises:
            UserError: where it holds no floating-point numbers.
        """
        kind = self._tensors[name].tensor_type.name
        if kind in ("I8", "I16", "I32", "I64"):
            raise UserError(f"{self.path}: {name} is {kind}; weights are floating-point numbers, quantised or not")
        exact = {"F64": np.float64, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
        return np.dtype(exact.get(kind, np.float32))

    def read(self, name: str) -> np.ndarray:
        """A whole tensor, dequantised, of `shape` and `dtype`.

        Raises:
            UserError: where it can't be.
        """
        import gguf

        tensor = self._tensors[name]
        dtype = self.dtype(name)
        try:
            numbers = tensor.data if dtype == np.float16 else gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise UserError(
                f"{self.path}: {name} is {tensor.tensor_type.name}, which the package gguf can't turn into numbers; "
                "take a file of another quantisation"
            ) from None
        return np.asarray(numbers).reshape(self.shape(name)).astype(dtype)

    # ---- keys

    def text(self, key: str, default: str | None = None) -> str:
        """A key that holds a text."""
        return self._typed(key, default, str, "a text")

    def flag(self, key: str, default: bool) -> bool:
        """A key that holds true or false."""
        return self._typed(key, default, bool, "true or false")

    def whole(self, key: str, default: int | None = None) -> int:
        """A key that holds a whole number; a list of equal ones, as some files have for the layers, is one."""
        value = self.fields.get(key)
        if isinstance(value, list) and value and all(one == value[0] for one in value):
            value = value[0]
        elif isinstance(value, list):
            raise UserError(f"{self.path}: {key} is not the same in all layers; only that is read")
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A key that holds a number, as the shortest decimal that gives its float32."""
        value = self.fields.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(str(np.float32(value)))

    def items(self, key: str, kind: type, count: int | None = None) -> list[Any]:
        """A key that holds a list; an empty one where it is missing and no count is asked for."""
        values = self.fields.get(key)
        if values is None and count is None:
            return []
        if not isinstance(values, list) or not all(isinstance(one, kind) for one in values):
            raise self._wrong(key, f"a list of {kind.__name__}")
        if count is not None and len(values) != count:
            raise UserError(f"{self.path}: {key} has {len(values)} entries, where {count} are needed")
        return values

    def _typed(self, key: str, default: Any, kind: type, noun: str) -> Any:
        value = self.fields.get(key, default)
        if not isinstance(value, kind):
            raise self._wrong(key, noun)
        return value

    def _wrong(self, key: str, noun: str) -> UserError:
        if key not in self.fields:
            return UserError(f"{self.path}: {key} is missing")
        return UserError(f"{self.path}: {key} should be {noun}, not {repr(self.fields[key])[:60]}")


def open_gguf(path: Path) -> GgufFile:
    """Looks through a file.

    Raises:
        UserError: the package gguf is not installed, there is no such file, it is no GGUF file or not a whole one, it
            is a part of a model, or holds something else than a model.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, not of a name that is too long
        raise UserError(f"{path}: no such file; it should be a .gguf file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"{path}: no GGUF file, which would begin with these four letters")
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError("GGUF files are read by the package gguf; install it: pip install gguf") from None

    class Reader(GGUFReader):
        """Never goes on past the end of the file, as it otherwise would, with empty arrays."""

        def _get(self, offset: int, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise EOFError
            return super()._get(offset, dtype, count, override_order)

    try:
        reader = Reader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except EOFError:
        raise UserError(f"{path}: the file ends too early; was all of it downloaded?") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from None
    except Exception as error:  # of many kinds, where lengths or types make no sense
        raise UserError(f"{path}: no GGUF file that the package gguf reads ({_reason(error)})") from None
    file_ = GgufFile(path, fields, {tensor.name: tensor for tensor in reader.tensors})
    if (parts := file_.whole("split.count", 0)) > 1:
        raise UserError(f"{path} is one of {parts} parts of a model; join them by llama-gguf-split --merge")
    if (kind := file_.text("general.type", "model")) != "model":
        raise UserError(f"{path} holds {kind!r}; only a whole model is read")
    return file_


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
