"""The cost of reward functions: a step with a trivial one against the step without, and molecules with more processes.

    python -m benchmarks.reward_callback                        # the quickstart's step
    python -m benchmarks.reward_callback configs/gad.yaml --data.train TRAIN.txt
    python -m benchmarks.reward_callback --molecules            # needs RDKit: pip install 'gptgan_jax[molecules]'

Both run in turn; the median, the quartiles and the fastest, which is least affected by load, are reported.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gptgan_jax.config.files import load_config
from gptgan_jax.data.batches import batch_at
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.text_rewards.calling import Call, Texts
from gptgan_jax.text_rewards.config import HostRewards, RewardConfig
from gptgan_jax.text_rewards.functions import BUILT_IN
from gptgan_jax.text_rewards.workers import Workers
from gptgan_jax.training.phases import build_gan

TURNS = 15
MOLECULES = 1024
FRAGMENTS = ("C", "CC", "N", "O", "c1ccccc1", "C(=O)", "C(C)", "C1CCNCC1", "S", "C(F)(F)", "c1ccncc1", "C(=O)N")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", nargs="?", default="quickstart")
    parser.add_argument("--molecules", action="store_true", help="1,024 texts by one and by two processes instead")
    options, overrides = parser.parse_known_args()
    print(f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}")
    try:
        if options.molecules:
            of_molecules()
        else:
            of_steps(options.config, overrides)
    except UserError as error:
        parser.exit(2, f"reward_callback: {error}\n")


def of_steps(name: str, overrides: list[str]) -> None:
    """An adversarial step of a config, without and with the length of its texts as a reward."""
    plain = load_config(name, [*overrides, "--objective.rewards", "[]"])
    paid = dataclasses.replace(
        plain, objective=dataclasses.replace(plain.objective, rewards=(RewardConfig(function="length", weight=0.01),))
    )
    experiment = load_experiment(plain)
    rewards = HostRewards(paid.objective.rewards, experiment.tokenizer, experiment.train)
    batch = jax.device_put(batch_at(experiment.train, 0, 0, plain.rows("adversarial")))
    runs: dict[str, Callable[[], Any]] = {}
    for which, config, functions in (("without", plain, None), ("with", paid, rewards.functions)):
        gan = build_gan(config, "adversarial", experiment.generator, experiment.discriminator, None, functions)
        step, state = jax.jit(gan.adversarial_step), gan.init(jax.random.key(0), batch)
        runs[which] = lambda step=step, state=state: jax.block_until_ready(step(state, batch))  # type: ignore[misc]
    report(runs, "without", "with")


def of_molecules() -> None:
    """Checks texts, half of which are valid molecules, with one process and with two."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(FRAGMENTS, rng.integers(3, 12))) for _ in range(MOLECULES)]
    broken = [text[: len(text) * 2 // 3] for text in texts[::2]]
    given = Texts([*texts[1::2], *broken])
    call = Call("valid_molecule", BUILT_IN["valid_molecule"])
    workers = {count: Workers(call, count) for count in (1, 2)}
    values = {count: those(given, None) for count, those in workers.items()}
    assert values[1] == values[2]
    print(f"{len(given)} texts, {sum(values[1]) / len(given):.0%} of them molecules")
    report({f"{count} worker(s)": lambda those=those: those(given, None) for count, those in workers.items()},  # type: ignore[misc]
           "2 worker(s)", "1 worker(s)")  # fmt: skip
    for those in workers.values():
        those.close()


def report(runs: dict[str, Callable[[], Any]], below: str, above: str) -> None:
    """Times the runs in turn, and prints their ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(TURNS + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn > 1:
                seconds[name].append(time.perf_counter() - start)
    for name, those in seconds.items():
        low, median, high = statistics.quantiles(those, n=4)
        print(f"{name}: {1000 * median:.1f} ms ({1000 * low:.1f} to {1000 * high:.1f})")
    ratios = [one / other for one, other in zip(seconds[above], seconds[below], strict=True)]
    fastest = min(seconds[above]) / min(seconds[below])
    print(
        f"{above} / {below}: {statistics.median(ratios):.3f}, the median of {TURNS} pairs; of the fastest {fastest:.3f}"
    )


if __name__ == "__main__":
    main()
