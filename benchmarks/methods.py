"""The time of a step of each method relative to REINFORCE: the column "cost" of docs/methods.md.

    python -m benchmarks.methods [FILE] [--repeats 20] [--arms reinforce seqgan ...]

FILE is a comparison (default: configs/compare_grammar.yaml): its arms are the methods, with its sizes and vocabulary.
Each arm's adversarial step is compiled and timed on one batch of random tokens; the arms run in turn, and the median is
reported.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gptgan_jax.config import Config
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.text_rewards.config import unpaid
from gptgan_jax.training.phases import build_gan
from gptgan_jax.types import Batch, Vocabulary
from gptgan_jax.workflows.comparison import load_comparison

YARDSTICK = "reinforce"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", default="configs/compare_grammar.yaml")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--arms", nargs="*", help="only these; default: all that have an adversarial phase")
    options = parser.parse_args()
    comparison = load_comparison(options.file)
    arms = {arm.name: arm.config for arm in comparison.arms if arm.config.adversarial.steps}
    wanted = options.arms or [name for name in arms if not name.startswith("control")]
    if missing := [name for name in (YARDSTICK, *wanted) if name not in arms]:
        parser.error(f"{options.file} has the arms {', '.join(arms)}, and not {', '.join(missing)}")
    vocabulary = load_experiment(comparison.base).generator.vocabulary
    steps = {name: step_of(arms[name], vocabulary) for name in dict.fromkeys([YARDSTICK, *wanted])}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats):
        for name, step in steps.items():
            begun = time.perf_counter()
            jax.block_until_ready(step())
            seconds[name].append(time.perf_counter() - begun)
    machine = f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}"
    print(f"{machine}; {options.file}, {vocabulary.size:,} tokens\n")
    print("| method | texts a step | a step (ms) | over REINFORCE |\n|---|---:|---:|---:|")
    of_reinforce = statistics.median(seconds[YARDSTICK])
    for name, times in seconds.items():
        config, median = arms[name], statistics.median(times)
        texts = config.rows("adversarial")
        print(f"| {name} | {texts} | {1e3 * median:.1f} | {median / of_reinforce:.2f} |")


def step_of(config: Config, vocabulary: Vocabulary) -> Callable[[], Any]:
    """An adversarial step, compiled, on one batch of texts of all lengths."""
    players = build_networks(config, vocabulary)
    gan = build_gan(config, "adversarial", *players, functions=unpaid(config.objective.rewards))
    batch = texts_of(config, vocabulary)
    state = jax.jit(gan.init)(jax.random.key(0), batch)
    step = jax.jit(gan.adversarial_step).lower(state, batch).compile()
    step(state, batch)
    return lambda: step(state, batch)


def texts_of(config: Config, vocabulary: Vocabulary) -> Batch:
    """Random tokens, without prompts; half of the longest text on average."""
    rng, rows, length = np.random.default_rng(0), config.rows("adversarial"), config.data.max_length
    mask = np.arange(length) < rng.integers(1, length + 1, rows)[:, None]
    target = np.where(mask, rng.integers(3, vocabulary.size, mask.shape), vocabulary.pad_id)
    last = mask & ~np.pad(mask[:, 1:], ((0, 0), (0, 1)))
    target[last] = vocabulary.eos_id
    prompt = np.full((rows, 1), vocabulary.bos_id, np.int32)
    given: Any = prompt, prompt == prompt, target.astype(np.int32), mask, np.full(rows, -1, np.int32)
    return Batch(*given)


if __name__ == "__main__":
    main()
