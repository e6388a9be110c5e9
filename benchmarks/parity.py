"""Computations that must agree on a device and on a CPU: kernels, losses, sampling, a step of each phase.

    python -m benchmarks.parity PART SIZE OUT.npz [GIVEN.npz]      # by `python -m benchmarks.device`

One run, on the device, saves arrays. Another, on the CPU and in float32, gets the random draws of the first and
computes the same. Each side chooses its own kernels and layouts, so the real ones are compared.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import gptgan_jax as gg
from benchmarks import ours
from benchmarks.child import TOLERANCES, whole_gradients
from benchmarks.sides import Arrays, config_of, flattened, load, save
from gptgan_jax.algorithms import texts
from gptgan_jax.config import Phase
from gptgan_jax.layers.attention import attend, attend_beside, flash_attend, mask_of
from gptgan_jax.layers.chunked_likelihood import Teacher, weighted_divergence, weighted_nats
from gptgan_jax.objectives.likelihood import entropy, kl_divergence, token_log_probs
from gptgan_jax.sampling.decoding import draw
from gptgan_jax.training.phases import step_of
from gptgan_jax.types import Array

Size = Literal["tiny", "full"]
FLOAT32 = TOLERANCES["float32"]
KERNEL_IN_BFLOAT16 = 0.02
"""Tolerance of a kernel or product with bfloat16 operands, whose error is up to 0.4 %, against float32."""
DRAWS = 2**16
STANDARD_ERRORS = 6.0

SMALL = (
    "--generator.layers=2",
    "--discriminator.layers=2",
    "--likelihood.batch_size=4",
    "--warmup.batch_size=4",
    "--adversarial.batch_size=4",
)
"""Overrides of benchmarks/cases/gpt2.yaml for the steps: the widths stay, so the kernels are those of the model."""
TINY = (
    *(f"--{player}.{key}" for player in ("generator", "discriminator") for key in ("layers=1", "width=16", "heads=2")),
    *(f"--{phase}.batch_size=3" for phase in ("likelihood", "warmup", "adversarial")),
    "--vocab_size=50",
    "--data.max_length=130",
)
"""Overrides of it for a trial of the comparison itself; the texts are still long enough for a kernel."""
MIDDLING = ("--data.max_length=256", "--vocab_size=8192")
EXACT = tuple(
    f"--{player}.{key}" for player in ("generator", "discriminator") for key in ("dtype=float32", "attention=dense")
)


# ---- attention


def attention(size: Size, given: Arrays) -> Arrays:
    """Outputs and gradients: in full, with a shared prompt, and by the device's kernel with padding and segments."""
    batch, length, kv_heads, group, width = (2, 150, 2, 1, 16) if size == "tiny" else (2, 1024, 12, 1, 64)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    padded = np.ones((batch, length), bool)
    padded[0, :9], padded[1, -20:] = False, False
    segments = np.sort(rng.integers(0, 4, (batch, length)), axis=1).astype(np.int32)
    found: Arrays = {}

    def compare(name: str, function: Callable[..., Array], arrays: tuple[Array, ...], counts: Any = True) -> None:
        """The value, and its gradient by each array, at the tokens that count, bool [B, T]."""
        shown = jnp.asarray(counts)[..., None, None, None] if np.ndim(counts) else jnp.bool_(True)
        weights = normal(*jax.eval_shape(function, *arrays).shape)

        def total(arrays: tuple[Array, ...]) -> tuple[Array, Array]:
            mixed = jnp.where(shown, function(*arrays).astype(jnp.float32), 0)
            return (mixed * weights).sum(), mixed

        gradients, mixed = jax.jit(jax.grad(total, has_aux=True))(arrays)
        names = (f"{name}/gradient_of_{what}" for what in ("queries", "keys", "values", "prompt_keys", "prompt_values"))
        found[f"{name}/mixed"] = np.asarray(mixed)
        found.update({key: np.asarray(x, np.float32) for key, x in zip(names, gradients, strict=False)})

    for heads, groups, wide in ((kv_heads, group, width), (2, 3, 16 if size == "tiny" else 128)):
        queries = normal(batch, length, heads, groups, wide)
        keys, values = normal(batch, heads, length, wide), normal(batch, heads, length, wide)
        kind = f"{heads}x{groups}x{wide}"
        halves = tuple(x.astype(jnp.bfloat16) for x in (queries, keys, values))
        on_cpu = tuple(x.astype(jnp.float32) for x in halves) if given else halves
        for label, mask, causal in (
            ("causal", padded, True),
            ("both_ways", padded, False),
            ("packed", segments, True),
        ):
            counts = mask if mask.dtype == bool else True
            tokens = jnp.asarray(mask)
            in_full = partial(_in_full, tokens, causal)
            compare(f"float32/full_{label}_{kind}", in_full, (queries, keys, values), counts)
            kernel = in_full if given else partial(_by_kernel, tokens, causal)
            compare(f"bfloat16/kernel_{label}_{kind}", kernel, on_cpu, counts)
    texts_each, own = 3, 16
    prompt_keys, prompt_values = normal(batch, 2, length, wide), normal(batch, 2, length, wide)
    rows = batch * texts_each
    arrays = normal(rows, own, 2, 3, wide), normal(rows, 2, own, wide), normal(rows, 2, own, wide)
    causal = jnp.broadcast_to(jnp.tril(jnp.ones((own, own), bool)), (rows, own, own))

    def beside(queries: Array, keys: Array, values: Array, prompt_keys: Array, prompt_values: Array) -> Array:
        return attend_beside(queries, prompt_keys, prompt_values, jnp.asarray(padded), keys, values, causal)

    compare("float32/beside_a_prompt", beside, (*arrays, prompt_keys, prompt_values))
    return found


