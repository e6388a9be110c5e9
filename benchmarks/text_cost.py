"""The cost of a sample from each model of a comparison: FLOP by formula, and processor time.

    python -m benchmarks.text_cost [FILE] [--rows 250] [--rounds 9]

FILE is a comparison (default: configs/compare_recommended.yaml), whose networks are built at their sizes with random
parameters. Its likelihood model generates one text, the likeliest of N (evaluation.best_of), and one of N resampled by
the discriminator (objective.residual_candidates of an arm); arms from scratch use their own generators. Texts have the
full length of the arrays. The models run in turn, and medians of the processor time of all cores are reported.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

import gptgan_jax as gg
from benchmarks import machine
from gptgan_jax.compiling.networks import discriminator_forward, generator_sampling
from gptgan_jax.config import Config
from gptgan_jax.models.generators import Generator
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.types import Params, Sample, Vocabulary
from gptgan_jax.workflows.comparison import Comparison, load_comparison


@dataclass(frozen=True, eq=False)
class Writer:
    """One row of the table: a way to sample.

    Attributes:
        name: in the table.
        flop: of one text, by formula.
        write: samples `rows` texts from a key and the parameters below; compiled.
        params: passed as arguments, as in use: as constants, the compiler could change their layout.
    """

    name: str
    flop: float
    write: Callable[..., Sample]
    params: tuple[Params, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="configs/compare_recommended.yaml")
    parser.add_argument("--rows", type=int, default=250, help="texts of a call")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    writers = list(writers_of(load_comparison(options.file), options.rows))
    seconds: dict[str, list[float]] = {writer.name: [] for writer in writers}
    for turn in range(options.rounds + 1):
        for writer in writers:
            begin = time.process_time()
            jax.block_until_ready(writer.write(*writer.params, key=jax.random.key(turn)))
            if turn:  # the first call compiles
                seconds[writer.name].append((time.process_time() - begin) / options.rows)
    first, of_first = writers[0].flop, statistics.median(seconds[writers[0].name])
    print(f"{machine.hardware()}; {options.file}, {options.rows} texts a call\n")
    print("| model | MFLOP a text | over the first | processor ms a text | over the first |\n|---|---:|---:|---:|---:|")
    for writer in writers:
        median = statistics.median(seconds[writer.name])
        print(
            f"| {writer.name} | {writer.flop / 1e6:.2f} | {writer.flop / first:.1f} | {1e3 * median:.3f} | "
            f"{median / of_first:.1f} |"
        )


def writers_of(comparison: Comparison, rows: int) -> Iterator[Writer]:
    """The ways in which the comparison's models sample."""
    base = comparison.base
    vocabulary = load_experiment(base).generator.vocabulary
    generator, plain = _plain("likelihood", base, vocabulary, rows)
    yield plain
    length, prompt = base.data.max_length, jnp.full((rows, 1), vocabulary.bos_id, jnp.int32)
    if count := base.evaluation.best_of:
        best = partial(gg.best_of, generator, prompt=prompt, prompt_mask=prompt >= 0, length=length, candidates=count)
        yield Writer(f"likelihood, best of {count}", count * plain.flop, jax.jit(best), plain.params)
    for arm in comparison.arms:
        if arm.from_scratch and arm.config.generator != base.generator:
            yield _plain(arm.label, arm.config, vocabulary, rows)[1]
        elif (count := arm.config.objective.residual_candidates) and arm.config.objective.reward != "constant":
            _, discriminator = build_networks(arm.config, vocabulary, ())
            scorer = discriminator.init(jax.random.key(1), _batch(arm.config, vocabulary))
            model = gg.residual(generator, discriminator)
            chosen = jax.jit(partial(model.sample, count=rows, length=length, candidates=count))
            score = discriminator_forward(arm.config.discriminator, 1, length).model
            params = (*plain.params, scorer)
            yield Writer(f"{arm.label}, resampling {count}", count * (plain.flop + score), chosen, params)


def _plain(name: str, config: Config, vocabulary: Vocabulary, rows: int) -> tuple[Generator, Writer]:
    """A generator of the configuration, and the row for sampling one text at a time from it with random parameters."""
    generator, _ = build_networks(config, vocabulary, ())
    prompt, length = jnp.full((rows, 1), vocabulary.bos_id, jnp.int32), config.data.max_length
    write = jax.jit(partial(gg.sample, generator, prompt=prompt, prompt_mask=prompt >= 0, length=length))
    flop = generator_sampling(config.generator, vocabulary.size, 1, 1, length).model
    return generator, Writer(name, flop, write, (generator.init(jax.random.key(0), _batch(config, vocabulary)),))


def _batch(config: Config, vocabulary: Vocabulary) -> gg.Batch:
    return gg.unconditional_batch(jnp.zeros((1, config.data.max_length), jnp.int32), vocabulary)


if __name__ == "__main__":
    main()
