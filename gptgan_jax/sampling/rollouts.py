"""Values of tokens by continuations, and choosing among several samples by energy or likelihood."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.distributed.rows import ALL_ROWS, Rows
from gptgan_jax.errors import suggests_names
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import Decoded, decode_on, draw, sample
from gptgan_jax.types import Array, Params, PyTree, Sample


@suggests_names
def rollout_values(
    generator: Generator,
    params: Params,
    key: Array,
    prompt: Array,
    prompt_mask: Array,
    written: Sample,
    count: int,
    value: Callable[[Array, Array, Array, int], Array],
    temperature: Array | float = 1.0,
    rows: Rows = ALL_ROWS,
    stretches: int = 1,
) -> Array:
    """The value of each token: the mean value of texts that the generator continues from there.

    This is the Monte Carlo search of SeqGAN (Yu et al. 2017). The text is decoded once; at each token the cache is
    copied for the continuations, which are sampled and valued together, so that no prefix is read twice.

    Args:
        generator: samples the continuations.
        params: its parameters.
        key: PRNG key.
        prompt, prompt_mask: [R, P], the prompts of the texts.
        written: the R texts, T tokens long.
        count: M, continuations of each prefix.
        value: (key, tokens int32 [R*M, T], mask bool [R*M, T], shared) -> float32 [R*M], of whole texts; the M
            continuations of a row are neighbours, and start with the first `shared` tokens of that row of `written`.
        temperature: of the continuations.
        rows: if these are only one device's share of the rows.
        stretches: number of programs into which the tokens are split; `shared` is one number in each. Useful if `value`
            reads the shared part once; each program takes time to compile.

    Returns:
        float32 [R, T]: at t the mean value of texts that start with the tokens up to and including t; from the last
        token of a text on, the value of the text itself.

    Example:
        >>> value = lambda key, tokens, mask, shared: mask.sum(axis=1) / 1.0  # the length of a whole text
        >>> values = gg.rollout_values(generator, params, key, batch.prompt, batch.prompt_mask, written, 2, value)
        >>> values.shape, values[:, -1]
        ((2, 3), Array([3., 2.], dtype=float32))
    """
    count_texts, length = written.tokens.shape
    params = generator.for_writing(params)

    def at(cache: PyTree, t: Array) -> tuple[PyTree, tuple[Array, Array, Array]]:
        key_write, key_value = jax.random.split(jax.random.fold_in(key, t))
        logits, cache = generator.decode(params, cache, jnp.take(written.tokens, t, axis=1))
        known = written.mask & (jnp.arange(length) <= t)
        # A text without a token after t has ended and is its own continuation.
        branch = Decoded(
            written=t + 1,
            ended=~jnp.take(written.mask, t + 1, axis=1),
            last=jnp.take(written.tokens, t, axis=1),
            tokens=jnp.where(known, written.tokens, generator.vocabulary.pad_id),
            mask=known,
            log_probs=jnp.zeros(written.mask.shape, jnp.float32),
        )
        repeated = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0) if x.ndim else x, branch)
        ends = decode_on(
            generator,
            params,
            key_write,
            repeated,
            logits,
            generator.repeat(cache, count),
            temperature,
            rows=rows,
        )
        return cache, (key_value, ends.tokens, ends.mask)

    def mean(key: Array, tokens: Array, mask: Array, shared: int) -> Array:
        return value(key, tokens, mask, shared).reshape(count_texts, count).mean(axis=1)

    _, cache = generator.prefill(params, prompt, prompt_mask, length)
    found = []
    for stretch in stretches_of(length, stretches):

        def valued(
            cache: PyTree, t: Array, shared: int = int(stretch[0]) + 1 if len(stretch) else 1
        ) -> tuple[PyTree, Array]:
            cache, ends = at(cache, t)
            return cache, mean(*ends, shared)

        cache, values = jax.lax.scan(valued, cache, jnp.asarray(stretch))
        found.append(values.T)
    # The text itself, repeated like the others so that `value` is called with one shape.
    texts = jnp.repeat(written.tokens, count, axis=0), jnp.repeat(written.mask, count, axis=0)
    whole = mean(jax.random.fold_in(key, length), *texts, length)
    return jnp.concatenate([*found, whole[:, None]], axis=1)


def stretches_of(length: int, count: int) -> list[np.ndarray]:
    """The tokens that have continuations, all but the last of `length`, split into `count` nearly equal parts."""
    return np.array_split(np.arange(length - 1), max(1, min(count, length - 1)))


@suggests_names
def resample(
    generator: Generator,
    params: Params,
    energy: Callable[[Array, Array], Array],
    key: Array,
    prompt: Array,
    prompt_mask: Array,
    length: int,
    candidates: int,
    temperature: Array | float = 1.0,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
    rows: Rows = ALL_ROWS,
) -> Sample:
    """Samples from the residual energy-based model p(x) exp(energy(x)) / Z (Deng et al. 2020).

    The generator samples `candidates` texts for each prompt, and one of them is drawn in proportion to exp(energy);
    this is exact in the limit of many candidates. With the logit of an optimal discriminator, trained by cross-entropy
    against this generator, as energy, the model is the data distribution.

    Args:
        generator, params, key, prompt, prompt_mask, length, temperature, top_k, top_p, rows: see `sample`.
        energy: (tokens int32 [B*N, T], mask bool [B*N, T]) -> float32 [B*N]; the N candidates of a row are neighbours.
        candidates: N, at least 1.

    Returns:
        Sample [B, T]; its log-probabilities are the generator's, not those of the residual model.

    Example:
        >>> energy = lambda tokens, mask: mask.sum(axis=1) / 1.0  # longer texts are likelier
        >>> chosen = gg.resample(generator, params, energy, key, batch.prompt, batch.prompt_mask, 3, candidates=4)
        >>> chosen.tokens.shape
        (2, 3)
    """
    key_write, key_choose = jax.random.split(key)
    written = sample(
        generator, params, key_write, prompt, prompt_mask, length, temperature, top_k, top_p, rows, candidates
    )
    energies = energy(written.tokens, written.mask).astype(jnp.float32).reshape(-1, candidates)
    chosen, _ = draw(key_choose, energies, rows)
    return _one_of_each(written, chosen, candidates)


@suggests_names
def best_of(
    generator: Generator,
    params: Params,
    key: Array,
    prompt: Array,
    prompt_mask: Array,
    length: int,
    candidates: int,
    temperature: Array | float = 1.0,
    top_k: Array | int | None = None,
    top_p: Array | float | None = None,
    rows: Rows = ALL_ROWS,
) -> Sample:
    """Best-of-N sampling: each text is the likeliest of several, by the probability with which it was drawn.

    This is the generator's own probability at temperature 1; other temperatures, top-k and top-p change it, and with it
    the ranking. It is reranking without a discriminator, the control for `resample` with as many samples. With more
    candidates it approaches the single most likely text: it gains quality and loses diversity, as a lower temperature
    does.

    Args:
        generator, params, key, prompt, prompt_mask, length, temperature, top_k, top_p, rows: see `sample`.
        candidates: N, at least 1.

    Returns:
        Sample [B, T]; its log-probabilities are the generator's, without the effect of choosing.

    Example:
        >>> chosen = gg.best_of(generator, params, key, batch.prompt, batch.prompt_mask, 3, candidates=4)
        >>> chosen.tokens.shape
        (2, 3)
    """
    written = sample(generator, params, key, prompt, prompt_mask, length, temperature, top_k, top_p, rows, candidates)
    chosen = written.log_probs.sum(axis=1).reshape(-1, candidates).argmax(axis=1)
    return _one_of_each(written, chosen, candidates)


def _one_of_each(written: Sample, chosen: Array, candidates: int) -> Sample:
    """From texts [B*N, T], N neighbours per row, the chosen one of each row, int32 [B]: [B, T]."""
    index = jnp.arange(len(chosen)) * candidates + chosen
    return jax.tree.map(lambda x: jnp.take(x, index, axis=0), written)
