"""Times sampling with weights in float32 and in bfloat16, in turn, and the share of tokens that are the same.

python -m benchmarks.held_weights
python -m benchmarks.held_weights --config benchmarks/cases/gpt2.yaml --rows 8 --tokens 128
"""

import argparse
import functools
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gptgan_jax as gg
from benchmarks import machine
from benchmarks.sides import FOLDER, SAMPLING_ROWS, SAMPLING_TOKENS
from gptgan_jax.config.files import load_config
from gptgan_jax.generation.weights import held_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(FOLDER / "gpt.yaml"))
    parser.add_argument("--rows", type=int, default=SAMPLING_ROWS)
    parser.add_argument("--tokens", type=int, default=SAMPLING_TOKENS)
    parser.add_argument("--rounds", type=int, default=15)
    options, overrides = parser.parse_known_args()
    config = load_config(options.config, overrides)
    assert config.vocab_size is not None
    vocabulary = gg.Vocabulary(config.vocab_size, pad_id=0, bos_id=0, eos_id=None)
    generator = gg.build_generator(config.generator, vocabulary)
    prompt = jnp.zeros((options.rows, 1), jnp.int32)
    batch = gg.unconditional_batch(jnp.zeros((options.rows, options.tokens), jnp.int32), vocabulary)
    params = generator.init(jax.random.key(0), batch)
    write = jax.jit(functools.partial(gg.sample, generator, length=options.tokens))
    arguments = jax.random.key(1), prompt, prompt == 0
    held = {weights: held_in(params, weights) for weights in ("float32", "bfloat16")}
    texts = {weights: jax.block_until_ready(write(params, *arguments)) for weights, params in held.items()}
    seconds: dict[str, list[float]] = {weights: [] for weights in held}
    for _ in range(options.rounds):
        for weights, params in held.items():
            begin = time.perf_counter()
            jax.block_until_ready(write(params, *arguments))
            seconds[weights].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(seconds["float32"], seconds["bfloat16"], strict=True)]
    same = np.mean(np.asarray(texts["float32"].tokens) == np.asarray(texts["bfloat16"].tokens))
    print(f"{machine.hardware()}, {Path(options.config).stem}, {options.rows} x {options.tokens} tokens\n")
    print("| weights | MB | ms, median | of float32's speed |\n|---|---:|---:|---:|")
    for weights, params in held.items():
        size = sum(x.nbytes for x in jax.tree.leaves(params)) / 1e6
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        shown = "1" if weights == "float32" else spread
        print(f"| {weights} | {size:.1f} | {1e3 * statistics.median(seconds[weights]):.1f} | {shown} |")
    print(f"\ntokens that are the same: {same:.1%}")


if __name__ == "__main__":
    main()
