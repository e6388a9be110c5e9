"""Chips by their published figures, and slices by name."""

import importlib.util

import pytest

from gptgan_jax.compiling.chips import CHIPS, INSTALL, load_slice, parse_topology
from gptgan_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "both_directions", "ridge"),
    [("v5e", 400e9, 240), ("v5p", 1200e9, 166), ("v6e", 800e9, 560)],
)
def test_figures_are_in_flop_and_bytes_a_second(name: str, both_directions: float, ridge: int) -> None:
    chip = CHIPS[name]
    assert 2 * chip.ici_bandwidth == both_directions
    assert int(chip.peak / chip.hbm_bandwidth) == ridge  # FLOP a byte of HBM
    assert chip.usable == pytest.approx(chip.hbm, rel=0.03)
    assert 16 * 2**30 <= chip.hbm < 128 * 2**30


def test_a_name_says_chip_and_shape() -> None:
    assert parse_topology("v5e:2x4") == (CHIPS["v5e"], (2, 4))
    assert parse_topology("v5p:2x4x4") == (CHIPS["v5p"], (2, 4, 4))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("v5e-8", "should be CHIP:SHAPE, such as v5e:2x4"),
        ("v5e:", "should be CHIP:SHAPE"),
        ("v9:2x2", "the chips are v5e, v5p, v6e, not 'v9'"),
        ("v5e:2x2x2", "a slice of v5e has 2 sizes: v5e:4x4"),
        ("v5p:64", "a slice of v5p has 3 sizes: v5p:4x4x4"),
        ("v5e:0x4", "has 2 sizes"),
    ],
)
def test_a_name_that_is_none_is_refused_in_one_line(name: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        parse_topology(name)
    assert "\n" not in str(caught.value)


def test_without_libtpu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="libtpu") as caught:
        load_slice("v5e:2x4")
    assert INSTALL in str(caught.value)
