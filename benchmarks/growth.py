"""Growth of cost with size: time and memory of steps, sampling and metrics, as log-log plots and slopes.

    python benchmarks/growth.py --out docs/growth.png

Starting from a GPT of 2 layers x 128, vocabulary 1,000, 16 texts of 64 tokens, one size grows at a time. Times are the
minimum of some repetitions, memory is the compiler's analysis of temporaries, compile time that of one lowering. The
slope is that of the last doubling: 1 is linear.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

import gptgan_jax as gg
from gptgan_jax.metrics.ngrams import bleu, self_bleu

BASE = {"T": 64, "B": 16, "V": 1000, "layers": 2, "N": 2}
REPEATS = 5
LEAST_SECONDS = 1.0
"""The least total time of the repetitions: the first ones of a small step wait for memory allocation."""
Point = dict[str, float]


@dataclass(frozen=True)
class Curve:
    """Figures by size.

    Attributes:
        title: the measured work.
        size: the size that grows.
        expected: the slope that the mathematics suggests for large sizes.
        points: by size, figures by name; seconds or bytes.
    """

    title: str
    size: str
    expected: str
    points: dict[int, Point]

    def slope(self, name: str) -> float:
        """d log(figure) / d log(size) over the last two sizes."""
        (a, first), (b, last) = sorted(self.points.items())[-2:]
        return math.log(last[name] / first[name]) / math.log(b / a)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the picture")
    options = parser.parse_args()
    curves = [
        stepping("likelihood step", "T", (32, 64, 128, 256, 512), "1 to 2"),
        stepping("likelihood step", "B", (8, 16, 32, 64, 128), "1"),
        stepping("likelihood step", "V", (500, 1000, 4000, 16000, 32000), "1"),
        stepping("likelihood step", "layers", (1, 2, 4, 8, 16), "1"),
        stepping("adversarial step, GRPO", "N", (2, 4, 8, 16), "1"),
        writing("sampling, per token", "T", (32, 64, 128, 256, 512), "0 to 1"),
        compiling(False),
        compiling(True),
        scoring((1000, 2000, 4000, 8000, 16000)),
    ]
    print("| what | grows | from | to | slope of the last step | expected |\n|---|---|---:|---:|---:|---|")
    for curve in curves:
        sizes = sorted(curve.points)
        slopes = ", ".join(f"{name} {curve.slope(name):.2f}" for name in curve.points[sizes[0]])
        print(f"| {curve.title} | {curve.size} | {sizes[0]:,} | {sizes[-1]:,} | {slopes} | {curve.expected} |")
    for curve in curves:
        print(f"\n{curve.title} against {curve.size}: {shown(curve)}")
    if options.out:
        draw(curves, options.out)


def network(sizes: dict[str, int], scan: bool = False) -> tuple[gg.Gan, gg.Generator, gg.Batch]:
    vocabulary = gg.Vocabulary(sizes["V"], pad_id=0, bos_id=0, eos_id=None)
    shape: dict[str, Any] = {"layers": sizes["layers"], "width": 128, "heads": 4, "max_positions": sizes["T"] + 2}
    generator = gg.build_generator(gg.TransformerConfig(**shape, scan_layers=scan), vocabulary)
    discriminator = gg.build_discriminator(gg.TransformerDiscriminatorConfig(**shape), vocabulary)
    gan = gg.gan_from(generator, discriminator, estimator=gg.grpo(samples=sizes["N"]), dense=False)
    text = jax.random.randint(jax.random.key(1), (sizes["B"], sizes["T"]), 0, vocabulary.size)
    return gan, generator, gg.unconditional_batch(text, vocabulary)


def stepping(title: str, size: str, values: Sequence[int], expected: str) -> Curve:
    points = {}
    for value in values:
        gan, _, batch = network(BASE | {size: value})
        state = gan.init(jax.random.key(0), batch)
        points[value] = measured(gan.adversarial_step if size == "N" else gan.likelihood_step, state, batch)
    return Curve(title, size, expected, points)


def writing(title: str, size: str, values: Sequence[int], expected: str) -> Curve:
    points = {}
    for value in values:
        _, generator, batch = network(BASE | {size: value})
        params = generator.init(jax.random.key(0), batch)

        def write(params: Any, key: jax.Array, batch: gg.Batch, generator: Any = generator, value: int = value) -> Any:
            return gg.sample(generator, params, key, batch.prompt, batch.prompt_mask, value)

        found = measured(write, params, jax.random.key(1), batch)
        points[value] = found | {"time": found["time"] / value}
    return Curve(title, size, expected, points)


def compiling(scan: bool) -> Curve:
    points = {}
    for layers in (2, 4, 8, 16):
        gan, _, batch = network(BASE | {"layers": layers}, scan)
        state = jax.eval_shape(gan.init, jax.random.key(0), batch)
        begin = time.perf_counter()
        jax.jit(gan.likelihood_step).lower(state, batch).compile()
        points[layers] = {"compile": time.perf_counter() - begin}
    return Curve(f"compiling the step, {'scanned' if scan else 'unrolled'}", "layers", "0" if scan else "1", points)


def scoring(values: Sequence[int]) -> Curve:
    """BLEU and Self-BLEU for each number of texts, with the same number of references."""
    rng = np.random.default_rng(0)
    points = {}
    for value in values:
        texts = [tuple(map(str, rng.zipf(1.3, size=12) % 5000)) for _ in range(2 * value)]
        points[value] = {"time": least(lambda texts=texts, value=value: scored(texts[:value], texts[value:]))}
    return Curve("BLEU and Self-BLEU", "texts and references", "1", points)


def scored(texts: Any, references: Any) -> None:
    bleu(texts, references)
    self_bleu(texts)


def measured(function: Callable[..., Any], *arguments: Any) -> Point:
    """Seconds of a call and bytes of temporaries."""
    compiled = jax.jit(function).lower(*arguments).compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    return {"time": least(lambda: jax.block_until_ready(compiled(*arguments))), "memory": float(temporaries)}


def least(run: Callable[[], Any]) -> float:
    run()
    seconds: list[float] = []
    while len(seconds) < REPEATS or sum(seconds) < LEAST_SECONDS:
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def shown(curve: Curve) -> str:
    def figure(name: str, value: float) -> str:
        return f"{value / 2**20:.1f} MiB" if name == "memory" else f"{value * 1e3:.1f} ms"

    return "; ".join(
        f"{size:,}: " + ", ".join(figure(name, value) for name, value in point.items())
        for size, point in sorted(curve.points.items())
    )


def draw(curves: Sequence[Curve], path: Path) -> None:
    """One panel per curve; a dotted line of slope 1 through the first point."""
    figure, panels = plt.subplots(3, math.ceil(len(curves) / 3), figsize=(11, 9), layout="constrained")
    for panel, curve in zip(panels.flat, curves, strict=False):
        sizes = sorted(curve.points)
        for name in curve.points[sizes[0]]:
            values = [curve.points[size][name] for size in sizes]
            line = panel.loglog(sizes, [value / values[0] for value in values], marker="o", label=name)[0]
            line.set_linestyle("-" if name != "memory" else "--")
        panel.loglog(sizes, [size / sizes[0] for size in sizes], ":", color="grey", label="slope 1")
        panel.set_title(curve.title, fontsize=9)
        panel.set_xlabel(curve.size)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
        panel.minorticks_off()
        panel.set_ylabel("over the first")
        panel.legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
