"""TPU chips with their published figures, and descriptions of slices of them.

Topologies have libtpu's names, the chip and the shape of the slice: v5e:2x4 is Google Cloud's v5litepod-8, and
v5p:2x4x4 its v5p-64, where 64 is the number of TensorCores, two per chip. 2xv5e:2x4 is two slices that are connected
only by the data centre's network.
"""

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptgan_jax.errors import UserError

INSTALL = 'pip install "jax[tpu]"'


@dataclass(frozen=True)
class Chip:
    """One TPU chip; the figures are for each JAX device on it.

    Attributes:
        name: the chip's name in topologies.
        peak: bfloat16 matrix FLOP/s; float32 products run at it too, as XLA rounds their operands by default.
        hbm: bytes of high-bandwidth memory.
        usable: bytes of it that the compiler gives a program.
        hbm_bandwidth: bytes/s between HBM and the cores.
        link_bandwidth: bytes/s over one inter-chip link, in one direction; the device's share of it if a chip has more.
        dimensions: of the torus; a chip has two links along each.
        network_bandwidth: bytes/s that it sends to other slices, over the data centre's network.
        wraps_at: along a dimension of this many chips, or of a multiple of it, the last chip is linked to the first.
        cores: JAX devices per chip.
    """

    name: str
    peak: float
    hbm: float
    usable: float
    hbm_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    dimensions: int
    wraps_at: int
    cores: int = 1

    @property
    def ici_bandwidth(self) -> float:
        """Bytes/s that leave the device over all links together."""
        return 2 * self.dimensions * self.link_bandwidth


# Peak, HBM and its bandwidth, and the inter-chip bandwidth are those of https://cloud.google.com/tpu/docs/v5e, /v5p,
# /v6e and /tpu7x (read in 2026). They give the inter-chip bandwidth of a chip in both directions together, 400, 1200,
# 800 and 1200 GB/s; a link has that divided by (2 directions x 2 links x dimensions). A dimension of v5e and v6e wraps
# if it is 16 chips long, one of v5p and tpu7x if it is a multiple of 4. A tpu7x is two devices, each with half of its
# 2307 TFLOP/s, 192 GiB and 7380 GB/s; traffic between the two counts as over a link. `usable` is not published: it is
# the limit in libtpu 0.0.42's message for a program that is too large. The network's figures on those pages are 6.4 and
# 25.6 Tbit/s for a pod of 256 chips of v5e and v6e, and 50 Gbit/s per chip of v5p; tpu7x has a v6e chip's 100 Gbit/s.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 197e12, 16 * 2**30, 15.75 * 2**30, 819e9, 50e9, 3.125e9, 2, 16),
        Chip("v5p", 459e12, 95 * 2**30, 95.74 * 2**30, 2765e9, 100e9, 6.25e9, 3, 4),
        Chip("v6e", 918e12, 32 * 2**30, 31.25 * 2**30, 1638e9, 100e9, 12.5e9, 2, 16),
        Chip("tpu7x", 1153.5e12, 96 * 2**30, 94.75 * 2**30, 3690e9, 50e9, 6.25e9, 3, 4, cores=2),
    )
}


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice of linked chips, or several such slices.

    Attributes:
        name: such as v5e:16x16.
        chip: the kind of chip.
        shape: chips along each dimension.
        devices: JAX devices to compile for; nothing can run on them.
        count: the number of slices of that shape.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    devices: list[Any]
    count: int = 1

    def coordinates(self) -> np.ndarray:
        """The coordinates of each device: int [N, 3]."""
        return np.array([device.coords for device in self.devices])


def parse_topology(name: str) -> tuple[Chip, tuple[int, ...], int]:
    """The chip, the shape and the number of slices of a topology, from its name.

    Raises:
        UserError: an invalid name, a chip that is not in the table, or a shape of the wrong dimension.
    """
    found = re.fullmatch(r"(?:([1-9]\d*)x)?([a-z]\w+):(\d+(?:x\d+)*)", name)
    if found is None:
        raise UserError(
            f"--topology {name!r} should be CHIP:SHAPE, such as v5e:2x4 (8 chips) or v5p:2x4x4 (32 chips); 2xv5e:2x4 "
            "is two slices"
        )
    chip = CHIPS.get(found[2])
    if chip is None:
        raise UserError(f"--topology {name}: the chips are {', '.join(CHIPS)}, not {found[2]!r}")
    shape = tuple(int(size) for size in found[3].split("x"))
    if len(shape) != chip.dimensions or min(shape) < 1:
        example = "x".join(["4"] * chip.dimensions)
        raise UserError(f"--topology {name}: a slice of {chip.name} has {chip.dimensions} sizes: {chip.name}:{example}")
    return chip, shape, int(found[1] or 1)


def load_slice(name: str) -> Slice:
    """The slice of that name, from libtpu; no TPU is needed.

    Raises:
        UserError: an invalid name, a shape that does not exist, or no libtpu.
    """
    chip, shape, count = parse_topology(name)
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"compiling for a TPU needs its compiler, libtpu: {INSTALL}")
    # libtpu searches for a TPU on this machine, and prints long complaints if there is none.
    for variable, value in _NOWHERE.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    # By default a slice consists of hosts of four chips; fewer chips are part of one host.
    options: dict[str, Any] = {"num_slices": count} if count > 1 else {}
    if math.prod(shape) < 4:
        options["chips_per_host_bounds"] = (*shape, *[1] * (3 - len(shape)))
    of_one = f"{chip.name}:{'x'.join(map(str, shape))}"
    try:
        devices = topologies.get_topology_desc(of_one, platform="tpu", **options).devices
    except Exception as error:
        reason = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise UserError(f"--topology {name}: libtpu refuses it: {reason}") from None
    chips = math.prod(shape) * count
    if len(devices) != chips * chip.cores:
        raise UserError(f"--topology {name}: libtpu makes {len(devices)} devices of {chips} chips")
    return Slice(name, chip, shape, list(devices), count)


_NOWHERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    # It allows one process at a time to use the chips; compiling uses none.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
