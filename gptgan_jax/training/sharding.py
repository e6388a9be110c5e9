"""Where state and batches lie, and how a pure step is compiled for all devices: by `jax.jit` over a mesh, or `pmap`."""

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
"""What a step under `pmap` calls the axis of the devices."""


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
        """Raises UserError where there are not as many devices as it asks for."""
        return cls(build_mesh(config), config.backend)

    def __str__(self) -> str:
        sizes = [f"{name} {size}" for name, size in self.mesh.shape.items() if size > 1]
        split = f" ({' x '.join(sizes)}, {self.backend})" if sizes else ""
        return f"{self.mesh.size} {self.mesh.devices.flat[0].platform} device(s){split}"

    @property
    def axis_name(self) -> str | None:
        """What a step is to call the axis of its devices; see `Game.axis_name`."""
        return PMAP_AXIS if self.backend == "pmap" else None

    def surroundings(self) -> AbstractContextManager[Any]:
        """In which a function that `jax.jit` compiles is split over the mesh; under pmap it is not."""
        return nullcontext() if self.backend == "pmap" else jax.set_mesh(self.mesh)

    def check_batch_size(self, key: str, batch_size: int) -> None:
        """Raises UserError where a batch can't be split evenly over the devices."""
        shares = row_shares(self.mesh)
        if batch_size % shares:
            nearest = -(-batch_size // shares) * shares
            raise UserError(
                f"{key} {batch_size} is not a multiple of the {shares} devices that share it; try {nearest}"
            )

    def shardings(self, state: PyTree) -> PyTree:
        """Where each array of a state (or of shape structs) lies."""
        return state_shardings(state, self.mesh)

    def target(self, shapes: PyTree) -> PyTree:
        """Shape structs that say where each array shall live; what a checkpoint is restored into."""
        return jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes, self.shardings(shapes)
        )

    def born(self, make: Callable[..., PyTree], *arguments: Any) -> PyTree:
        """What a pure function makes, each array of it made where it lies."""
        shardings = self.shardings(jax.eval_shape(make, *arguments))
        with jax.set_mesh(self.mesh):
            return jax.jit(make, out_shardings=shardings)(*arguments)

    def share(self, rows: int) -> tuple[int, int]:
        """Which share of a batch this process is to read, and of how many: (index, count).

        Processes whose devices work on the same texts have the same share.
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
        """`gan.begin(state, batch)`, each array made where it lies; what does not learn is not copied."""
        learning = gan.learning

        def begin(only: GanState, frozen: Frozen, batch: Batch) -> GanState:
            return learning.only(gan.begin(learning.whole(only, frozen), batch))

        frozen = learning.frozen(state)
        only = self.born(begin, learning.only(state), frozen, batch)
        # Average and reference begin as the generator, so theirs are its arrays.
        return learning.whole(only, frozen._replace(ema={}, reference={}))

    def compiled(self, step: Step, state: GanState, learning: Learning = EVERYTHING) -> Callable[..., Any]:
        """A step (state, batch) -> (state, metrics) for all devices; it takes what `put` gives and donates the state.

        Args:
            step: the pure step; under pmap made with `axis_name`.
            state: arrays or shape structs, to say where the new one lies.
            learning: what the step changes. The other parameters are not donated: a state that shares them among its
                parts, or with another state, goes on sharing them.
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
