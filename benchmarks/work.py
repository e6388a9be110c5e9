"""The arithmetic of a case, and how long it would take at the machine's measured rates."""

from typing import Any

from benchmarks.results import Limit
from benchmarks.sides import CASES, FOLDER, SAMPLING_ROWS, SAMPLING_TOKENS, VOCABULARY_SIZE
from gptgan_jax.compiling.networks import Work, generator_writing
from gptgan_jax.compiling.work import Parts, step_work
from gptgan_jax.config import Phase
from gptgan_jax.config_files import load_config

DECODING = ("sampling", "generate")
CACHED = 24 * 2**20
"""Bytes of weights that are taken to stay in the processor's cache."""


def parts_of(case: str) -> Parts:
    """Work by part; causal attention counts half of its square."""
    config = load_config(FOLDER / CASES[case].config)
    if case in DECODING:
        args = VOCABULARY_SIZE, SAMPLING_ROWS, 1, SAMPLING_TOKENS
        return {"writing": generator_writing(config.generator, *args)}
    phases: dict[str, Phase] = {"likelihood": "likelihood", "discriminator": "warmup"}
    return step_work(config, phases.get(case, "adversarial"), VOCABULARY_SIZE, 1)


def limit_of(case: str, machine: dict[str, Any]) -> Limit:
    """Of a step, by compute; of decoding by compute or by bandwidth, whichever takes longer."""
    parts = parts_of(case)
    total = sum(parts.values(), Work())
    moved = total.weights + total.cache
    seconds = {"compute": total.model / machine["matmul_rate"]}
    if case in DECODING:
        # Weights that a cache holds are read from it for every token but the first.
        cached = total.weights / SAMPLING_TOKENS < CACHED
        seconds["bandwidth"] = moved / machine["cache_bandwidth" if cached else "bandwidth"]
    bound = max(seconds, key=lambda name: seconds[name])
    by_part = {name: work.model for name, work in parts.items()}
    return Limit(bound, seconds[bound], CASES[case].limit, by_part, total.model, moved)
