"""How arrays are split over devices: one table from the names of dimensions to the axes of a mesh.

A mesh has the axes `data` (copies of the players, each with its share of the texts), `fsdp` (the same, but the players'
arrays are split over it: fully sharded data parallelism, Rajbhandari et al. 2020) and `tensor` (several devices share
each text, and split heads, hidden units and vocabulary: Shoeybi et al. 2019). The paths of parameters, optimiser
moments, averages and references end in the same names, so one table serves all of them. A dimension is not split by an
axis that does not divide it evenly.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from pydantic import model_validator

from gptgan_jax.errors import UserError
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, Params, PyTree

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
MESH_AXES = (DATA, FSDP, TENSOR)

# From the meaning of a dimension to the mesh axes that split it.
AXES_OF: dict[str | None, tuple[str, ...]] = {
    "rows": (DATA, FSDP),  # texts
    "width": (FSDP,),  # of a weight; that of activations is not split
    "heads": (TENSOR,),
    "hidden": (TENSOR,),  # units inside an MLP
    "vocabulary": (TENSOR,),
    None: (),
}

# From the last two names of a path to the meanings of the array's last dimensions; dimensions before them, such as the
# layers of a scanned stack, are not split. All other arrays are replicated.
DIMENSIONS: dict[tuple[str, str], tuple[str | None, ...]] = {
    ("embedding", "table"): ("vocabulary", "width"),
    ("trunk", "positions"): (None, "width"),
    ("qkv", "kernel"): ("width", "heads"),
    ("qkv", "bias"): ("heads",),
    ("query", "kernel"): ("width", "heads"),
    ("query", "bias"): ("heads",),
    ("key_value", "kernel"): ("width", "heads"),
    ("key_value", "bias"): ("heads",),
    ("out", "kernel"): ("heads", "width"),
    ("gate", "kernel"): ("width", "hidden"),
    ("gate", "bias"): ("hidden",),
    ("up", "kernel"): ("width", "hidden"),
    ("up", "bias"): ("hidden",),
    ("down", "kernel"): ("hidden", "width"),
    ("head", "kernel"): ("width", "vocabulary"),
    ("head", "bias"): ("vocabulary",),
    ("inputs", "kernel"): ("width", None),
}
OTHER_KERNELS: tuple[str | None, ...] = ("width", None)
"""The dimensions of the kernels of convolutions and fully connected layers in the small discriminators."""


@config_dataclass
class MeshConfig:
    """How the devices of all processes share the work: data * fsdp * tensor is the number of devices."""

    data: int = key(
        -1, "data parallelism: copies of both networks, each with its share of the texts; -1: the rest", ge=-1
    )
    fsdp: int = key(
        1, "as data, but parameters and optimiser states are also split over these devices; -1: the rest", ge=-1
    )
    tensor: int = key(1, "tensor parallelism: devices that split heads, hidden units and vocabulary", ge=1)
    heartbeat_seconds: int = key(60, "with several processes: if one is silent for this long, the others stop", ge=10)
    gather_to_write: bool = key(
        True,
        "with fsdp: gather the generator's weights once per text instead of once per token; each device then holds "
        "them, split only over tensor, while it generates",
    )
    backend: Literal["jit", "pmap"] = key(
        "jit", "pmap: one program per device with its own texts, for data parallelism only"
    )

    @model_validator(mode="after")
    def _check(self) -> "MeshConfig":
        if 0 in (self.data, self.fsdp) or self.data == self.fsdp == -1:
            raise ValueError(
                f"data {self.data} and fsdp {self.fsdp}: each is at least 1, or one of them -1 for the rest"
            )
        if self.backend == "pmap" and (self.fsdp != 1 or self.tensor != 1):
            raise ValueError("backend pmap copies the players to every device: set fsdp and tensor to 1, or use jit")
        return self


def build_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh of a configuration.

    Args:
        config: its sizes.
        devices: the devices of the mesh; default: all devices of all processes.

    Several TPU slices are separate along `data`: over the data centre's network they only exchange one sum of gradients
    per step.

    Raises:
        UserError: the sizes do not multiply to the number of devices, or `data` is not a multiple of the slices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {DATA: config.data, FSDP: config.fsdp, TENSOR: config.tensor}
    rest, left = divmod(len(devices), math.prod(size for size in sizes.values() if size > 0))
    wildcard = -1 in sizes.values()
    shape = tuple(rest if size == -1 else size for size in sizes.values())
    if left or not rest or (not wildcard and rest != 1):
        asked = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"mesh: {asked} does not fit {len(devices)} device(s); the product must be their number")
    # GPUs have this attribute too, for machines.
    slices = len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"})
    if slices > 1:
        data, *inside = shape
        if data % slices:
            raise UserError(
                f"mesh.data {data}: {slices} slices are connected only by the data centre's network, so it should be a "
                f"multiple of {slices}"
            )
        grid = mesh_utils.create_hybrid_device_mesh((data // slices, *inside), (slices, 1, 1), devices)
        return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
    return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices)


def spec_of(path: tuple[Any, ...], shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """How an array of a state is split.

    Args:
        path: its place in the tree, as `jax.tree_util` gives it.
        shape: its dimensions.
        mesh: with the axes `MESH_AXES`.
    """
    return PartitionSpec(*_split_of(path, shape, dict(mesh.shape)))


def _split_of(path: tuple[Any, ...], shape: Sequence[int], sizes: dict[str, int]) -> list[tuple[str, ...] | None]:
    names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
    last = tuple(names[-2:])
    if len(last) < 2:
        return []
    dimensions = _dimensions(last[0], last[1])
    if dimensions is None or len(shape) < len(dimensions):
        return []
    leading = (None,) * (len(shape) - len(dimensions))
    return _fitting((*leading, *dimensions), shape, sizes)


def _dimensions(module: str, name: str) -> tuple[str | None, ...] | None:
    if name in (
        "lora_a",
        "lora_b",
        "given_a",
        "given_b",
    ):  # [inputs, rank] and [rank, outputs], beside a kernel [inputs, outputs]
        inputs, outputs = _dimensions(module, "kernel") or (None, None)
        return (inputs, None) if name.endswith("_a") else (None, outputs)
    dimensions = DIMENSIONS.get((module, name))
    if dimensions is None and name == "kernel" and module != "score":
        dimensions = OTHER_KERNELS
    return dimensions


def state_shardings(state: PyTree, mesh: Mesh) -> PyTree:
    """A NamedSharding for every array of a state (or of a part of one), by `spec_of`.

    Args:
        state: arrays or shape structs.
        mesh: with the axes `MESH_AXES`.
    """
    return jax.tree.map_with_path(lambda path, x: NamedSharding(mesh, spec_of(path, x.shape, mesh)), state)


def rows_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch's arrays: their rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(AXES_OF["rows"]))


def row_shares(mesh: Mesh) -> int:
    """How many shares the rows of a batch are split into."""
    return math.prod(mesh.shape[axis] for axis in AXES_OF["rows"])


def constrain(x: Array, *dimensions: str | None) -> Array:
    """Constrains how an activation is split over the mesh of the surrounding `jax.set_mesh`; without one, nothing.

    It also does nothing inside `pmap` and `shard_map`, where each device runs a separate program.

    Args:
        x: the activation.
        dimensions: the meaning of each of its dimensions, a key of `AXES_OF`.
    """
    sizes = _surrounding_mesh()
    if not sizes:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*_fitting(dimensions, x.shape, sizes)))


def gathered(params: Params, dtype: DTypeLike) -> Params:
    """Parameters that are about to be read many times, such as once per token, no longer split over `fsdp`.

    They are first cast to `dtype`, which determines the bytes to send and hold, and then gathered here instead of at
    each use. Without a mesh, or without `fsdp` in it, nothing changes.

    Args:
        params: of a network that reads everything that is split over `fsdp` in `dtype`.
        dtype: of its matrix products.
    """
    sizes = _surrounding_mesh()
    if sizes.get(FSDP, 1) == 1:
        return params

    def whole(path: tuple[Any, ...], x: Array) -> Array:
        split = _split_of(path, x.shape, sizes)
        if not any(axes and FSDP in axes for axes in split):
            return x
        x = jax.lax.with_sharding_constraint(x.astype(dtype), PartitionSpec(*split))  # cast before it is sent
        rest = [tuple(axis for axis in axes or () if axis != FSDP) or None for axes in split]
        return jax.lax.with_sharding_constraint(x, PartitionSpec(*rest))

    return jax.tree.map_with_path(whole, params)


def on_each_device(
    function: Callable[..., Array],
    arrays: Sequence[Array],
    dimensions: Sequence[Sequence[str | None]],
) -> Array:
    """function(*arrays) on each device's own parts, for what the compiler can't split itself, such as a kernel.

    Without a surrounding mesh, and inside `pmap` and `shard_map`, it is a plain call.

    Args:
        function: each part of its value depends only on the same parts of the arrays. It has the first one's shape.
        arrays: its arguments.
        dimensions: those of each array, as in `constrain`; the value is split like the first one.
    """
    sizes = _surrounding_mesh()
    if not sizes:
        return function(*arrays)
    parts = tuple(PartitionSpec(*_fitting(d, x.shape, sizes)) for d, x in zip(dimensions, arrays, strict=True))
    return jax.shard_map(function, in_specs=parts, out_specs=parts[0], check_vma=False)(*arrays)


def is_split() -> bool:
    """Whether activations are split over the mesh of the surrounding `jax.set_mesh`."""
    return bool(_surrounding_mesh())


def is_for_tpu() -> bool:
    """Whether the program is traced for TPUs: those of the surrounding `jax.set_mesh`, or JAX's default devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return (jax.default_backend() if device is None else device.platform) == "tpu"


def _surrounding_mesh() -> dict[str, int]:
    """The sizes of the axes over which the compiler splits computations; empty for a program of one device."""
    mesh = jax.sharding.get_abstract_mesh()
    sizes = {
        name: size
        for name, size, kind in zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
        if kind == AxisType.Auto
    }
    return {} if set(MESH_AXES) - set(sizes) or math.prod(sizes.values()) == 1 else sizes


def _fitting(
    dimensions: Sequence[str | None], shape: Sequence[int], sizes: dict[str, int]
) -> list[tuple[str, ...] | None]:
    """For each dimension, the mesh axes that split it evenly, in order; None if there are none."""
    split: list[tuple[str, ...] | None] = []
    for name, size in zip(dimensions, shape, strict=True):
        chosen: list[str] = []
        parts = 1
        for axis in AXES_OF[name]:
            if size % (parts * sizes[axis]) == 0:
                chosen.append(axis)
                parts *= sizes[axis]
        split.append(tuple(chosen) or None)
    return split
