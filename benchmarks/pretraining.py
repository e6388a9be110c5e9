"""Pre-training on large text: packed rows, tokenising, batches from a store, memory.

    python benchmarks/pretraining.py packing configs/coco_captions.yaml --data.train TRAIN.txt
    python benchmarks/pretraining.py store --megabytes 1000 --folder FOLDER

`packing` times likelihood steps of a config on batches of one text per row, of length buckets and of packed rows, in
turn, and counts the tokens that are text. `store` writes text of the grammar to FOLDER, tokenises a part of it with the
library alone and into a store, in turn, and trains a small GPT on 10 MB and on all of it, each twice and in a process
of its own: peak memory, and seconds until the first step.
"""

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from gptgan_jax import TransformerConfig, build_discriminator, build_generator, gan_from
from gptgan_jax.config.files import load_config
from gptgan_jax.data.batches import batch_at, bucketed_batch_at
from gptgan_jax.data.packing import StoredRows, packed_batch_at, packed_split
from gptgan_jax.data.store import build_store
from gptgan_jax.data.tokenizers import load_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.models.discriminator_networks import LinearConfig
from gptgan_jax.readers.documents import stream_documents
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.training.phases import build_gan
from gptgan_jax.types import Batch

ROUNDS, BATCHES, SMALL = 5, 20, 10
TOKENISED_MB = 40
CONFIG = """
data: {kind: text, train: %s, store: %s, max_length: 64}
tokenizer: {kind: bpe, vocab_size: 4000}
generator: {layers: 4, width: 256, heads: 4, max_positions: 128}
discriminator: {kind: linear, embedding: 8}
likelihood: {steps: 200, batch_size: 32, packing: concatenate, optimizer: {warmup_steps: 10}}
warmup: {steps: 0}
adversarial: {steps: 0}
continued: {steps: 0}
records: {tensorboard: false}
evaluation: {every: 100, log_every: 1, samples: 100, max_texts: 500, judge: {steps: 50}}
"""


def packing(config_file: str, overrides: list[str]) -> None:
    config = load_config(config_file, overrides)
    experiment = load_experiment(config)
    train, rows = experiment.train, config.likelihood.batch_size
    gan = build_gan(config, "likelihood", experiment.generator, experiment.discriminator)
    step = jax.jit(gan.likelihood_step)
    state = gan.init(jax.random.key(0), experiment.example_batch())
    concatenated, fitted = (packed_split(train, how, False) for how in ("concatenate", "best_fit"))
    made: dict[str, Callable[[int], Batch]] = {
        "a text a row": lambda i: batch_at(train, 0, i, rows),
        "4 length buckets": lambda i: bucketed_batch_at(train, 0, i, rows, 4),
        "best_fit": lambda i: packed_batch_at(fitted, 0, i, rows),
        "concatenate": lambda i: packed_batch_at(concatenated, 0, i, rows),
    }
    batches = {name: [make(i) for i in range(BATCHES)] for name, make in made.items()}
    speeds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(ROUNDS + 1):
        for name, those in batches.items():
            start = time.perf_counter()
            for batch in those:
                jax.block_until_ready(step(state, batch)[1])
            tokens = sum(int(batch.target_mask.sum()) for batch in those)
            if turn:
                speeds[name].append(tokens / (time.perf_counter() - start))
    print(
        f"{machine()}; {rows} rows of {config.data.max_length} tokens, {experiment.generator.vocabulary.size} words\n"
    )
    print("| batches | of it text | tokens a second that count | against a text a row |\n|---|---:|---:|---:|")
    for name, those in batches.items():
        share = np.mean([batch.target_mask.mean() for batch in those])
        ratios = [one / other for one, other in zip(speeds[name], speeds["a text a row"], strict=True)]
        print(
            f"| {name} | {share:.0%} | {statistics.median(speeds[name]):,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def store(megabytes: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {size: write_text(folder / f"text_{size}.txt", size) for size in (SMALL, megabytes)}
    print(f"{machine()}; text of the grammar, documents of 1 to 40 sentences; BPE of 4,000 tokens\n")
    print("| MB of text | run | peak memory (MB) | until the first step (s) |\n|---:|---|---:|---:|")
    peaks: dict[int, float] = {}
    for (size, text), run in itertools.product(texts.items(), (1, 2)):
        peak, first = train(folder, size, text, run)
        peaks[size] = max(peak, peaks.get(size, 0))
        print(
            f"| {size:,} | {'tokenises' if run == 1 else 'opens the store'} | {peak:,.0f} | {first:.1f} |", flush=True
        )
    print(f"\nmore memory for {megabytes:,} MB than for {SMALL}: {peaks[megabytes] - peaks[SMALL]:,.0f} MB")
    tokenising(folder, texts[megabytes])
    assembling(folder, megabytes)


def write_text(path: Path, megabytes: int) -> Path:
    """Writes documents of sentences of the grammar, unless the file exists."""
    if not path.exists():
        sentences = english_scenes().sample(np.random.default_rng(0), 50_000)
        rng, size = random.Random(1), 0
        with path.open("w") as file:
            while size < megabytes * 1_000_000:
                size += file.write(" ".join(rng.choices(sentences, k=rng.randint(1, 40))) + "\n")
    return path


def train(folder: Path, size: int, text: Path, run: int) -> tuple[float, float]:
    """Peak memory of a run in MB, and the seconds until its first step is recorded."""
    config = folder / f"pretrain_{size}_{run}.yaml"
    config.write_text(CONFIG % (text, folder / f"store_{size}"))
    runs = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "gptgan_jax", "train", str(config), "--runs_folder", str(runs)]
    start = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first, status = None, None
    while status is None:
        if first is None and any(file.stat().st_size for file in runs.glob("*/metrics.jsonl")):
            first = time.time() - start
        time.sleep(0.02)
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        status = status if done else None
    if status or first is None:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1000, first


