"""A lower bound on the time of a program, from a chip's published figures.

Each part takes the longer of its arithmetic and its reading of weights, keys and values from HBM; collectives take the
time of their bytes on the links that they can use. With perfect overlap the step takes the longer of the two sums;
without overlap, both together. Latencies, activations that pass through HBM, dispatch and data from the host are not
counted, so the real time is longer.
"""

from dataclasses import dataclass

import numpy as np

from gptgan_jax.compiling.chips import Slice
from gptgan_jax.compiling.collectives import BETWEEN_SLICES, Collective
from gptgan_jax.compiling.networks import Work
from gptgan_jax.compiling.programs import Program


@dataclass(frozen=True)
class Roofline:
    """Seconds, the same on every device.

    Attributes:
        compute: of all matrix products at the chip's peak.
        memory: of reading weights, caches and optimiser states at the bandwidth of HBM.
        working: of the parts, each the longer of compute and memory.
        communication: of all collectives, one after the other.
        model_flops: FLOP that the mathematics needs, on one device.
        performed_flops: FLOP of the program, on one device.
    """

    compute: float
    memory: float
    working: float
    communication: float
    model_flops: float
    performed_flops: float

    @property
    def overlapped(self) -> float:
        """Seconds of the step if communication and work overlap perfectly."""
        return max(self.working, self.communication)

    @property
    def in_turn(self) -> float:
        """Seconds of the step if nothing overlaps."""
        return self.working + self.communication

    @property
    def communication_share(self) -> float:
        """The share of communication in the time without overlap."""
        return self.communication / self.in_turn if self.in_turn else 0.0


def roofline(program: Program, chips: Slice, tensor: int) -> Roofline:
    """The times of a program.

    Args:
        program: compiled.
        chips: that it was compiled for.
        tensor: devices that share each text; each reads its part of every weight.
    """
    chip, devices = chips.chip, len(chips.devices)

    def arithmetic(work: Work) -> float:
        return work.performed / devices / chip.peak

    def reading(work: Work) -> float:
        return (work.weights / tensor + work.cache / devices) / chip.hbm_bandwidth

    parts = program.parts.values()
    optimizers = program.optimizer_traffic / devices / chip.hbm_bandwidth
    coordinates = chips.coordinates()
    return Roofline(
        compute=sum(map(arithmetic, parts)),
        memory=sum(map(reading, parts)) + optimizers,
        working=sum(max(arithmetic(work), reading(work)) for work in parts) + optimizers,
        communication=sum(one.total / bandwidth(one, chips, coordinates) for one in program.collectives),
        model_flops=sum(work.model for work in parts) / devices,
        performed_flops=sum(work.performed for work in parts) / devices,
    )


def bandwidth(collective: Collective, chips: Slice, coordinates: np.ndarray) -> float:
    """Bytes/s that a chip can send in a collective: over the links along the dimensions that its group spans, or to
    another slice over the network.

    Along a dimension that wraps around and that its group spans from end to end, both links are used; otherwise the
    data of both directions pass along a line, at half the rate.

    Args:
        collective: the operation.
        chips: the slice.
        coordinates: of its devices, int [N, 3].
    """
    chip = chips.chip
    if collective.kind == BETWEEN_SLICES:
        return chip.network_bandwidth

    def links(group: np.ndarray) -> float:
        found = 0.0
        for dimension, size in enumerate(chips.shape):
            spanned = len(np.unique(group[:, dimension]))
            if spanned > 1:
                ring = spanned == size and size % chip.wraps_at == 0
                found += 2.0 if ring else 1.0
        return max(found, 1.0)

    # All groups send at once, and are as fast as the slowest.
    return min(links(coordinates[group]) for group in collective.groups) * chip.link_bandwidth
