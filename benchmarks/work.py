"""The arithmetic of a case, and its time at the machine's measured rates or at a device's peak."""

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.results import Limit
from benchmarks.sides import CASES, SAMPLING_ROWS, SAMPLING_TOKENS, config_of
from gptgan_jax.compiling.chips import CHIPS
from gptgan_jax.compiling.networks import Work, generator_sampling
from gptgan_jax.compiling.work import Parts, step_work

DECODING = ("sampling", "generate")
CACHED = 24 * 2**20
"""Bytes of weights that are assumed to stay in the processor's cache."""

PEAKS = {
    "TPU v5 lite": CHIPS["v5e"].peak,
    "TPU v5": CHIPS["v5p"].peak,
    "TPU v6 lite": CHIPS["v6e"].peak,
    "TPU7x": CHIPS["tpu7x"].peak,
    "NVIDIA A100": 312e12,
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H200": 989.5e12,
    "NVIDIA L4": 121e12,
}
"""Published bfloat16 FLOP/s by the beginning of JAX's name for the device; for GPUs from NVIDIA's data sheets, half of
the figures for sparse matrices."""


def peak_of(kind: str) -> float | None:
    """The published peak of a device, by JAX's name for it; None if it is not in the table."""
    found = [name for name in PEAKS if re.match(rf"{re.escape(name)}(?!\w| lite)", kind)]
    return PEAKS[max(found, key=len)] if found else None


def parts_of(case: str, overrides: Sequence[str] = ()) -> Parts:
    """Work by part; causal attention counts as half of its square."""
    config = config_of(case, overrides)
    assert config.vocab_size is not None
    if case in DECODING:
        args = config.vocab_size, SAMPLING_ROWS, 1, SAMPLING_TOKENS
        return {"sampling": generator_sampling(config.generator, *args)}
    return step_work(config, CASES[case].phase, config.vocab_size, 1)


def limit_of(case: str, machine: dict[str, Any]) -> Limit:
    """The limit of a step by compute; of decoding by compute or by bandwidth, whichever takes longer."""
    parts = parts_of(case)
    total = sum(parts.values(), Work())
    moved = total.weights + total.cache
    # If bfloat16 products are no faster, as on CPUs, their rate is not measured.
    half = config_of(case).generator.dtype == "bfloat16" and machine.get("bfloat16_rate")
    seconds = {"compute": total.model / (half or machine["matmul_rate"])}
    if case in DECODING:
        # Weights that fit in the cache are read from it for every token but the first.
        cached = total.weights / SAMPLING_TOKENS < CACHED
        seconds["bandwidth"] = moved / machine["cache_bandwidth" if cached else "bandwidth"]
    bound = max(seconds, key=lambda name: seconds[name])
    by_part = {name: work.model for name, work in parts.items()}
    return Limit(bound, seconds[bound], CASES[case].limit, by_part, total.model, moved)