def tokenising(folder: Path, text: Path) -> None:
    """Times a part of the text with the library's `encode_batch` alone, and read, encoded and written to a store."""
    tokenizer = load_tokenizer(folder / f"store_{SMALL}" / "tokenizer")
    part = folder / "part.txt"
    with text.open() as source, part.open("w") as file:
        size = 0
        while size < TOKENISED_MB * 1_000_000:
            size += file.write(next(source))
    documents = list(stream_documents("part", str(part), "line"))
    seconds: dict[str, list[float]] = {"encode_batch": [], "store": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for first in range(0, len(documents), 1000):
            tokenizer.backend.encode_batch(documents[first : first + 1000], add_special_tokens=False)
        seconds["encode_batch"].append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            start = time.perf_counter()
            build_store(
                Path(made), lambda: stream_documents("part", str(part), "line"), tokenizer, "", lambda line: None
            )
            seconds["store"].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(seconds["encode_batch"], seconds["store"], strict=True)]
    speed = size / statistics.median(seconds["store"]) / 1e6
    print(
        f"\ntokenising {TOKENISED_MB} MB into a store: {speed:.1f} MB/s, {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) of encode_batch alone"
    )


def assembling(folder: Path, size: int) -> None:
    """Times a batch from the store against the step that uses it."""
    config = load_config(folder / f"pretrain_{size}_1.yaml")
    experiment = load_experiment(config)
    assert experiment.store is not None
    vocabulary = experiment.generator.vocabulary
    rows = StoredRows(experiment.store, vocabulary, 64, False)
    generator = build_generator(TransformerConfig(layers=4, width=256, heads=4, max_positions=128), vocabulary)
    gan = gan_from(generator, build_discriminator(LinearConfig(embedding=8), vocabulary))
    batch = packed_batch_at(rows, 0, 0, 32)
    state, step = gan.init(jax.random.key(0), batch), jax.jit(gan.likelihood_step)
    jax.block_until_ready(step(state, batch)[1])
    made, steps = [], []
    for place in range(1, 51):
        start = time.perf_counter()
        batch = packed_batch_at(rows, 0, place, 32)
        made.append(time.perf_counter() - start)
        start = time.perf_counter()
        jax.block_until_ready(step(state, batch)[1])
        steps.append(time.perf_counter() - start)
    one, other = statistics.median(made), statistics.median(steps)
    print(f"\na batch of 32 x 64 tokens: {1000 * one:.2f} ms, {one / other:.2%} of a step of GPT 4 x 256")
    print(f"(the step: {1000 * other:.0f} ms)")


def machine() -> str:
    return f"{jax.default_backend()}, {os.cpu_count()} CPUs, JAX {jax.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("packing").add_argument("config")
    of_store = commands.add_parser("store")
    of_store.add_argument("--megabytes", type=int, default=1000)
    of_store.add_argument("--folder", type=Path, required=True)
    options, overrides = parser.parse_known_args()
    try:
        if options.command == "packing":
            packing(options.config, overrides)
        else:
            store(options.megabytes, options.folder)
    except UserError as error:
        parser.exit(2, f"pretraining: {error}\n")


if __name__ == "__main__":
    main()
