"""Which device holds what: one mesh over all devices, batches split over it, the state on every one."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gptgan_jax.errors import UserError
from gptgan_jax.types import Batch, PyTree


def data_mesh() -> jax.sharding.Mesh:
    """All devices of all processes along the one axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch_size(key: str, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises UserError where a batch can't be split evenly over the devices."""
    if batch_size % mesh.size:
        nearest = -(-batch_size // mesh.size) * mesh.size
        raise UserError(f"{key} {batch_size} is not a multiple of the {mesh.size} devices; try {nearest}")


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """This process's rows of a batch (NumPy) as global arrays, split by rows over the mesh."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch)


def with_sharding(shapes: PyTree, sharding: NamedSharding) -> PyTree:
    """Shape structs that say where each array shall live; a target to restore into."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
