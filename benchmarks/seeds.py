"""Times several seeds at once (`jax.vmap`) or in turn: a likelihood step of a GPT, and whole trainings of a tiny pair.

    python benchmarks/seeds.py --seeds 5 --case step      # the likelihood step of configs/dense_reinforce.yaml
    python benchmarks/seeds.py --seeds 5 --case training  # examples/seeds_and_rates.py: all phases, at each of --rates

Both make the same updates (compared before timing) and run interleaved in one process; medians are reported. A training
in turn is also one compiled program, called once for each seed and rate. On a CPU a tiny network leaves the machine
idle between its many small operations, and several seeds at once use that time; a larger network does not. `gptgan
train --seeds` uses the faster way for the step.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg

Run = Callable[[], jax.Array]


def of_step(seeds: int, rates: list[float]) -> tuple[Run, Run]:
    """At once and in turn: a likelihood step for each seed, and its losses [S]."""
    vocabulary = gg.Vocabulary(size=847)
    network = gg.TransformerConfig(
        layers=3, width=128, heads=4, mlp_width=256, max_positions=64, norm="rms", activation="swiglu"
    )
    gan = gg.gan_from(
        gg.build_generator(network, vocabulary),
        gg.build_discriminator(gg.LinearConfig(embedding=8), vocabulary),
        generator_optimizer=optax.adam(1e-3),
    )
    texts = jax.random.randint(jax.random.key(0), (seeds, 64, 25), 3, vocabulary.size)
    batches = jax.vmap(lambda text: gg.unconditional_batch(text, vocabulary))(texts)
    states = jax.vmap(gan.init)(jax.random.split(jax.random.key(1), seeds), batches)
    at_once, one = jax.jit(jax.vmap(gan.likelihood_step)), jax.jit(gan.likelihood_step)
    parts = [jax.tree.map(lambda x, i=i: x[i], (states, batches)) for i in range(seeds)]
    return (
        lambda: at_once(states, batches)[1]["loss"],
        lambda: jnp.stack([one(state, batch)[1]["loss"] for state, batch in parts]),
    )


def of_training(seeds: int, rates: list[float]) -> tuple[Run, Run]:
    """At once and in turn: a training for each seed and rate, and its nats per token of held-out text [S, R]."""
    example = _example()
    vocabulary = gg.Vocabulary(size=64)
    texts = jax.random.randint(jax.random.key(0), (256, 8), 3, vocabulary.size)
    train = example.training(
        gg.build_generator(gg.LstmConfig(hidden=16, embedding=16), vocabulary),
        gg.build_discriminator(gg.LinearConfig(embedding=16), vocabulary),
        texts,
        gg.unconditional_batch(texts[:64], vocabulary),
        example.Steps(likelihood=200, warmup=50, adversarial=50, batch=8, adversarial_batch=16),
    )
    keys, given = jax.random.split(jax.random.key(1), seeds), jnp.array(rates)
    at_once, one = example.at_once(train), jax.jit(train)
    return (
        lambda: at_once(keys, given)["adversarial"],
        lambda: jnp.stack([jnp.stack([one(key, rate)["adversarial"] for rate in given]) for key in keys]),
    )


def _example() -> Any:
    """The module examples/seeds_and_rates.py, which is not in a package."""
    path = Path(__file__).parents[1] / "examples" / "seeds_and_rates.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


CASES = {"step": of_step, "training": of_training}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, default="step")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3], help="of the training")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    at_once, in_turn = CASES[options.case](options.seeds, options.rates)
    np.testing.assert_allclose(np.asarray(at_once()), np.asarray(in_turn()), rtol=1e-3)
    times: dict[str, list[float]] = {"at once": [], "in turn": []}
    for _ in range(options.repeats):
        for name, run in (("at once", at_once), ("in turn", in_turn)):
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    what = "a likelihood step" if options.case == "step" else f"a training at each of {len(options.rates)} rates"
    backend = f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}"
    print(f"{options.seeds} seeds, {what} for each; {backend}")
    print(f"{platform.processor() or platform.machine()}; medians of {options.repeats} interleaved runs")
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.3f} s")
    print(f"in turn / at once: {medians['in turn'] / medians['at once']:.2f}")


if __name__ == "__main__":
    main()
