"""Time saved by batches of texts of similar length: likelihood steps of a config with increasing numbers of widths.

    python benchmarks/length_buckets.py configs/coco_captions.yaml --data.train TRAIN.txt

Fifty batches, with the same texts for all widths, run in turn; the median of three turns is reported.
"""

import argparse
import os
import statistics
import time

import jax
import numpy as np

from gptgan_jax.config.files import load_config
from gptgan_jax.data.batches import bucketed_batch_at, window_of
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.training.phases import build_gan

BUCKETS = (1, 2, 4, 8)
TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config")
    options, overrides = parser.parse_known_args()
    try:
        config = load_config(options.config, overrides)
        experiment = load_experiment(config)
    except UserError as error:
        parser.exit(2, f"length_buckets: {error}\n")
    gan = build_gan(config, "likelihood", experiment.generator, experiment.discriminator)
    step = jax.jit(gan.likelihood_step)
    state = gan.init(jax.random.key(0), experiment.example_batch())
    rows = config.likelihood.batch_size
    together = window_of(experiment.train, rows)
    batches = {
        count: [bucketed_batch_at(experiment.train, 0, place, rows, count) for place in range(together)]
        for count in BUCKETS
    }
    compilation, seconds = {}, {count: [] for count in BUCKETS}
    for count, those in batches.items():
        jax.clear_caches()
        start = time.perf_counter()
        widths = {(batch.prompt.shape[1], batch.target.shape[1]): batch for batch in those}
        jax.block_until_ready([step(state, batch) for batch in widths.values()])
        compilation[count] = time.perf_counter() - start
    for turn in range(TURNS + 1):
        for count, those in batches.items():
            start = time.perf_counter()
            for batch in those:
                jax.block_until_ready(step(state, batch)[1])
            if turn:  # the first turn compiles again, as programs are cleared
                seconds[count].append(time.perf_counter() - start)
    lengths = experiment.train.targets.lengths(np.arange(len(experiment.train)))
    print(f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}; {together} batches of {rows} texts")
    print(f"{lengths.mean():.1f} tokens a text, the longest {config.data.max_length}\n")
    print("| widths | of it padding | a step | against one width | compilation |")
    print("|---:|---:|---:|---:|---:|")
    for count, those in batches.items():
        padding = 1 - sum(b.target_mask.sum() for b in those) / sum(b.target_mask.size for b in those)
        median, first = (statistics.median(seconds[one]) / together for one in (count, 1))
        print(
            f"| {count} | {padding:.0%} | {1000 * median:.0f} ms | {first / median:.2f} | {compilation[count]:.1f} s |"
        )


if __name__ == "__main__":
    main()
