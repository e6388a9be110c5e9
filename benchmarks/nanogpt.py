"""Likelihood training on packed rows against nanoGPT's training step in PyTorch: same text, same shape, same tokens.

    python -m benchmarks.nanogpt TRAIN.txt VALID.txt --steps 1000

Both train a GPT of 4 x 256 with AdamW, warmup and a cosine schedule, on 32 windows of 64 tokens of concatenated
documents. Each side is a process of its own, and they take turns of 25 steps; making batches is timed as well. The
rival follows nanoGPT's train.py: windows at random positions of the stream, its initial weights, weight decay only of
matrices, gradients clipped to norm 1. Ours are rows of the same stream, cut at different positions in each epoch, which
reads each token once. At the end both report the nats of the same tokens of the validation text, read in the same
windows.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.__main__ import ENVIRONMENT, RIVAL_ENVIRONMENT

LENGTH, ROWS, TURN = 64, 32, 25
LAYERS, WIDTH, HEADS = 4, 256, 4
RISE, PEAK, LEAST, BETAS, DECAY, CLIP = 100, 1e-3, 0.1, (0.9, 0.95), 0.1, 1.0
ROOT = Path(__file__).parents[1]
ENVIRONMENTS = {"ours": ENVIRONMENT, "rival": ENVIRONMENT | RIVAL_ENVIRONMENT}


class Learner(NamedTuple):
    """One side: `step` takes the index of the step; `validate` returns the validation loss in nats per token."""

    step: Callable[[int], None]
    finish: Callable[[], None]
    validate: Callable[[], float]


def prepare(train: str, valid: str, folder: Path) -> int:
    """Writes the streams of tokens that both sides read; returns the number of token ids."""
    from gptgan_jax.config.checking import config_from
    from gptgan_jax.runs.experiment import load_experiment

    data = {"kind": "text", "train": train, "valid": valid, "max_length": LENGTH}
    experiment = load_experiment(config_from({"data": data, "tokenizer": {"kind": "word", "min_count": 2}}))
    for name, split in (("train", experiment.train), ("valid", experiment.valid)):
        np.save(folder / f"{name}.npy", split.targets.tokens)
        np.save(folder / f"{name}_offsets.npy", split.targets.offsets)
    return experiment.generator.vocabulary.size


def ours(folder: Path, size: int, steps: int) -> Learner:
    import jax
    import jax.numpy as jnp

    import gptgan_jax as gg
    from gptgan_jax.data.encoding import Ragged
    from gptgan_jax.data.packing import PackedSplit, packed_batch_at
    from gptgan_jax.objectives.optimizers import OptimizerConfig, build_optimizer
    from gptgan_jax.sampling.decoding import log_probs

    vocabulary = gg.Vocabulary(size)

    def rows_of(name: str) -> PackedSplit:
        documents = Ragged(
            np.load(folder / f"{name}.npy", allow_pickle=False),
            np.load(folder / f"{name}_offsets.npy", allow_pickle=False),
        )
        first = np.append(np.arange(0, len(documents.tokens), LENGTH, dtype=np.int64), len(documents.tokens))
        return PackedSplit(documents, None, first, True, vocabulary, LENGTH, attend_across=True)

    train, valid = rows_of("train"), rows_of("valid")
    network = gg.TransformerConfig(layers=LAYERS, width=WIDTH, heads=HEADS, max_positions=LENGTH + 1)
    optimizer = OptimizerConfig(
        learning_rate=PEAK,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=DECAY,
        warmup_steps=RISE,
        schedule="cosine",
        final_fraction=LEAST,
        clip_norm=CLIP,
    )
    generator = gg.build_generator(network, vocabulary)
    gan = gg.gan_from(
        generator,
        gg.build_discriminator(gg.LinearConfig(embedding=8), vocabulary),
        generator_optimizer=build_optimizer(optimizer, steps),
    )
    learn = jax.jit(gan.likelihood_step, donate_argnums=0)
    state = gan.init(jax.random.key(0), packed_batch_at(train, 0, 0, ROWS))

    def step(place: int) -> None:
        nonlocal state
        state, _ = learn(state, packed_batch_at(train, 0, place, ROWS))

    def validate() -> float:
        nats_of = jax.jit(lambda params, batch: -log_probs(generator, params, batch, 1.0).sum())
        nats = sum(
            float(nats_of(state.generator.params, valid.gather(rows)))
            for rows in np.array_split(np.arange(len(valid)), math.ceil(len(valid) / ROWS))
        )
        return nats / valid.tokens

    return Learner(step, lambda: jax.block_until_ready(jnp.copy(state.step)), validate)


def rival(folder: Path, size: int, steps: int, mode: str) -> Learner:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from benchmarks.torch_networks import Gpt, Trunk

    torch.manual_seed(0)
    model = Gpt(Trunk(LAYERS, WIDTH, HEADS, LENGTH, size))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            last = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": DECAY},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
        ],
        betas=BETAS,
        fused=True,
    )

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    compiled = torch.compile(loss_of) if mode == "compiled" else loss_of
    tokens = np.load(folder / "train.npy", allow_pickle=False).astype(np.int32)

    def rate(place: int) -> float:
        if place < RISE:
            return PEAK * (place + 1) / (RISE + 1)
        done = min((place - RISE) / max(steps - RISE, 1), 1.0)
        return PEAK * (LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * done)))

    def step(place: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate(place)
        starts = torch.randint(len(tokens) - LENGTH, (ROWS,)).tolist()
        windows = torch.from_numpy(np.stack([tokens[i : i + LENGTH + 1] for i in starts]).astype(np.int64))
        optimizer.zero_grad(set_to_none=True)
        compiled(windows[:, :-1], windows[:, 1:]).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()

    @torch.no_grad()
    def validate() -> float:
        held_out = torch.from_numpy(np.load(folder / "valid.npy", allow_pickle=False).astype(np.int64))
        stream = F.pad(held_out, (1, 0), value=2)  # an end of text before the first token
        nats = 0.0
        for start in range(0, len(held_out), LENGTH):
            inputs, targets = stream[start : start + LENGTH], held_out[start : start + LENGTH]
            nats += float(F.cross_entropy(model(inputs[None, : len(targets)])[0], targets, reduction="sum"))
        return nats / len(held_out)

    return Learner(step, lambda: None, validate)


def serve(side: str, folder: Path, size: int, steps: int, mode: str) -> None:
    """A side in its process: for "25 50" on standard input it runs those steps and prints the seconds, for "end" the
    loss."""
    learner = ours(folder, size, steps) if side == "ours" else rival(folder, size, steps, mode)
    for line in sys.stdin:
        if line.strip() == "end":
            print(learner.validate(), flush=True)
            return
        first, last = map(int, line.split())
        start = time.perf_counter()
        for place in range(first, last):
            learner.step(place)
        learner.finish()
        print(time.perf_counter() - start, flush=True)


def asked(process: "subprocess.Popen[str]", line: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def turns(steps: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + TURN, steps)) for first in range(0, steps, TURN))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train")
    parser.add_argument("valid")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--mode", choices=("compiled", "eager"), default="compiled", help="of the rival")
    parser.add_argument("--serve", nargs=3, metavar=("SIDE", "FOLDER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        side, folder, size = options.serve
        serve(side, Path(folder), int(size), options.steps, options.mode)
        return
    with tempfile.TemporaryDirectory() as folder:
        size = prepare(options.train, options.valid, Path(folder))
        sides = {
            side: subprocess.Popen(
                [sys.executable, "-m", "benchmarks.nanogpt", *sys.argv[1:], "--serve", side, folder, str(size)],
                env=os.environ | ENVIRONMENTS[side],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in ("ours", "rival")
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for first, last in turns(options.steps):
            for side, process in sides.items():
                seconds[side].append(asked(process, f"{first} {last}"))
        losses = {side: asked(process, "end") for side, process in sides.items()}
    ratios = [one / other for one, other in zip(seconds["rival"][1:], seconds["ours"][1:], strict=True)]
    tokens = options.steps * ROWS * LENGTH
    print(f"{os.cpu_count()} CPUs; {size:,} token ids, {ROWS} x {LENGTH} tokens a step, {tokens:,} tokens\n")
    print("| side | tokens a second | first turn, compiled in it (s) | validation (nats/token) |\n|---|---:|---:|---:|")
    for side, name in (("ours", "ours"), ("rival", f"PyTorch after nanoGPT, {options.mode}")):
        speed = TURN * ROWS * LENGTH / statistics.median(seconds[side][1:])
        print(f"| {name} | {speed:,.0f} | {seconds[side][0]:.1f} | {losses[side]:.4f} |")
    print(f"\nratio of the turns: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
