"""Places state and batches on devices, and compiles a pure step for them, by `jax.jit` over a mesh, or `pmap`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gptgan_jax.algorithms.gan import Gan, Step
from gptgan_jax.algorithms.learning import EVERYTHING, Frozen, Learning
from gptgan_jax.distributed.partitioning import MeshConfig, build_mesh, row_shares, rows_sharding, state_shardings
from gptgan_jax.errors import UserError
from gptgan_jax.types import Batch, GanState, PyTree

PMAP_AXIS = "devices"
"""The name of the device axis in a step under `pmap`."""


@dataclass(frozen=True)
class Placement:
    """The devices of a run.

    Attributes:
        mesh: all of them, with the axes of `partitioning.MESH_AXES`.
        backend: `jit` or `pmap`.
    """

    mesh: Mesh
    backend: str = "jit"

    @classmethod
    def of(cls, config: MeshConfig) -> "Placement":
        """Raises UserError if there are fewer devices than configured."""
        return cls(build_mesh(config), config.backend)

    def __str__(self) -> str:
        sizes = [f"{name} {size}" for name, size in self.mesh.shape.items() if size > 1]
        split = f" ({' x '.join(sizes)}, {self.backend})" if sizes else ""
        return f"{self.mesh.size} {self.mesh.devices.flat[0].platform} device(s){split}"

    @property
    def axis_name(self) -> str | None:
        """The name of the device axis in a step; see `Game.axis_name`."""
        return PMAP_AXIS if self.backend == "pmap" else None

    def surroundings(self) -> AbstractContextManager[Any]:
        """The context in which `jax.jit` partitions a function over the mesh; an empty one under pmap."""
        return nullcontext() if self.backend == "pmap" else jax.set_mesh(self.mesh)

    def check_batch_size(self, key: str, batch_size: int) -> None:
        """Raises UserError if a batch can't be split evenly over the devices."""
        shares = row_shares(self.mesh)
        if batch_size % shares:
            nearest = -(-batch_size // shares) * shares
            raise UserError(
                f"{key} {batch_size} is not a multiple of the {shares} devices that share it; try {nearest}"
            )

    def shardings(self, state: PyTree) -> PyTree:
        """The sharding of each array of a state (or of shape structs)."""
        return state_shardings(state, self.mesh)

    def target(self, shapes: PyTree) -> PyTree:
        """Shape structs with shardings, into which a checkpoint is restored."""
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, self.shardings(shapes)
        )

    def born(self, make: Callable[..., PyTree], *arguments: Any) -> PyTree:
        """The result of a pure function, with each array created where its sharding puts it."""
        shardings = self.shardings(jax.eval_shape(make, *arguments))
        with jax.set_mesh(self.mesh):
            return jax.jit(make, out_shardings=shardings)(*arguments)

    def share(self, rows: int) -> tuple[int, int]:
        """The share of a batch that this process reads, and the number of shares: (index, count).

        Processes whose devices work on the same rows have the same share.
        """
        starts: dict[int, set[int]] = {}
        places: dict[Any, Any] = dict(rows_sharding(self.mesh).devices_indices_map((rows,)))
        for device, index in places.items():
            starts.setdefault(device.process_index, set()).add(index[0].start or 0)
        shares = sorted({tuple(sorted(of_process)) for of_process in starts.values()})
        return shares.index(tuple(sorted(starts[jax.process_index()]))), len(shares)

    def put(self, batch: Batch) -> Batch:
        """This process's share of a batch (NumPy) as global arrays, split by rows."""
        place = rows_sharding(self.mesh)
        if self.backend == "pmap":
            count = len(self.mesh.local_devices)
            batch = jax.tree.map(lambda rows: rows.reshape(count, -1, *rows.shape[1:]), batch)
        return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(place, np.asarray(rows)), batch)

    def begun(self, gan: Gan, state: GanState, batch: Batch) -> GanState:
        """`gan.begin(state, batch)`, with each array created in its place; frozen parameters are not copied."""
        learning = gan.learning

        def begin(only: GanState, frozen: Frozen, batch: Batch) -> GanState:
            return learning.only(gan.begin(learning.whole(only, frozen), batch))

        frozen = learning.frozen(state)
        only = self.born(begin, learning.only(state), frozen, batch)
        # Average and reference start as copies of the generator, so their frozen parameters are its arrays.
        return learning.whole(only, frozen._replace(ema={}, reference={}))

    def compiled(self, step: Step, state: GanState, learning: Learning = EVERYTHING) -> Callable[..., Any]:
        """A step (state, batch) -> (state, metrics) for all devices; takes batches from `put`, and donates the state.

        Args:
            step: the pure step; under pmap built with `axis_name`.
            state: arrays or shape structs, which determine the new state's shardings.
            learning: which parameters the step trains. Frozen parameters are not donated, so parts of the state and
                other states can share them.
        """

        def changed(only: GanState, frozen: Frozen, batch: Batch) -> tuple[GanState, PyTree]:
            after, metrics = step(learning.whole(only, frozen), batch)
            return learning.only(after), metrics

        if self.backend == "pmap":
            made = jax.pmap(changed, PMAP_AXIS, in_axes=(None, None, 0), out_axes=(None, None), donate_argnums=0)
        else:
            everywhere = NamedSharding(self.mesh, PartitionSpec())
            places = self.shardings(learning.only(state)), everywhere
            made = jax.jit(changed, donate_argnums=0, out_shardings=places)

        def run(state: GanState, batch: Batch) -> tuple[GanState, PyTree]:
            frozen = learning.frozen(state)
            with self.surroundings():
                only, metrics = made(learning.only(state), frozen, batch)
            return learning.whole(only, frozen), metrics

        return run
