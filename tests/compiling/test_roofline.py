"""Times at a chip's published figures."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gptgan_jax.compiling.chips import CHIPS, Slice
from gptgan_jax.compiling.collectives import BETWEEN_SLICES, Collective
from gptgan_jax.compiling.networks import Work
from gptgan_jax.compiling.programs import Program
from gptgan_jax.compiling.roofline import bandwidth, roofline


def pretended(name: str, shape: tuple[int, ...]) -> Slice:
    places = [(*place, *[0] * (3 - len(shape))) for place in np.ndindex(shape)]
    devices: list[Any] = [SimpleNamespace(coords=place) for place in places]
    return Slice(name, CHIPS[name], shape, devices)


def gather(groups: list[list[int]], sent: float = 1.0) -> Collective:
    return Collective("all-gather", sent, 1, np.array(groups), False)


@pytest.mark.parametrize(
    ("chip", "shape", "groups", "links"),
    [
        ("v5e", (16, 16), np.arange(256).reshape(1, 256), 4),  # both dimensions, and both wrap
        ("v5e", (16, 16), np.arange(256).reshape(16, 16), 2),  # one ring
        ("v5e", (16, 16), np.arange(256).reshape(32, 8), 1),  # half a ring is a line
        ("v5e", (2, 4), np.arange(8).reshape(1, 8), 2),  # two lines: nothing wraps
        ("v5p", (2, 4, 4), np.arange(32).reshape(1, 32), 5),  # a line of two and two rings
        ("v5p", (2, 4, 4), np.arange(32).reshape(8, 4), 2),
        ("v5e", (16, 16), np.array([[*range(16)], [*range(8), *range(16, 24)]]), 2),
        ("v5p", (4, 4, 4), np.array([[0, 1, 2, 3], [0, 1, 4, 5]]), 2),
        ("v5p", (4, 4, 4), np.array([[0, 1, 4, 5], [0, 1, 2, 3], [0, 2, 0, 2]]), 1),  # the slowest of them
    ],
)
def test_a_collective_has_the_links_along_what_its_group_spans(
    chip: str, shape: tuple[int, ...], groups: np.ndarray, links: int
) -> None:
    chips = pretended(chip, shape)
    one = Collective("all-gather", 1.0, 1, groups, False)
    assert bandwidth(one, chips, chips.coordinates()) == links * CHIPS[chip].link_bandwidth


def test_other_slices_are_reached_over_the_network() -> None:
    chips = pretended("v6e", (2, 2))
    assert (
        bandwidth(Collective(BETWEEN_SLICES, 1.0, 1, np.zeros((1, 1), int), False), chips, chips.coordinates())
        == 12.5e9
    )


def test_each_part_takes_the_longer_of_its_arithmetic_and_its_reading() -> None:
    chips = pretended("v5e", (2, 4))
    chip = chips.chip
    parts = {
        "learning": Work(model=4 * chip.peak, performed=8 * chip.peak, weights=chip.hbm_bandwidth / 10),
        "sampling": Work(performed=0.8 * chip.peak, weights=6 * chip.hbm_bandwidth, cache=8 * chip.hbm_bandwidth),
    }
    sent = gather([list(range(8))], sent=5 * 2 * chip.link_bandwidth)
    times = roofline(Program("step", None, parts, (sent,), 16 * chip.hbm_bandwidth), chips, tensor=2)
    assert times.compute == pytest.approx(1 + 0.1)
    assert times.memory == pytest.approx(0.05 + (3 + 1) + 2)
    assert times.working == pytest.approx(1 + 4 + 2)
    assert times.communication == pytest.approx(5)
    assert (times.overlapped, times.in_turn) == (pytest.approx(7), pytest.approx(12))
    assert times.communication_share == pytest.approx(5 / 12)
    assert times.model_flops == 4 * chip.peak / 8
