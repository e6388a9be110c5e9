"""The rows of a batch under `pmap` and `shard_map`, where each device runs the step on its own share of them.

Under `jit` a program sees all rows, for any number of devices, and the functions here do nothing. Under the other two a
step is given the name of the devices' axis. Networks then run on a device's own rows, and their outputs are gathered
before anything is averaged, normalised or compared over rows; so every loss, baseline and reward is that of the whole
batch. If all devices compute the same loss from gathered arrays, its gradient is the mean of their gradients.

Rows are in the order of the devices: device i of n has the i-th n-th of the batch.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Rows:
    """The position of a program's rows in a batch.

    Attributes:
        axis_name: of the devices that share the batch; None if the program sees all rows.
    """

    axis_name: str | None = None

    @property
    def devices(self) -> int:
        """The number of shares."""
        return 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)

    def gathered(self, own: Tree) -> Tree:
        """The rows of all devices, [B, ...] -> [n B, ...] in every array; differentiable."""
        if self.axis_name is None:
            return own
        return jax.tree.map(lambda x: jax.lax.all_gather(x, self.axis_name, tiled=True), own)

    def own(self, everyones: Tree, axis: int = 0) -> Tree:
        """This device's share of all rows, [n B, ...] -> [B, ...] in every array.

        Raises:
            ValueError: the number of rows is not a multiple of the number of devices.
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
        """This device's share of uniform numbers that do not depend on the number of devices.

        Every device draws all of them, so use it only for a few numbers per row.

        Args:
            key: the same on every device.
            shape: of this device's share.
            axis: of the rows.
            dtype: of the numbers.
        """
        whole = [size * self.devices if i == axis else size for i, size in enumerate(shape)]
        return self.own(jax.random.uniform(key, whole, dtype), axis)

    def own_key(self, key: Array) -> Array:
        """A different key for each device, for numbers that are too many to be drawn by every device.

        Numbers drawn with it (dropout, the noise of relaxed tokens) depend on the number of devices.
        """
        return key if self.axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))


@dataclass(frozen=True)
class PartOfRows(Rows):
    """Some rows of a batch whose parts are computed one after another, with the same result as in the whole batch.

    Attributes:
        first: the index of the first of them in the batch, which may be traced.
        count: the number of them. Rows past the end of the batch are padding.
        total: rows of the batch.
    """

    first: Array | int = 0
    count: int = 1
    total: int = 1

    def uniform(self, key: Array, shape: tuple[int, ...], axis: int = 0, dtype: Any = jnp.float32) -> Array:
        """These rows' share of the uniform numbers of the batch; `shape` may have several adjacent ones per row."""
        each = shape[axis] // self.count
        whole = [self.total * each if i == axis else size for i, size in enumerate(shape)]
        places = self.first * each + jnp.arange(shape[axis])
        return jnp.take(jax.random.uniform(key, whole, dtype), places, axis, mode="clip")


ALL_ROWS = Rows()
"""The rows of a program that sees the whole batch."""
