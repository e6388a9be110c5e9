"""The arithmetic of a case, and how long it would take at the machine's measured rates."""

from typing import Any

from benchmarks.results import Limit
from benchmarks.sides import CASES, SAMPLING_ROWS, SAMPLING_TOKENS, config_of
from gptgan_jax.compiling.networks import Work, generator_writing
from gptgan_jax.compiling.work import Parts, step_work

DECODING = ("sampling", "generate")
CACHED = 24 * 2**20
"""Bytes of weights that are taken to stay in the processor's cache."""


def parts_of(case: str) -> Parts:
    """Work by part; causal attention counts half of its square."""
    config = config_of(case)
    assert config.vocab_size is not None
    if case in DECODING:
        args = config.vocab_size, SAMPLING_ROWS, 1, SAMPLING_TOKENS
        return {"writing": generator_writing(config.generator, *args)}
    return step_work(config, CASES[case].phase, config.vocab_size, 1)


def limit_of(case: str, machine: dict[str, Any]) -> Limit:
    """Of a step, by compute; of decoding by compute or by bandwidth, whichever takes longer."""
    parts = parts_of(case)
    total = sum(parts.values(), Work())
    moved = total.weights + total.cache
    # Where products of bfloat16 are no faster, as on CPUs, their rate is not measured.
    half = config_of(case).generator.dtype == "bfloat16" and machine.get("bfloat16_rate")
    seconds = {"compute": total.model / (half or machine["matmul_rate"])}
    if case in DECODING:
        # Weights that a cache holds are read from it for every token but the first.
        cached = total.weights / SAMPLING_TOKENS < CACHED
        seconds["bandwidth"] = moved / machine["cache_bandwidth" if cached else "bandwidth"]
    bound = max(seconds, key=lambda name: seconds[name])
    by_part = {name: work.model for name, work in parts.items()}
    return Limit(bound, seconds[bound], CASES[case].limit, by_part, total.model, moved)
