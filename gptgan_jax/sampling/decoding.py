"""Sampling: one prefill, then cached decoding inside one compiled loop.

`sample` and `log_probs` apply the same temperature, top-k and top-p, so for the same tokens they give the same
log-probabilities; training relies on this. Prompt length, temperature, k and p are arrays: changing them does not
recompile.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gptgan_jax.distributed.rows import ALL_ROWS, Rows
from gptgan_jax.errors import suggests_names
from gptgan_jax.models.generators import Generator, GeneratorConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.sampling.categorical import draw_tokens
from gptgan_jax.schema.ranges import COUNT, WEIGHT, Range
from gptgan_jax.types import Array, Batch, Params, PyTree, Sample

COLDEST = 1e-30
"""The lowest temperature above 0 that logits are divided by; below it they are as good as greedy."""


def shape_logits(
    logits: Array,
    temperature: Array | float = 1.0,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
) -> Array:
    """Logits of the distribution from which tokens are sampled: float32 [..., V] -> float32 [..., V].

    Args:
        logits: the model's.
        temperature: divides the logits; 0 keeps only the most likely token (or those that tie).
        top_k: keep the k most likely tokens (and ties with the last of them); None keeps all.
        top_p: then keep the smallest set of most likely tokens with at least this probability (Holtzman et al. 2020);
            None keeps all.

    Excluded tokens get -inf.
    """
    temperature = jnp.asarray(temperature, jnp.float32)
    warm = temperature > 0
    # Divided by less, logits would be infinite; differences of them that float32 tells apart are already then.
    temperature = jnp.where(warm, jnp.maximum(temperature, COLDEST), temperature)

    def with_greedy() -> Array:
        greedy = jnp.where(logits >= logits.max(axis=-1, keepdims=True), 0.0, -jnp.inf)
        return jnp.where(warm, logits / jnp.where(warm, temperature, 1.0), greedy)

    # Finding the largest logits reads all of them once more, so it is done only if some row is greedy.
    shaped = jax.lax.cond(warm.all(), lambda: logits / temperature, with_greedy)
    if top_k is not None:
        ordered = jnp.flip(jnp.sort(shaped, axis=-1), axis=-1)
        last = jnp.clip(jnp.asarray(top_k, jnp.int32), 1, logits.shape[-1]) - 1
        threshold = jnp.take(ordered, last, axis=-1)[..., None]
        shaped = jnp.where(shaped >= threshold, shaped, -jnp.inf)
    if top_p is not None:
        probs = jax.nn.softmax(shaped, axis=-1)
        shaped = jnp.where(probs >= _nucleus_threshold(probs, top_p), shaped, -jnp.inf)
    return shaped


def _nucleus_threshold(probs: Array, top_p: Array | float) -> Array:
    """The largest threshold for which tokens at or above it have a total probability of top_p: [..., V] -> [..., 1].

    Found by bisection over the bits of a float, which have the same order as the floats: exact, and on a CPU many times
    faster than sorting the vocabulary.
    """
    most = probs.max(axis=-1, keepdims=True)
    one = jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low + 1) // 2
        kept = probs >= jax.lax.bitcast_convert_type(middle, jnp.float32)
        enough = jnp.where(kept, probs, 0.0).sum(axis=-1, keepdims=True) >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    low = jnp.zeros(most.shape, jnp.int32)
    low, _ = jax.lax.fori_loop(0, 31, halve, (low, jnp.broadcast_to(one, most.shape)))
    return jnp.minimum(jax.lax.bitcast_convert_type(low, jnp.float32), most)


def draw(key: Array, logits: Array, rows: Rows = ALL_ROWS, count: int = 1) -> tuple[Array, Array]:
    """Samples tokens for each row from softmax(logits).

    Args:
        key: PRNG key.
        logits: float32 [B, V]; -inf is never drawn.
        rows: if these are only one device's share of the rows.
        count: draws per row.

    Returns:
        tokens int32 [B * count], those of a row next to each other, and their log-probabilities float32 [B * count].
    """
    tokens, log_total = draw_tokens(rows.uniform(key, (2, logits.shape[0] * count), axis=1), logits)
    chosen = jnp.take_along_axis(logits, tokens.reshape(-1, count), axis=-1)
    return tokens, (chosen - log_total[:, None]).ravel()


STAGES = 4
LEAST_STAGE = 16
"""The least tokens of a stage: shorter ones save too little attention to be worth compiling a loop for."""


def at_most(times: int) -> str:
    """The name of a loop whose end depends on the data, from which its trip count can be read in a compiled program."""
    return f"at_most_{times}_times"


MOST_BLOCKS = 48
"""The most blocks in the loops of all stages together, as each is compiled: 30 in four stages took 18 s, and were no
faster than in one, because a deep network reads more weights than cache."""


def stages_of(length: int, config: GeneratorConfig | None) -> list[int]:
    """The ends of the decoding stages, the last at `length`; in each, attention reads only the slots that the stage can
    fill."""
    blocks = config.layers if isinstance(config, TransformerConfig) and not config.scan_layers else 1
    count = max(1, min(STAGES, length // LEAST_STAGE, MOST_BLOCKS // blocks))
    return [length * (i + 1) // count for i in range(count)]


class Decoded(NamedTuple):
    """The state of the decoding loop."""

    written: Array  # int32 [], tokens per row
    ended: Array  # bool [B]
    last: Array  # int32 [B]
    tokens: Array  # int32 [B, T]
    mask: Array  # bool [B, T]
    log_probs: Array  # float32 [B, T]


@suggests_names
def sample(
    generator: Generator,
    params: Params,
    key: Array,
    prompt: Array,
    prompt_mask: Array,
    length: int,
    temperature: Array | float = 1.0,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
    rows: Rows = ALL_ROWS,
    samples: int = 1,
) -> Sample:
    """Generates texts, ending at EOS or at `length` tokens. Pure; wrap in `jax.jit` with `length`, `samples` static.

    Args:
        generator: the generator.
        params: its parameters.
        key: PRNG key; equal keys and arguments give equal texts.
        prompt: int32 [B, P], padded on the left.
        prompt_mask: bool [B, P].
        length: target length T in tokens.
        temperature, top_k, top_p: see `shape_logits`.
        rows: if these are only one device's share of the rows; the texts are then the same as in the whole batch.
        samples: N, texts for each prompt, which is read once.

    Returns:
        Sample with [B * N, T] arrays, the texts of a prompt as neighbours. The loop stops once every row has ended.

    Raises:
        TypeError, ValueError: an argument of wrong shape, type or range.

    Example:
        >>> texts = gg.sample(generator, params, key, batch.prompt, batch.prompt_mask, length=4, samples=3)
        >>> texts.tokens.shape  # 3 for each of 2 prompts
        (6, 4)
    """
    check_arrays("sample", prompt=(prompt, "int [B, P]"), prompt_mask=(prompt_mask, "bool [B, P]"))
    generator.vocabulary.check_ids("sample: prompt", prompt, prompt_mask)
    COUNT.check("length", length, static=True)
    COUNT.check("samples", samples, static=True)
    _check_drawing(temperature, top_k, top_p)
    batch = prompt.shape[0] * samples
    nothing = Decoded(
        written=jnp.int32(0),
        ended=jnp.zeros(batch, bool),
        last=jnp.zeros(batch, jnp.int32),
        tokens=jnp.full((batch, length), generator.vocabulary.pad_id, jnp.int32),
        mask=jnp.zeros((batch, length), bool),
        log_probs=jnp.zeros((batch, length), jnp.float32),
    )
    params = generator.for_writing(params)
    if samples > 1 and reads_once(generator, prompt):
        assert generator.branch is not None
        logits, cache = generator.branch(params, prompt, prompt_mask, length, samples)
    else:
        if samples > 1:
            prompt, prompt_mask = (jnp.repeat(x, samples, axis=0) for x in (prompt, prompt_mask))
        logits, cache = generator.prefill(params, prompt, prompt_mask, length)
    stages = stages_of(length, generator.config)
    return decode_on(generator, params, key, nothing, logits, cache, temperature, top_k, top_p, rows, stages)


def _check_drawing(temperature: Array | float, top_k: Array | int | None, top_p: Array | float | None) -> None:
    """Raises ValueError for a number out of its range; traced values are not checked."""
    for name, value, allowed in (
        ("temperature", temperature, WEIGHT),
        ("top_k", top_k, COUNT),
        ("top_p", top_p, Range(gt=0, le=1)),
    ):
        if value is not None and not jnp.ndim(value):
            allowed.check(name, value)


def reads_once(generator: Generator, prompt: Array) -> bool:
    """Whether a prompt, int32 [B, P], is read once for its several texts: not if it is only BOS."""
    return generator.branch is not None and prompt.shape[1] > 1


def decode_on(
    generator: Generator,
    params: Params,
    key: Array,
    so_far: Decoded,
    logits: Array,
    cache: PyTree,
    temperature: Array | float,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
    rows: Rows = ALL_ROWS,
    stages: Sequence[int] = (),
) -> Sample:
    """Continues decoding until every row has ended or is full.

    `logits` are of the next token, [B, V], or [B / M, V] if M neighbours share them.
    `stages` are the ends of the loops, if nothing is generated yet and the generator's cache can be resized.
    """
    vocabulary = generator.vocabulary
    length = so_far.tokens.shape[1]
    resized = generator.resized if stages else None
    ends = list(stages) if resized else [length]

    def emit(so_far: Decoded, logits: Array) -> Decoded:
        shaped, count = shape_logits(logits, temperature, top_k, top_p), so_far.ended.shape[0] // logits.shape[0]
        token, log_prob = draw(jax.random.fold_in(key, so_far.written), shaped, rows, count)
        token = jnp.where(so_far.ended, vocabulary.pad_id, token)
        ended = functools.reduce(lambda ended, end: ended | (token == end), vocabulary.ends, so_far.ended)
        return Decoded(
            written=so_far.written + 1,
            ended=ended,
            last=token,
            tokens=so_far.tokens.at[:, so_far.written].set(token),
            mask=so_far.mask.at[:, so_far.written].set(~so_far.ended),
            log_probs=so_far.log_probs.at[:, so_far.written].set(jnp.where(so_far.ended, 0.0, log_prob)),
        )

    def running(end: int, loop: tuple[Decoded, PyTree]) -> Array:
        return (loop[0].written < end) & ~loop[0].ended.all()

    def step(loop: tuple[Decoded, PyTree]) -> tuple[Decoded, PyTree]:
        so_far, cache = loop
        logits, cache = generator.decode(params, cache, so_far.last)
        return emit(so_far, logits), cache

    loop = emit(so_far, logits), cache
    room = length
    for begin, end in itertools.pairwise([1, *ends]):
        if resized is not None and end != room:
            loop = loop[0], resized(loop[1], end - room)
            room = end
        with jax.named_scope(at_most(end - begin)):
            loop = jax.lax.while_loop(functools.partial(running, end), step, loop)
    written = loop[0]
    return Sample(written.tokens, written.mask, written.log_probs)


@suggests_names
def log_probs(
    generator: Generator,
    params: Params,
    batch: Batch,
    temperature: Array | float = 1.0,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
    dropout_key: Array | None = None,
) -> Array:
    """Log-probability in nats of each target token given the prompt and the tokens before it, teacher-forced.

    Returns:
        float32 [B, T]; 0 outside the target mask, -inf for a token that top-k or top-p excludes.

    Raises:
        ValueError: temperature, top_k or top_p is out of its range, or a token id is not in the vocabulary.

    Example:
        >>> gg.log_probs(generator, params, batch).shape
        (2, 3)
        >>> float(gg.log_probs(generator, params, batch)[1, 2])  # behind the end of the text
        0.0
    """
    generator.vocabulary.check_ids("log_probs: batch.target", batch.target, batch.target_mask)
    _check_drawing(temperature, top_k, top_p)
    logits = shape_logits(generator.logits(params, batch, dropout_key), temperature, top_k, top_p)
    return jnp.where(batch.target_mask, token_log_probs(logits, batch.target), 0.0)