def _in_full(tokens: Array, causal: bool, queries: Array, keys: Array, values: Array) -> Array:
    return attend(queries, keys, values, mask_of(tokens, causal))


def _by_kernel(tokens: Array, causal: bool, queries: Array, keys: Array, values: Array) -> Array:
    return flash_attend(queries, keys, values, tokens, causal)


# ---- losses


def cross_entropy(size: Size, given: Arrays) -> Arrays:
    """All implementations of the likelihood, and the divergences: values and gradients."""
    batch, length, width, vocab_size = (2, 9, 8, 50) if size == "tiny" else (8, 128, 768, 50_257)
    rng = np.random.default_rng(1)
    hidden = jnp.asarray(rng.normal(size=(batch, length, width)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(width, vocab_size)) * width**-0.5, jnp.float32)
    theirs = jnp.asarray(rng.normal(size=(width, vocab_size)) * width**-0.5, jnp.float32)
    bias = jnp.asarray(rng.normal(size=vocab_size), jnp.float32)
    targets = jnp.asarray(rng.integers(0, vocab_size, (batch, length)), jnp.int32)
    weights = jnp.asarray(rng.uniform(size=(batch, length)) / targets.size, jnp.float32)
    found: Arrays = {}

    def compare(name: str, loss: Callable[..., Array], *arrays: Array) -> None:
        value, gradients = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(arrays)))))(*arrays)
        found[f"{name}/value"] = np.asarray(value)
        found.update({f"{name}/gradient_{i}": np.asarray(gradient) for i, gradient in enumerate(gradients)})

    for dtype in ("float32", "bfloat16"):
        of = jnp.dtype("float32" if given else dtype)

        def nats(hidden: Array, kernel: Array, bias: Array, of: jnp.dtype = of) -> Array:
            return weighted_nats(hidden, kernel, bias, targets, weights, of)

        def divergence(hidden: Array, kernel: Array, bias: Array, of: jnp.dtype = of) -> Array:
            teacher = Teacher(hidden, theirs, None, of)
            return weighted_divergence(hidden, kernel, bias, teacher, weights, 0.5, 1.0, of)

        compare(f"{dtype}/weighted_nats", nats, hidden, kernel, bias)
        compare(f"{dtype}/weighted_divergence", divergence, hidden, kernel, bias)
    logits, others = hidden @ kernel, hidden @ theirs
    compare("float32/token_log_probs", lambda x: (weights * token_log_probs(x, targets)).sum(), logits)
    compare("float32/entropy", lambda x: (weights * entropy(x)).sum(), logits)
    compare("float32/kl_divergence", lambda x: (weights * kl_divergence(x, others)).sum(), logits)
    return found


