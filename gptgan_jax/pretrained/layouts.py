"""How one of this project's parameters lies in the named tensors of another program, and how a part of it is read.

A layout never needs more of the other's tensors than the part of the parameter that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Shape = tuple[int, ...]
Index = tuple[slice, ...]
"""A part of an array: a slice with start and stop for each dimension."""

AT_ONCE = 2**23
"""Numbers of a tensor that are read at once, so that a large one is not in memory twice."""


class Tensors(Protocol):
    """Tensors by name."""

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of one of them."""
        ...


class Layout(Protocol):
    """Where a parameter lies."""

    def theirs(self, shape: Shape) -> dict[str, Shape]:
        """Names and shapes of the tensors that hold a parameter of this shape."""
        ...

    def read(self, tensors: Tensors, index: Index, out: np.ndarray) -> None:
        """Writes a part of the parameter into an array of its shape."""
        ...

    def split(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        """The tensors that hold a whole parameter."""
        ...


@dataclass(frozen=True)
class Plain:
    """One tensor holds it.

    Attributes:
        name: of the tensor.
        transposed: it is [outputs, inputs], while ours are [inputs, outputs].
    """

    name: str
    transposed: bool = False

    def theirs(self, shape: Shape) -> dict[str, Shape]:
        return {self.name: shape[::-1] if self.transposed else shape}

    def read(self, tensors: Tensors, index: Index, out: np.ndarray) -> None:
        if self.transposed:
            index, out = index[::-1], out.T
        rows, *rest = index
        step = max(1, AT_ONCE * out.shape[0] // out.size)
        for begin in range(rows.start, rows.stop, step):
            part = slice(begin, min(begin + step, rows.stop))
            out[part.start - rows.start : part.stop - rows.start] = tensors.read(self.name, (part, *rest))

    def split(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        return {self.name: parameter.T if self.transposed else parameter}


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values: ours are grouped by key/value head, [.., K, G + 2, E]; theirs are whole, one by one.

    Attributes:
        names: of three tensors, or of one in which the three stand side by side.
        transposed: a kernel is [outputs, inputs].
        kv_heads, group, size: K, G and E.
    """

    names: tuple[str, ...]
    transposed: bool
    kv_heads: int
    group: int
    size: int

    def theirs(self, shape: Shape) -> dict[str, Shape]:
        inputs = shape[:-1]
        outputs = [sum(self._widths)] if len(self.names) == 1 else self._widths
        shapes = [(*inputs, width) for width in outputs]
        return {name: one[::-1] if self.transposed else one for name, one in zip(self.names, shapes, strict=True)}

    def read(self, tensors: Tensors, index: Index, out: np.ndarray) -> None:
        *inputs, columns = index
        block = (self.group + 2) * self.size
        first, last = columns.start // block, -(-columns.stop // block)
        parts, before = [], 0
        for i, (width, heads) in enumerate(zip(self._widths, (self.group, 1, 1), strict=True)):
            outputs = slice(before + first * heads * self.size, before + last * heads * self.size)
            where = (*inputs, outputs)
            if self.transposed:
                part = tensors.read(self.names[i % len(self.names)], where[::-1]).T
            else:
                part = tensors.read(self.names[i % len(self.names)], where)
            parts.append(part.reshape(*part.shape[:-1], last - first, heads, self.size))
            before += width if len(self.names) == 1 else 0
        joined = np.concatenate(parts, axis=-2)
        joined = joined.reshape(*joined.shape[:-3], (last - first) * block)
        out[...] = joined[..., columns.start - first * block : columns.stop - first * block]

    def split(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        grouped = parameter.reshape(*parameter.shape[:-1], self.kv_heads, self.group + 2, self.size)
        bounds = (slice(0, self.group), slice(self.group, self.group + 1), slice(self.group + 1, None))
        parts = [grouped[..., heads, :].reshape(*parameter.shape[:-1], -1) for heads in bounds]
        if len(self.names) == 1:
            parts = [np.concatenate(parts, axis=-1)]
        return {name: part.T if self.transposed else part for name, part in zip(self.names, parts, strict=True)}

    @property
    def _widths(self) -> list[int]:
        """Outputs of queries, keys and values."""
        return [self.kv_heads * heads * self.size for heads in (self.group, 1, 1)]


@dataclass(frozen=True)
class Stacked:
    """The same parameter of all layers in one, the first dimension the layer's."""

    layers: Sequence[Layout]

    def theirs(self, shape: Shape) -> dict[str, Shape]:
        return {name: one for layer in self.layers for name, one in layer.theirs(shape[1:]).items()}

    def read(self, tensors: Tensors, index: Index, out: np.ndarray) -> None:
        for layer, one in zip(self.layers[index[0]], out, strict=True):
            layer.read(tensors, index[1:], one)

    def split(self, parameter: np.ndarray) -> dict[str, np.ndarray]:
        pairs = zip(self.layers, parameter, strict=True)
        return {name: one for layer, part in pairs for name, one in layer.split(part).items()}
