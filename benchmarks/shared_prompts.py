"""Times several texts per prompt: the prompt read once for all of them, against one prompt per row.

    python benchmarks/shared_prompts.py --prompt 320 --text 64 --samples 8

GRPO's adversarial step of two GPTs of 4 x 256, and its sampling alone; the results of both ways are compared before
timing, and they run in turn. Peak memory is the compiler's figure for temporaries.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import gptgan_jax as gg
from gptgan_jax.algorithms.gan import Gan


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("prompt", 320), ("text", 64), ("samples", 8), ("batch", 4), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    vocabulary = gg.Vocabulary(5000, eos_id=None)  # so that every text has the full length
    sizes: dict[str, Any] = {"layers": 4, "width": 256, "heads": 4, "max_positions": options.prompt + options.text + 1}
    generator = gg.build_generator(gg.TransformerConfig(**sizes), vocabulary)
    discriminator = gg.build_discriminator(gg.TransformerDiscriminatorConfig(**sizes), vocabulary)
    rng = np.random.default_rng(0)
    shapes = (options.batch, options.prompt), (options.batch, options.text)
    prompt, target = (rng.integers(3, vocabulary.size, shape, dtype=np.int32) for shape in shapes)
    label = np.full(options.batch, -1, np.int32)
    given: Any = prompt, np.ones(prompt.shape, bool), target, np.ones(target.shape, bool), label
    batch = gg.Batch(*given)
    gans = {
        "once": gan_of(generator, discriminator, options.samples),
        "a row": gan_of(generator._replace(branch=None), discriminator._replace(shares_prompts=False), options.samples),
    }
    state = gans["once"].init(jax.random.key(0), batch)
    steps = {name: jax.jit(gan.adversarial_step).lower(state, batch).compile() for name, gan in gans.items()}
    losses = [float(step(state, batch)[1]["discriminator_loss"]) for step in steps.values()]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    memory = {name: step.memory_analysis().temp_size_in_bytes / 2**20 for name, step in steps.items()}
    print(
        f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}; {options.batch} prompts of "
        f"{options.prompt} tokens, {options.samples} texts of {options.text} for each\n"
    )
    print("| work | a prompt a row | prompts once | ratio |\n|---|---:|---:|---:|")
    row("adversarial step", {name: lambda step=step: step(state, batch)[1] for name, step in steps.items()}, options)
    print(
        f"| its temporaries (MiB) | {memory['a row']:,.0f} | {memory['once']:,.0f} | "
        f"{memory['a row'] / memory['once']:.2f} |"
    )
    key = jax.random.key(1)
    draws = {
        name: jax.jit(
            lambda params, of=of: gg.sample(
                of, params, key, batch.prompt, batch.prompt_mask, options.text, samples=options.samples
            )
        )
        for name, of in (("a row", generator._replace(branch=None)), ("once", generator))
    }
    params = state.generator.params
    row("sampling alone", {name: lambda draw=draw: draw(params) for name, draw in draws.items()}, options)


def gan_of(generator: gg.Generator, discriminator: gg.Discriminator, samples: int) -> Gan:
    return gg.gan_from(generator, discriminator, estimator=gg.grpo(samples), dense=False)


def row(name: str, runs: dict[str, Callable[[], Any]], options: argparse.Namespace) -> None:
    seconds: dict[str, list[float]] = {side: [] for side in runs}
    for turn in range(options.repeats + 1):
        for side, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                seconds[side].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(seconds["a row"], seconds["once"], strict=True)]
    one, other = (statistics.median(seconds[side]) for side in ("a row", "once"))
    print(
        f"| {name} (s) | {one:.2f} | {other:.2f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


if __name__ == "__main__":
    main()
