"""Several seeds at once or in turn: the likelihood step of configs/dense_reinforce.yaml, vmapped and one by one.

    python benchmarks/seeds.py --seeds 5

Both make the same updates (compared before anything is timed) and run interleaved in one process; medians are reported.
`gptgan train --seeds` does what is faster on a CPU.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gptgan_jax as gg


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    seeds = options.seeds
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
    at_once = jax.jit(jax.vmap(gan.likelihood_step))
    one = jax.jit(gan.likelihood_step)
    parts = [jax.tree.map(lambda x, i=i: x[i], (states, batches)) for i in range(seeds)]

    def in_turn() -> list[jax.Array]:
        return [one(state, batch)[1]["loss"] for state, batch in parts]

    np.testing.assert_allclose(np.asarray(at_once(states, batches)[1]["loss"]), np.stack(in_turn()), rtol=1e-5)
    times: dict[str, list[float]] = {"at once": [], "in turn": []}
    runs: dict[str, Callable[[], object]] = {
        "at once": lambda: at_once(states, batches)[1]["loss"],
        "in turn": lambda: jnp.stack(in_turn()),
    }
    for _ in range(options.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{seeds} seeds, a likelihood step each; {jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}"
    )
    print(f"{platform.processor() or platform.machine()}; medians of {options.repeats} interleaved runs")
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.3f} s")
    print(f"at once / in turn: {medians['at once'] / medians['in turn']:.2f}")


if __name__ == "__main__":
    main()
