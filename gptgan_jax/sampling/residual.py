"""The residual model: a generator's text, resampled by a discriminator trained to distinguish it from real text.

    q(x) = p(x) exp(s(x)) / Z,    Z = E_p exp(s(x))        (Deng et al. 2020, arXiv:2004.11714)

with the generator's p and the discriminator's logit s, for texts without prompts, as Z differs for every prompt. If s
gives the true log-odds, q is the distribution of real text. No adversarial phase is needed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import log_probs, sample
from gptgan_jax.sampling.rollouts import resample
from gptgan_jax.types import Array, Batch, Number, Params, Sample, Vocabulary, unconditional_batch


@suggests_names
class Residual(NamedTuple):
    """The residual model of two networks, as four pure functions of their parameters.

    Attributes:
        energy: (discriminator_params, tokens int32 [R, T], mask bool [R, T]) -> float32 [R], the logit s of each text.
        sample: (params, discriminator_params, key, count, length, candidates=8, temperature=1.0) -> Sample [count, T].
            Each text is one of `candidates` texts of the generator, sampled in proportion to exp(s); exact in the limit
            of many candidates. Its log-probabilities are the generator's.
        log_z: (params, discriminator_params, key, count, length, temperature=1.0) -> (float32 [], float32 []): log Z in
            nats per text, estimated from `count` texts of the generator, and its standard error.
        log_probs: (params, discriminator_params, batch, log_z, temperature=1.0) -> float32 [B], log q in nats of the
            batch's targets, given a log Z estimated at the same temperature.

    Example:
        >>> model = gg.residual(generator, discriminator)
        >>> model.energy(scorer, batch.target, batch.target_mask).shape
        (2,)
    """

    energy: Callable[[Params, Array, Array], Array]
    sample: Callable[..., Sample]
    log_z: Callable[..., tuple[Array, Array]]
    log_probs: Callable[..., Array]


def energy_by(discriminator: Discriminator, vocabulary: Vocabulary) -> Callable[[Params, Array, Array], Array]:
    """The logit of whole texts without prompts: (params, tokens int32 [R, T], mask bool [R, T]) -> float32 [R]."""

    def energy(params: Params, tokens: Array, mask: Array) -> Array:
        batch = unconditional_batch(tokens, vocabulary).replace(target_mask=mask)
        return discriminator.scores(params, batch).sequence

    return energy


@suggests_names
def residual(generator: Generator, discriminator: Discriminator) -> Residual:
    """The generator's text, resampled by the discriminator.

    Args:
        generator: gives p.
        discriminator: gives s; trained against this generator with a pair loss whose scores are log-odds
            (`non_saturating`, `relativistic`).

    Example:
        >>> model = gg.residual(generator, discriminator)
        >>> log_z, error = model.log_z(params, scorer, key, 100, length=3)
        >>> model.log_probs(params, scorer, batch, log_z).shape  # nats a text
        (2,)
    """
    energy = energy_by(discriminator, generator.vocabulary)

    def prompts(count: int) -> tuple[Array, Array]:
        return jnp.full((count, 1), generator.vocabulary.bos_id, jnp.int32), jnp.ones((count, 1), bool)

    def sample_residual(
        params: Params,
        scorer: Params,
        key: Array,
        count: int,
        length: int,
        candidates: int = 8,
        temperature: Number = 1.0,
    ) -> Sample:
        def of_texts(tokens: Array, mask: Array) -> Array:
            return energy(scorer, tokens, mask)

        return resample(generator, params, of_texts, key, *prompts(count), length, candidates, temperature)

    def log_z(
        params: Params, scorer: Params, key: Array, count: int, length: int, temperature: Number = 1.0
    ) -> tuple[Array, Array]:
        written = sample(generator, params, key, *prompts(count), length, temperature)
        energies = energy(scorer, written.tokens, written.mask)
        log_mean = jax.nn.logsumexp(energies) - jnp.log(count)
        # By the delta method: the standard deviation of exp(s) / Z over the square root of the number of texts.
        return log_mean, jnp.exp(energies - log_mean).std(ddof=1) / jnp.sqrt(count)

    def log_q(params: Params, scorer: Params, batch: Batch, log_z: Number, temperature: Number = 1.0) -> Array:
        own = log_probs(generator, params, batch, temperature).sum(axis=1)
        return own + energy(scorer, batch.target, batch.target_mask) - log_z

    return Residual(energy, sample_residual, log_z, log_q)
