"""The rows of a batch under `pmap` and `shard_map`, where each device runs the step on its own share of them.

Under `jit` a program sees all rows, however many devices there are, and nothing here does anything. Under the other two
a step is given the name of the devices' axis. Networks then run on a device's own rows, and what they say of each row
is gathered before anything is averaged, normalised or compared over rows; so every loss, baseline and reward is that of
the whole batch. The gradient of a loss that all devices compute alike from gathered arrays is the mean of theirs.

The rows of all devices stand in the order of the devices, so device i of n has the i-th n-th of the batch.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Rows:
    """How a program's rows are part of a batch.

    Attributes:
        axis_name: of the devices that have the other rows; None where the program sees all rows.
    """

    axis_name: str | None = None

    @property
    def devices(self) -> int:
        """How many shares there are."""
        return 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)

    def gathered(self, own: Tree) -> Tree:
        """The rows of all devices, [B, ...] -> [n B, ...] in every array; differentiable."""
        if self.axis_name is None:
            return own
        return jax.tree.map(lambda x: jax.lax.all_gather(x, self.axis_name, tiled=True), own)

    def own(self, everyones: Tree, axis: int = 0) -> Tree:
        """This device's rows of all, [n B, ...] -> [B, ...] in every array.

        Raises:
            ValueError: where the rows are no multiple of the devices.
        """
        if self.axis_name is None:
            return everyones
        index, devices = jax.lax.axis_index(self.axis_name), self.devices

        def share(x: Array) -> Array:
            if x.shape[axis] % devices:
                raise ValueError(f"{x.shape[axis]} rows can't be split evenly over {devices} devices")
            size = x.shape[axis] // devices
            return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)

        return jax.tree.map(share, everyones)

    def mean(self, tree: Tree) -> Tree:
        """The mean over devices of every array."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def uniform(self, key: Array, shape: tuple[int, ...], axis: int = 0, dtype: Any = jnp.float32) -> Array:
        """This device's share of uniform numbers that do not depend on how many devices there are.

        Every device draws them all, so it is for a few numbers a row.

        Args:
            key: the same on every device.
            shape: of this device's share.
            axis: that the rows are along.
            dtype: of the numbers.
        """
        whole = [size * self.devices if i == axis else size for i, size in enumerate(shape)]
        return self.own(jax.random.uniform(key, whole, dtype), axis)

    def own_key(self, key: Array) -> Array:
        """A key of this device's own, for numbers too many to be drawn by every device.

        What is drawn with it (dropout, the noise of relaxed tokens) depends on the number of devices.
        """
        return key if self.axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))


@dataclass(frozen=True)
class PartOfRows(Rows):
    """Some rows of a batch whose parts are computed one after another, each as it would be among all.

    Attributes:
        first: the place of the first of them in the batch, which may be traced.
        count: how many they are. Those past the end of the batch are to fill up, and count nothing.
        total: rows of the batch.
    """

    first: Array | int = 0
    count: int = 1
    total: int = 1

    def uniform(self, key: Array, shape: tuple[int, ...], axis: int = 0, dtype: Any = jnp.float32) -> Array:
        """These rows' share of the uniform numbers of the batch; `shape` may have several for a row, neighbours."""
        each = shape[axis] // self.count
        whole = [self.total * each if i == axis else size for i, size in enumerate(shape)]
        places = self.first * each + jnp.arange(shape[axis])
        return jnp.take(jax.random.uniform(key, whole, dtype), places, axis, mode="clip")


ALL_ROWS = Rows()
"""The rows of a program that sees the whole batch."""
