"""Collectives and their bytes, of programs whose traffic is known, compiled for eight pretended CPU devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gptgan_jax.compiling.collectives import BETWEEN_SLICES, collectives_of, totals

PROGRAMS = """
import sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from gptgan_jax.sampling.decoding import at_most
mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)

def text(function, shape, source, target):
    place = NamedSharding(mesh, source)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)
    return jax.jit(function, out_shardings=NamedSharding(mesh, target)).lower(x).compile().as_text()

def on_each(function):
    return jax.shard_map(function, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"), check_vma=False)

def summed(y):
    return jnp.sin(jax.lax.psum(y, "rows"))

looped = on_each(lambda x: jax.lax.fori_loop(0, 7, lambda i, y: summed(y), x))
until = on_each(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 3, summed, x))

def named(x):
    with jax.named_scope(at_most(5)):
        return jax.lax.while_loop(lambda y: y[0, 0] < 3, summed, x)

for one in (
    text(lambda x: x.sum(axis=0), (8, 256), P("rows"), P()),
    text(lambda x: x + 1, (8, 256), P("rows"), P()),
    text(looped, (8, 256), P("rows"), P("rows")),
    text(until, (8, 256), P("rows"), P("rows")),
    text(on_each(named), (8, 256), P("rows"), P("rows")),
):
    print(one, "@@@@", sep="\\n")
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, str]:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS], env=environment, capture_output=True, text=True, check=True, timeout=600
    )
    return dict(zip(("sum", "gather", "loop", "until", "named"), done.stdout.split("@@@@"), strict=False))


def test_an_all_reduce_sends_its_sum_out_and_back(compiled: dict[str, str]) -> None:
    (one,) = collectives_of(compiled["sum"], 8, 1)
    assert one.kind == "all-reduce"
    assert one.groups.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert one.total == 2 * (256 * 4) * 3 / 4


def test_an_all_gather_sends_all_but_a_devices_own_part(compiled: dict[str, str]) -> None:
    (one,) = collectives_of(compiled["gather"], 8, 1)
    assert one.kind == "all-gather"
    assert one.total == (8 * 256 * 4) * 3 / 4


def test_a_loop_of_known_length_counts_each_turn(compiled: dict[str, str]) -> None:
    sums = [one for one in collectives_of(compiled["loop"], 8, 99) if one.kind == "all-reduce"]
    assert [one.times for one in sums] == [7]
    assert not sums[0].open_ended
    assert sums[0].total == 7 * 2 * (2 * 256 * 4) * 3 / 4


def test_a_loop_that_the_data_end_counts_as_often_as_the_caller_says(compiled: dict[str, str]) -> None:
    sums = [one for one in collectives_of(compiled["until"], 8, 99) if one.kind == "all-reduce" and one.sent > 100]
    assert [(one.times, one.open_ended) for one in sums] == [(99, True)]


def test_a_loop_that_the_data_end_counts_as_often_as_its_name_says(compiled: dict[str, str]) -> None:
    sums = [one for one in collectives_of(compiled["named"], 8, 99) if one.kind == "all-reduce" and one.sent > 100]
    assert [(one.times, one.open_ended) for one in sums] == [(5, True)]


