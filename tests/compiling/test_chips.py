"""Chips by their published figures, and slices by name."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
from jax.experimental import topologies

from gptgan_jax.compiling import chips
from gptgan_jax.compiling.chips import CHIPS, INSTALL, Slice, load_slice, parse_topology
from gptgan_jax.compiling.tables import heading
from gptgan_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "both_directions", "ridge"),
    [("v5e", 400e9, 240), ("v5p", 1200e9, 166), ("v6e", 800e9, 560), ("tpu7x", 600e9, 312)],
)
def test_figures_are_in_flop_and_bytes_a_second(name: str, both_directions: float, ridge: int) -> None:
    chip = CHIPS[name]
    assert 2 * chip.ici_bandwidth == both_directions
    assert int(chip.peak / chip.hbm_bandwidth) == ridge  # FLOP a byte of HBM
    assert chip.usable == pytest.approx(chip.hbm, rel=0.03)
    assert 16 * 2**30 <= chip.hbm < 128 * 2**30


def test_a_name_says_chip_and_shape() -> None:
    assert parse_topology("v5e:2x4") == (CHIPS["v5e"], (2, 4), 1)
    assert parse_topology("v5p:2x4x4") == (CHIPS["v5p"], (2, 4, 4), 1)
    assert parse_topology("2xv5e:4x4") == (CHIPS["v5e"], (4, 4), 2)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("v5e-8", "should be CHIP:SHAPE, such as v5e:2x4"),
        ("v5e:", "should be CHIP:SHAPE"),
        ("v9:2x2", "the chips are v5e, v5p, v6e, tpu7x, not 'v9'"),
        ("v5e:2x2x2", "a slice of v5e has 2 sizes: v5e:4x4"),
        ("v5p:64", "a slice of v5p has 3 sizes: v5p:4x4x4"),
        ("v5e:0x4", "has 2 sizes"),
        ("0xv5e:2x4", "should be CHIP:SHAPE"),
        ("twoxv5e:2x4", "not 'twoxv5e'"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(name: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        parse_topology(name)
    assert "\n" not in str(caught.value)


def test_a_slice_of_chips_with_two_devices_says_so() -> None:
    chips = Slice("tpu7x:2x2x1", CHIPS["tpu7x"], (2, 2, 1), [None] * 8)
    line = heading(chips, {"data": 8})
    assert line.startswith("tpu7x:2x2x1: 8 tpu7x devices, 2 a chip, as data 8; each 1154 TFLOP/s bfloat16, 96 GiB HBM")


def test_several_slices_say_how_they_are_joined() -> None:
    line = heading(Slice("2xv5e:2x2", CHIPS["v5e"], (2, 2), [None] * 8, 2), {"data": 8})
    assert line.startswith("2xv5e:2x2: 8 v5e chips in 2 slices as data 8; ")
    assert line.endswith("200 GB/s out to other chips, 3.125 GB/s to other slices")


def test_without_libtpu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="libtpu") as caught:
        load_slice("v5e:2x4")
    assert INSTALL in str(caught.value)


@pytest.mark.parametrize(
    ("several", "one", "asked", "devices"),
    [
        ("", "v5e:2x4", {}, 8),
        ("2x", "v5e:2x4", {"num_slices": 2}, 16),
        ("3x", "tpu7x:2x2x1", {"num_slices": 3}, 24),  # two devices a chip
        ("2x", "v5e:1x2", {"num_slices": 2, "chips_per_host_bounds": (1, 2, 1)}, 4),
    ],
)
def test_several_slices_are_asked_for_by_their_number_and_counted(
    several: str, one: str, asked: dict[str, Any], devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = several + one
    made: list[Any] = list(range(devices))

    def topology(of_one: str, platform: str, **options: Any) -> SimpleNamespace:
        assert (of_one, platform, options) == (one, "tpu", asked)
        return SimpleNamespace(devices=made)

    for variable, value in chips._NOWHERE.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(topologies, "get_topology_desc", topology)
    found = load_slice(name)
    assert (found.name, found.devices) == (name, made)
    assert (found.chip, found.shape, found.count) == parse_topology(name)
    del made[-1]
    with pytest.raises(UserError, match=f"--topology {name}: libtpu makes {devices - 1} devices of "):
        load_slice(name)
