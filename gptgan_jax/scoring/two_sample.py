"""The classifier two-sample test: can a fresh discriminator distinguish samples from real text?"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gptgan_jax.data.batches import batch_at, evaluation_batches
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, unconditional_split
from gptgan_jax.metrics.estimates import Estimate, share_of
from gptgan_jax.models.discriminator_networks import CnnConfig
from gptgan_jax.models.discriminators import build_discriminator
from gptgan_jax.objectives.discrimination import non_saturating
from gptgan_jax.types import Array, Batch, Params, Vocabulary, unconditional_batch

BATCH_SIZE = 64
CHECK_EVERY = 25
PATIENCE = 4
# Fewer texts on a side leave too few for training and too few for testing.
LEAST_TEXTS = 20

TwoSampleTest = Callable[..., Estimate]
"""(samples, references, seed, paired=False) -> accuracy"""


def two_sample_test(vocabulary: Vocabulary, max_length: int, steps: int = 300) -> TwoSampleTest:
    """A test of (samples, references, seed, paired): the accuracy of a classifier on texts that it was not trained on.

    A CNN is trained on 60 % of both sides (equally many texts of each), with early stopping by another 10 %, and tested
    on the remaining 30 %. An accuracy of one half is chance: the test then finds no difference, but does not prove that
    there is none. The error is the binomial one of the tested texts. Undefined for fewer than 20 texts on a side.
    Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests".

    With `paired` text i of both sides answers the same prompt, and both are learned from or both tested: otherwise a
    classifier that remembers which prompt it saw with which answer is wrong about the other, and a perfect generator
    scores below one half.
    """
    discriminator = build_discriminator(
        CnnConfig(embedding=64, filters=64, widths=(1, 2, 3, 4), dropout=0.25), vocabulary
    )
    optimizer = optax.adamw(2e-3, weight_decay=0.01)

    as_split = partial(unconditional_split, vocabulary=vocabulary, max_length=max_length)

    @jax.jit
    def init(key: Array) -> tuple[Params, optax.OptState]:
        params = discriminator.init(key, unconditional_batch(jnp.zeros((1, max_length), jnp.int32), vocabulary))
        return params, optimizer.init(params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(
        params: Params, opt_state: optax.OptState, real: Batch, fake: Batch, key: Array
    ) -> tuple[Params, optax.OptState]:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), real, fake)

        def loss(params: Params) -> Array:
            scores_real, scores_fake = jnp.split(discriminator.scores(params, both, key).sequence[:, None], 2)
            whole = jnp.ones_like(scores_real, dtype=bool)
            return non_saturating(scores_real, whole, scores_fake, whole)

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    scores_of = jax.jit(lambda params, batch: discriminator.scores(params, batch).sequence)

    def correct(params: Params, real: TokenisedSplit, fake: TokenisedSplit) -> np.ndarray:
        """Which texts are classified correctly; a score of exactly 0 counts one half."""
        sides = []
        for split, sign in ((real, 1.0), (fake, -1.0)):
            batches = evaluation_batches(split, 2 * BATCH_SIZE)
            scores = np.concatenate([np.asarray(scores_of(params, batch)) for batch in batches])[: len(split)]
            sides.append(0.5 + 0.5 * np.sign(sign * scores))
        return np.concatenate(sides)

    def test(samples: Ragged, references: Ragged, seed: int, paired: bool = False) -> Estimate:
        count = min(len(samples), len(references))
        if count < LEAST_TEXTS:
            return Estimate(None)
        rng = np.random.default_rng(seed)
        learned, stopped = round(0.6 * count), round(0.7 * count)
        parts = []
        shared = rng.permutation(count) if paired else None
        for side in (references, samples):
            order = rng.permutation(len(side))[:count] if shared is None else shared
            parts.append([as_split(side.subset(rows)) for rows in np.split(order, [learned, stopped])])
        real, fake = parts
        init_key, dropout_key = jax.random.split(jax.random.key(seed))
        params, opt_state = init(init_key)
        # Copied, because the next step overwrites its arguments.
        best, best_share, behind = jax.tree.map(jnp.copy, params), -1.0, 0
        for number in range(steps):
            batches = (batch_at(side[0], seed + place, number, BATCH_SIZE) for place, side in enumerate((real, fake)))
            params, opt_state = step(params, opt_state, *batches, jax.random.fold_in(dropout_key, number))
            if (number + 1) % CHECK_EVERY == 0 or number + 1 == steps:
                share = float(correct(params, real[1], fake[1]).mean())
                behind = 0 if share > best_share else behind + 1
                if share > best_share:
                    best, best_share = jax.tree.map(jnp.copy, params), share
                if behind == PATIENCE:
                    break
        return share_of(correct(best, real[2], fake[2]))

    return test