# How libtpu writes what a CPU never does: the same gather where it starts, beside a product and where it is waited for;
# a reduce-scatter as a fusion; groups along an axis of a mesh; a counter compared with a constant.
TPU = """
%start (p: bf16[8,16]) -> bf16[32,16] {
  %g.1 = bf16[32,16]{1,0} all-gather(%p), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}
  ROOT %c.1 = bf16[32,16]{1,0} custom-call(%g.1), custom_call_target="AsyncCollectiveStart"
}

%beside (p: bf16[8,16]) -> bf16[32,16] {
  ROOT %g.2 = bf16[32,16]{1,0} all-gather(%p), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}
}

%done (p: bf16[8,16]) -> bf16[32,16] {
  %g.3 = bf16[32,16]{1,0} all-gather(%p), channel_id=3, replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}
  ROOT %c.2 = bf16[32,16]{1,0} custom-call(%g.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.1 (p: f32[16,4]) -> f32[8,4] {
  %r = f32[16,4]{1,0} all-reduce(%p), channel_id=4, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  ROOT %d = f32[8,4]{1,0} dynamic-slice(%r, %i, %j), dynamic_slice_sizes={8,4}
}

%condition (s: (u32[], bf16[8,16])) -> pred[] {
  %limit = u32[]{:T(128)} constant(12)
  %s = (u32[]{:T(128)}, bf16[8,16]{1,0}) parameter(0)
  %i = u32[]{:T(128)} get-tuple-element(%s), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%body (s: (u32[], bf16[8,16])) -> (u32[], bf16[8,16]) {
  %two = u32[]{:T(128)} constant(2)
  %next = u32[]{:T(128)} add(%i.2, %two)
  %f.1 = bf16[32,16]{1,0} fusion(%x), kind=kCustom, calls=%start
  %f.2 = bf16[32,16]{1,0} fusion(%x), kind=kOutput, calls=%beside
  %f.3 = bf16[32,16]{1,0} fusion(%x), kind=kCustom, calls=%done
  ROOT %t = (u32[]{:T(128)}, bf16[8,16]{1,0}) tuple(%next, %x)
}

ENTRY %main (x: bf16[8,16]) -> bf16[8,16] {
  %w = (s32[]{:T(128)}, bf16[8,16]{1,0}) while(%t), condition=%condition, body=%body
  %f = f32[8,4]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_what_libtpu_writes_in_several_places_counts_once() -> None:
    scatter, gather = sorted(collectives_of(TPU, 8, 1), key=lambda one: one.kind, reverse=True)
    assert (scatter.kind, scatter.times, scatter.sent) == ("reduce-scatter", 1, 16 * 4 * 4 / 2)
    # The counter grows by two a turn.
    assert (gather.kind, gather.times, gather.sent) == ("all-gather", 6, 32 * 16 * 2 * 3 / 4)
    np.testing.assert_array_equal(gather.groups, [[0, 2, 4, 6], [1, 3, 5, 7]])
    assert totals([scatter, gather]) == {"all-gather": (6, 6 * 768), "reduce-scatter": (1, 128)}


BETWEEN = """
ENTRY %main (x: f32[256,8,128]) -> f32[256,8,128] {
  %send = (f32[256,8,128]{2,1,0:T(8,128)}, u32[], token[]) send(%x, %after-all), channel_id=2, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[256,8,128]{2,1,0:T(8,128)}, u32[], token[]) recv(%after-all), channel_id=1, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
}
"""


def test_what_goes_to_other_slices_counts_once_and_by_their_number() -> None:
    (found,) = collectives_of(BETWEEN, 4, 1)
    assert found.kind == BETWEEN_SLICES
    assert found.total == 256 * 8 * 128 * 4
    (found,) = collectives_of(BETWEEN.replace("{1,2}x", "{1:3,6}x"), 4, 1)  # four slices: 2 x 3/4 of the buffer
    assert found.total == 1.5 * 256 * 8 * 128 * 4
    (found,) = collectives_of(BETWEEN.replace("ALL_REDUCE", "ALL_GATHER"), 4, 1)
    assert found.total == 256 * 8 * 128 * 4


def test_groups_in_all_their_spellings() -> None:
    def groups(spelling: str) -> list[list[int]]:
        line = f"  %g = f32[8]{{0}} all-gather(%p), channel_id=1, {spelling}, dimensions={{0}}"
        (one,) = collectives_of(f"ENTRY %main (p: f32[4]) -> f32[8] {{\n{line}\n}}\n", 8, 1)
        return one.groups.tolist()

    assert groups("replica_groups={{0,4},{1,5},{2,6},{3,7}}") == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert groups("replica_groups=[4,2]<=[2,4]T(1,0)") == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert groups("replica_groups=[2,4]<=[8]") == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups("replica_groups=mesh['a'=2,'b'=4] {'a'}") == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert groups("replica_groups=mesh['a'=8] {'a':(2)2}") == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert groups("replica_groups={}") == [[0, 1, 2, 3, 4, 5, 6, 7]]
