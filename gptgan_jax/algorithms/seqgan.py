"""SeqGAN (Yu et al. 2017, arXiv:1609.05473): the reward of a token is the mean score of its continuations.

    Q(y_<t, y_t) = 1/M sum_m D(y_<=t, continuation m)      for t < T, by Monte Carlo search
    Q(y_<T, y_T) = D(y)                                    at the last token
    gradient     = E sum_t Q(y_<t, y_t) grad log p(y_t | y_<t)

The estimator is `estimators.seqgan.rollout`: it takes Q as rewards, and each token gets only its own. Q is computed
here: `sampling.rollout_values` generates the continuations, and the discriminator's scores of them become rewards. A
whole step is `gan.adversarial_step`: generate, score, compute Q, update the generator, update the discriminator.
"""

import jax.numpy as jnp

from gptgan_jax.algorithms.game import Game
from gptgan_jax.algorithms.texts import answering, repeated
from gptgan_jax.objectives.rewards import Judgement
from gptgan_jax.sampling.rollouts import rollout_values
from gptgan_jax.types import Array, Batch, GanState, Sample

STRETCHES = 4
"""Parts of a text whose continuations are scored together: 4 parts read 57 % of their tokens; 50 % is the limit."""


def rollout_rewards(
    game: Game, rollouts: int, state: GanState, batch: Batch, written: Sample, judgement: Judgement, key: Array
) -> Array:
    """Q(y_<t, y_t) of each generated token, [R, T]: the mean reward of its continuations; of this program's rows."""
    prompts = repeated(batch, game.samples)
    continued = repeated(prompts, rollouts)

    scorer, continuations = state.discriminator.params, game.discriminator.continuations
    kept = None if continuations is None else continuations.read(scorer, answering(batch, written))

    def value(key: Array, tokens: Array, mask: Array, shared: int) -> Array:
        texts = continued.replace(target=tokens, target_mask=mask)
        if continuations is None or kept is None:
            found = game.discriminator.scores(scorer, texts)
        else:
            found = continuations.scores(scorer, kept, texts, shared)
        scores, features, classes = game.rows.gathered((found.texts, found.features, found.classes))
        label = None if classes is None else game.rows.gathered(texts.label)
        of_texts = judgement._replace(
            fake=scores,
            fake_mask=jnp.ones_like(scores, dtype=bool),
            fake_features=features,
            fake_classes=classes,
            fake_label=label,
        )
        return game.rows.own(game.pay(of_texts, key)[:, 0])

    return rollout_values(
        game.generator,
        state.generator.params,
        key,
        prompts.prompt,
        prompts.prompt_mask,
        written,
        rollouts,
        value,
        game.temperature,
        game.rows,
        stretches=1 if continuations is None else STRETCHES,
    )