# ---- sampling


def sampling(size: Size, given: Arrays) -> Arrays:
    """Log-probabilities of the device's samples, computed on the CPU; greedy texts; frequencies of drawn tokens.

    The frequencies are compared with the probabilities in standard errors, so their name ends with "~".
    """
    sizes = {"layers": 1, "width": 16, "heads": 2} if size == "tiny" else {"layers": 4, "width": 256, "heads": 4}
    vocab_size, length, rows = (50, 8, 4) if size == "tiny" else (50_257, 64, 32)
    vocabulary = gg.Vocabulary(vocab_size, pad_id=0, bos_id=0, eos_id=None)
    generator = gg.build_generator(gg.TransformerConfig(**sizes, max_positions=length + 8), vocabulary)
    key = jax.random.key(0)
    prompt = jax.random.randint(jax.random.key(2), (rows, 4), 0, vocab_size)
    mask = jnp.ones(prompt.shape, bool)
    targets = jnp.zeros((2 * rows, length), jnp.int32)
    batch = gg.Batch(prompt, mask, targets, jnp.ones(targets.shape, bool), jnp.zeros(2 * rows, jnp.int32))
    # Larger weights than at the start of training, so that greedy choices are not a matter of rounding.
    params = jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, generator.init(key, batch.replace(target=targets)))
    write = jax.jit(partial(gg.sample, generator, length=length, samples=2))
    greedy = write(params, key, prompt, mask, temperature=jnp.float32(0))
    tokens = jnp.asarray(given["given/tokens"]) if given else None
    found: Arrays = {"greedy": np.asarray(greedy.tokens)}
    if tokens is None:
        drawn = write(params, key, prompt, mask, temperature=jnp.float32(0.9))
        found |= {"given/tokens": np.asarray(drawn.tokens), "float32/log_probs": np.asarray(drawn.log_probs)}
    else:
        read = jax.jit(partial(gg.log_probs, generator, temperature=0.9))
        found["float32/log_probs"] = np.asarray(read(params, batch.replace(target=tokens)))
    # A few tokens, each drawn many times, among others that are hardly ever drawn.
    likely = jnp.arange(0, vocab_size, vocab_size // 20)
    logits = jnp.full((1, vocab_size), -30.0).at[0, likely].set(jnp.linspace(-1, 1, likely.size))
    return found | {"drawn~": _frequencies(logits, drawn=not given)}


def _frequencies(logits: Array, drawn: bool) -> np.ndarray:
    """The deviation of each token's frequency from its probability in standard errors; zeros without drawing."""
    if not drawn:
        return np.zeros(logits.shape[1], np.float32)
    tokens, _ = jax.jit(partial(draw, count=DRAWS))(jax.random.key(9), logits)
    expected = np.asarray(jax.nn.softmax(logits[0]), np.float64)
    expected /= expected.sum()
    counts = np.bincount(np.asarray(tokens), minlength=expected.size)
    return (counts - DRAWS * expected) / np.sqrt(np.maximum(DRAWS * expected * (1 - expected), 1))


# ---- steps


def steps(size: Size, given: Arrays, exact: bool = True) -> Arrays:
    """Metrics and gradients of a step of each phase, on given texts instead of samples.

    In float32, or with `exact` False by the kernels in bfloat16; the CPU computes in float32 in both cases.
    """
    overrides = (*(TINY if size == "tiny" else (*SMALL, *MIDDLING)), *(EXACT if exact or given else ()))
    parts = ours.build_parts(config_of("gpt2_likelihood", overrides))
    written = jax.random.randint(jax.random.key(8), parts.batch.target.shape, 0, parts.generator.vocabulary.size)

    def write(generator: gg.Generator, params: Any, key: Any, prompt: Array, mask: Array, *_: Any, **__: Any) -> Any:
        batch = parts.batch.replace(target=written)
        return gg.types.Sample(written, batch.target_mask, gg.log_probs(generator, params, batch))

    found: Arrays = {}
    phases: tuple[Phase, ...] = ("likelihood", "warmup", "adversarial")
    with mock.patch.object(texts, "sample", write):
        for phase in phases:
            gan = ours.observe(parts, phase)
            state = gan.init(jax.random.key(0), parts.batch)
            after, metrics = jax.jit(step_of(gan, phase))(state, parts.batch)
            kept: Arrays = {}
            for player in ("generator", "discriminator"):
                learned = phase == "adversarial" or (player == "generator") == (phase == "likelihood")
                kept |= flattened(getattr(after, player).opt_state, f"{player}_gradient/") if learned else {}
            named = whole_gradients(kept) | {name: np.asarray(x) for name, x in metrics.items() if not counts(name)}
            dtype = "float32" if exact else "step_in_bfloat16"
            found |= {f"{dtype}/{phase}/{name}": x for name, x in named.items()}
    return found


def counts(metric: str) -> bool:
    """Whether a metric counts values above a threshold, which rounding may change, so it is not compared."""
    return "accuracy" in metric


PARTS: dict[str, Callable[[Size, Arrays], Arrays]] = {
    "attention": attention,
    "cross_entropy": cross_entropy,
    "sampling": sampling,
    "steps": steps,
    "steps_bfloat16": partial(steps, exact=False),
}
"""(size, arrays of the device's run, or none in that run itself) -> arrays by name.

A name begins with the dtype of the device, which determines the tolerance. Arrays named "given/..." are only inputs for
the CPU.
"""


def tolerance_of(name: str, dtype: np.dtype) -> float:
    """The largest difference, relative to the array's largest entry, that counts as rounding; 0 for integers."""
    if np.issubdtype(dtype, np.integer):
        return 0.0
    if name.endswith("~"):
        return STANDARD_ERRORS
    kinds = {"float32": FLOAT32, "bfloat16": KERNEL_IN_BFLOAT16, "step_in_bfloat16": TOLERANCES["bfloat16"]}
    return kinds[name.partition("/")[0]]


def compared(device: Arrays, cpu: Arrays) -> tuple[dict[str, float], list[str]]:
    """The difference of each array, relative to the largest entry on the CPU, and a line for each that is too large."""
    apart: dict[str, float] = {}
    wrong = []
    for name in sorted(device.keys() | cpu.keys()):
        if name.startswith("given/"):
            continue
        if name not in device or name not in cpu or device[name].shape != cpu[name].shape:
            wrong.append(f"{name}: only one side has it, or of another shape")
            continue
        x, y = device[name], cpu[name]
        most = tolerance_of(name, y.dtype)
        if np.issubdtype(y.dtype, np.integer):
            apart[name] = float((x != y).mean())
        else:
            scale = 1.0 if name.endswith("~") else max(float(np.abs(y).max()), 1e-12)
            apart[name] = float(np.abs(x.astype(np.float64) - y).max()) / scale
        if not apart[name] <= most:
            wrong.append(f"{name} differs by {apart[name]:.2g}, more than {most:g}")
    return apart, wrong


def main() -> None:
    part, size, out, *rest = sys.argv[1:]
    # By default JAX rounds the operands of float32 products on an accelerator.
    jax.config.update("jax_default_matmul_precision", "highest")
    save(Path(out), PARTS[part]("tiny" if size == "tiny" else "full", load(Path(rest[0])) if rest else {}))


if __name__ == "__main__":
    main()
