"""The functional training loop: both players and their optimisers in one state, and three pure steps on it.

    gan = gan_from(generator, discriminator, estimator=reinforce(discount=0.23))
    state = gan.init(key, batch)
    state, metrics = jax.jit(gan.adversarial_step, donate_argnums=0)(state, batch)

Every step is (GanState, Batch) -> (GanState, metrics), where metrics are float32 scalars.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.algorithms.discriminator_update import discriminate, supervised, with_discriminator
from gptgan_jax.algorithms.game import (
    DISCRIMINATOR_OPTIMIZER,
    GENERATOR_OPTIMIZER,
    REINFORCE,
    Demonstrations,
    Game,
)
from gptgan_jax.algorithms.generator_update import (
    averaged,
    distillation_step,
    leaked,
    matching_step,
    mediated_update,
    pathwise_update,
    policy_update,
    self_play_step,
)
from gptgan_jax.algorithms.learning import EVERYTHING, Learning, begun_with, gradient_of, updated
from gptgan_jax.algorithms.mixing import empty_replay
from gptgan_jax.algorithms.regularisation import goals_loss
from gptgan_jax.algorithms.texts import Metrics, draw, next_token_nats, texts_alone, write
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.gradients.families import (
    Distillation,
    Estimator,
    EstimatorProtocol,
    Mediated,
    Pathwise,
    PolicyGradient,
    SelfPlay,
    estimator_of,
    without_discriminator,
)
from gptgan_jax.models.discriminators import Discriminator, DiscriminatorProtocol, discriminator_of
from gptgan_jax.models.generators import Generator, GeneratorProtocol, generator_of
from gptgan_jax.objectives.discrimination import PairLoss, non_saturating
from gptgan_jax.objectives.likelihood import KlEstimator
from gptgan_jax.objectives.mmd import BANDWIDTHS
from gptgan_jax.objectives.rewards import Reward, sigmoid
from gptgan_jax.objectives.text_rewards import RewardScaling, TextReward
from gptgan_jax.schema.ranges import is_on
from gptgan_jax.types import Array, Batch, GanState, Number, Params, Player, Vocabulary, unconditional_batch

Step = Callable[[GanState, Batch], tuple[GanState, Metrics]]


@suggests_names
class Gan(NamedTuple):
    """The training functions of a generator and a discriminator.

    Attributes:
        init: (key, batch) -> GanState with new parameters.
        begin: (GanState, batch=None) -> GanState for a new phase: the same parameters (or their average, if there is
            one), step and key; new optimiser states, estimator state, reference, average and replay. With a replay, a
            batch is needed for its shapes.
        likelihood_step: the generator learns the batch by maximum likelihood.
        discriminator_step: the generator generates texts that answer the batch's prompts; the discriminator learns to
            distinguish them from the batch, and with classes also the batch's labels.
        adversarial_step: the same, and the generator learns from the scores of the discriminator as it was before this
            step. With N discriminator updates the batch has N times the rows: the generator answers every N-th row, and
            the discriminator is updated further with the others.
        learning: which of the players' parameters the steps change; the others are passed on unchanged.

    Example:
        >>> state, metrics = gan.likelihood_step(gan.init(key, batch), batch)
        >>> sorted(metrics), int(state.step)
        (['gradient_norm', 'loss'], 1)
    """

    init: Callable[[Array, Batch], GanState]
    begin: Callable[..., GanState]
    likelihood_step: Step
    discriminator_step: Step
    adversarial_step: Step
    learning: Learning = EVERYTHING


@suggests_names
def gan_from(
    generator: Generator | GeneratorProtocol,
    discriminator: Discriminator | DiscriminatorProtocol,
    *,
    estimator: Estimator | EstimatorProtocol = REINFORCE,
    pair_loss: PairLoss = non_saturating,
    reward: Reward = sigmoid,
    dense: bool = True,
    temperature: Number = 1.0,
    entropy_weight: Number = 0.0,
    likelihood_weight: Number = 0.0,
    kl_weight: Number = 0.0,
    kl_estimator: KlEstimator = "exact",
    r1_weight: Number = 0.0,
    r2_weight: Number = 0.0,
    gradient_penalty_weight: Number = 0.0,
    next_token_weight: Number = 0.0,
    mmd_weight: Number = 0.0,
    mmd_bandwidths: Sequence[Number] = BANDWIDTHS,
    class_weight: Number = 0.0,
    real_fake_weight: Number = 1.0,
    replay_size: int = 0,
    replay_share: Number = 0.5,
    demonstrations: Demonstrations | None = None,
    discriminator_updates: int = 1,
    ema_decay: Number = 0.0,
    generator_optimizer: optax.GradientTransformation = GENERATOR_OPTIMIZER,
    discriminator_optimizer: optax.GradientTransformation = DISCRIMINATOR_OPTIMIZER,
    text_rewards: Sequence[TextReward] = (),
    reward_scaling: RewardScaling = "none",
    discriminator_reward_weight: Number = 1.0,
    resample_groups: int = 0,
    axis_name: str | None = None,
    teacher: Generator | None = None,
    start: Params | None = None,
) -> Gan:
    """The training steps of a generator and a discriminator. See `Game` for details of each argument.

    A number may be traced by JAX unless shapes depend on it: under `jax.vmap` many trainings with different rates,
    weights, discounts and temperatures are one program (examples/seeds_and_rates.py).

    Args:
        generator, discriminator: the two networks, or objects of your own with the same functions
            (`GeneratorProtocol`, `DiscriminatorProtocol`).
        estimator: of the generator's gradient: reinforce(), rloo(), ppo(), grpo(), rollout(), penalised(), guided(),
            maligan(), weighted_likelihood(), gumbel(), spin(), dgsan(), jsdgan(), self_critic(), cot(),
            feature_matching(), distill(), or one of your own (`EstimatorProtocol`).
        pair_loss: the discriminator's loss on the logits of real and of generated text.
        reward: from the discriminator's logits to the generator's rewards.
        dense: score and reward every token; False scores whole texts and rewards them at their last token.
        temperature: at which the generator samples during training, above 0.
        entropy_weight: weight of the entropy of the next token, in nats, in the generator's objective.
        likelihood_weight: weight of the real texts' negative log-likelihood, in nats, in the generator's loss.
        kl_weight: weight of KL(generator || reference), in nats, in the generator's loss.
        kl_estimator: "exact": over the vocabulary; "low_variance": of the sampled tokens; "reward": in the reward.
        r1_weight, r2_weight: weight of half the squared gradient of the score at real and at generated embeddings.
        gradient_penalty_weight: weight of (|gradient| - 1)^2 between real and generated embeddings.
        next_token_weight: weight of the discriminator's own next-token loss on real text; needs a Transformer.
        mmd_weight: weight of the squared discrepancy of features that the discriminator maximises, for `rewards.mmd`.
        mmd_bandwidths: of its kernel.
        class_weight: weight of the cross-entropy of labels in the discriminator's loss; needs classes.
        real_fake_weight: weight of the pair loss in the discriminator's loss.
        replay_size: number of texts of earlier steps to keep for the discriminator; 0: none.
        replay_share: share of its generated texts that is drawn from those, between 0 and 1.
        demonstrations: real texts among those that the generator learns from.
        discriminator_updates: updates per update of the generator; batches have that many times the rows.
        ema_decay: of an average of the generator's parameters, at least 0 and below 1; 0: none.
        text_rewards: rewards by functions of the texts, beside the discriminator's; see `TextReward`, and `host_reward`
            for functions of Python strings.
        reward_scaling: "none", or each reward normalised within the texts of a prompt ("group") or of the step
            ("batch").
        discriminator_reward_weight: weight of the discriminator's reward; 0: only text rewards count.
        resample_groups: how many times at most the texts of a prompt are resampled if all have equal text rewards.
        generator_optimizer, discriminator_optimizer: Optax transformations for this phase. The defaults are for an
            adversarial one: Adam, the generator's at 1e-4 and the discriminator's at 4e-4 (Zhang et al. 2019,
            arXiv:1805.08318), each gradient clipped to norm 1. Likelihood training from scratch and the
            discriminator's warm-up need higher rates, such as 1e-3 to 3e-3: give them a gan of their own.
        axis_name: of the devices that share a batch under `jax.pmap` or `jax.shard_map`; None under `jax.jit`.
        teacher: of `distill()`; its parameters go into the state: state.replace(teacher=params). None: `Batch.top_k`.
        start: the generator's parameters with which `init` starts, such as those from `load`; None: random. A generator
            with adapters (`LoraConfig`) needs them, with or without adapters, as its frozen weights must have been
            trained before.

    Raises:
        ValueError: a number is out of its range, or choices do not go together; the message says what would be right.
        TypeError: an argument has the wrong type.

    Example:
        >>> gan = gg.gan_from(generator, discriminator, estimator=gg.rloo(samples=2), kl_weight=0.1, **optimizers)
        >>> state, metrics = jax.jit(gan.adversarial_step)(gan.init(key, batch), batch)
        >>> float(metrics["kl"])  # the generator is still its own reference
        0.0
    """
    game = Game(
        generator_of(generator),
        discriminator_of(discriminator),
        estimator=estimator_of(estimator),
        pair_loss=pair_loss,
        reward=reward,
        dense=dense,
        temperature=temperature,
        entropy_weight=entropy_weight,
        likelihood_weight=likelihood_weight,
        kl_weight=kl_weight,
        kl_estimator=kl_estimator,
        r1_weight=r1_weight,
        r2_weight=r2_weight,
        gradient_penalty_weight=gradient_penalty_weight,
        next_token_weight=next_token_weight,
        mmd_weight=mmd_weight,
        mmd_bandwidths=mmd_bandwidths,
        class_weight=class_weight,
        real_fake_weight=real_fake_weight,
        replay_size=replay_size,
        replay_share=replay_share,
        demonstrations=demonstrations,
        discriminator_updates=discriminator_updates,
        ema_decay=ema_decay,
        text_rewards=text_rewards,
        reward_scaling=reward_scaling,
        discriminator_reward_weight=discriminator_reward_weight,
        resample_groups=resample_groups,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        axis_name=axis_name,
        teacher=teacher,
    )
    gan = gan_of(game)
    if gan.learning.generator is not None and start is None:
        raise UserError(
            "the generator has adapters, which need trained weights: give start, its initial parameters "
            '(gg.load("hf:FOLDER").params), or drop lora from its configuration'
        )
    return gan if start is None else gan._replace(init=partial(init, game, start=start))


def gan_of(game: Game) -> Gan:
    """The functional training loop of a game; like `gan_from`, but with a `Game`.

    Raises:
        ValueError, TypeError: see `Game.check`.
    """
    game.check()
    return Gan(
        partial(init, game),
        partial(begin, game),
        partial(likelihood_step, game),
        partial(discriminator_step, game),
        partial(adversarial_step, game),
        game.learning,
    )


# ---- states


def init(game: Game, key: Array, batch: Batch, start: Params | None = None) -> GanState:
    """See `Gan.init`; the generator's parameters are those of `start` if given, otherwise random."""
    key_g, key_d, key_steps = jax.random.split(key, 3)
    drawn = game.generator.init(key_g, batch)
    player_g = Player(drawn if start is None else begun_with(start, drawn), None)
    player_d = Player(game.discriminator.init(key_d, batch), None)
    none = jnp.int32(0)
    return begin(game, GanState(none, key_steps, none, player_g, player_d, estimator=None, reference=None), batch)


def begin(game: Game, state: GanState, batch: Batch | None = None) -> GanState:
    """See `Gan.begin`."""
    if game.replay_size and batch is None:
        raise ValueError("a replay needs a batch for its shapes: begin(state, batch)")
    params_g, params_d = state.generator.averaged, state.discriminator.params
    params_g = params_g if game.generator.leak is None else game.generator.leak(params_g, params_d)
    return GanState(
        step=state.step,
        key=state.key,
        begun=jnp.copy(state.step),  # not the same buffer: both are donated
        generator=Player(
            params_g, game.generator_optimizer.init(params_g), _copy(params_g) if is_on(game.ema_decay) else None
        ),
        discriminator=Player(params_d, game.discriminator_optimizer.init(params_d)),
        estimator=game.estimator.init(_hidden_width(game.generator, params_g)),
        reference=_copy(params_g) if game.needs_reference else None,
        replay=None if batch is None or not game.replay_size else empty_replay(batch, game.replay_size),
        skipped=jnp.int32(0),
        teacher=state.teacher,
    )


# ---- steps


def likelihood_step(game: Game, state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
    """Minimises -1/N sum log p(y_t | y_<t) over the batch's N tokens."""
    game.check_batch("likelihood_step", batch)
    game.check_state("likelihood_step", state, "generator")
    generator, learns = game.generator, game.learning.generator
    dropout_key = game.rows.own_key(jax.random.fold_in(state.key, state.step))

    def nats_of(params: Params) -> Array:
        if generator.weighted_nats is None:
            return next_token_nats(game, generator.logits(params, batch, dropout_key), batch)
        weights = batch.target_mask.astype(jnp.float32) / jnp.maximum(game.rows.gathered(batch.target_mask).sum(), 1)
        own = generator.weighted_nats(params, batch, weights, dropout_key)
        return game.rows.gathered(own[None]).sum()

    def loss_of(params: Params) -> tuple[Array, Metrics]:
        loss = nats_of(params)
        if generator.guidance is None:
            return loss, {"loss": loss}
        goals = goals_loss(game, params, batch) / jnp.maximum(game.rows.gathered(batch.target_mask).sum(), 1)
        return loss + goals, {"loss": loss, "goals_loss": goals}

    (_, metrics), gradient = gradient_of(loss_of, state.generator.params, learns, has_aux=True)
    gradient = game.rows.mean(gradient)
    metrics |= {"gradient_norm": optax.tree.norm(gradient)}
    player = updated(game.generator_optimizer, state.generator, gradient, learns)
    return leaked(game, averaged(game, state.replace(step=state.step + 1, generator=player))), metrics


def discriminator_step(game: Game, state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
    """The generator answers the batch's prompts, and the discriminator learns to distinguish the answers from it."""
    game.check_batch("discriminator_step", batch)
    game.check_state("discriminator_step", state, "discriminator")
    state, metrics = _discriminator_update(game, state, texts_alone(batch), jax.random.fold_in(state.key, state.step))
    return leaked(game, state.replace(step=state.step + 1)), metrics


def adversarial_step(game: Game, state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
    """One step of both players, each against the other as it was before the step.

    1. The generator generates texts that answer the batch's prompts.
    2. The discriminator scores them and the real ones, and the gradient of its loss is computed.
    3. The scores become rewards, to which text rewards are added, the rewards become advantages, and the generator is
       updated with its estimator's gradient.
    4. The discriminator is updated with its gradient; further updates use the rest of the batch.
    """
    if not is_on(game.real_fake_weight):
        raise ValueError("real_fake_weight is 0: the generator has nothing to learn from this discriminator")
    game.check_batch("adversarial_step", batch, adversarial=True)
    game.check_state("adversarial_step", state, "generator", "discriminator")
    key_sample, key_judge, key_learn, key_more = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
    if without_discriminator(game.estimator):
        match game.estimator:
            case SelfPlay() as estimator:
                state, metrics = self_play_step(game, estimator, state, batch, key_sample)
            case Distillation() as estimator:
                state, metrics = distillation_step(game, estimator, state, batch, key_sample, key_learn)
            case PolicyGradient() as estimator:
                state, metrics = matching_step(game, estimator, state, batch, key_sample, key_learn)
        return leaked(game, averaged(game, state.replace(step=state.step + 1))), metrics
    first, others = _slices(batch, game.discriminator_updates)
    drawn = draw(game, state.generator.params, first, key_sample)
    written = drawn.written
    # Only text rewards need the rows' indices in the data.
    first, others = texts_alone(first), None if others is None else texts_alone(others)
    found = discriminate(game, state, first, written, key_judge)
    if isinstance(game.estimator, Mediated):
        update = mediated_update(game, game.estimator, state, first, written)
    elif isinstance(game.estimator, PolicyGradient):
        assert found.judgement is not None
        update = policy_update(game, game.estimator, state, first, drawn, found.judgement, key_learn)
    else:
        assert isinstance(game.estimator, Pathwise)
        assert found.judgement is not None
        update = pathwise_update(game, game.estimator, state, first, written, found.judgement, key_learn)
    generator, estimator_state, metrics = update
    state = with_discriminator(game, state, first, written, found)
    if others is not None:

        def more(state: GanState, inputs: tuple[Batch, Array]) -> tuple[GanState, None]:
            return _discriminator_update(game, state, *inputs)[0], None

        keys = jax.random.split(key_more, game.discriminator_updates - 1)
        state, _ = jax.lax.scan(more, state, (others, keys))
    state = state.replace(step=state.step + 1, generator=generator, estimator=estimator_state)
    return leaked(game, averaged(game, state)), found.metrics | metrics


def _discriminator_update(game: Game, state: GanState, batch: Batch, key: Array) -> tuple[GanState, Metrics]:
    key_sample, key_judge = jax.random.split(key)
    if not is_on(game.real_fake_weight):
        gradient, metrics = supervised(game, state, batch, key_judge)
        player = updated(game.discriminator_optimizer, state.discriminator, gradient, game.learning.discriminator)
        return state.replace(discriminator=player), metrics
    written = write(game, state.generator.params, batch, key_sample)
    found = discriminate(game, state, batch, written, key_judge)
    return with_discriminator(game, state, batch, written, found), found.metrics


def _slices(batch: Batch, count: int) -> tuple[Batch, Batch | None]:
    """Every count-th row, and the others as [count - 1, B, ...]; rows stay on their devices."""
    if count == 1:
        return batch, None
    split = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
    return jax.tree.map(lambda x: x[0], split), jax.tree.map(lambda x: x[1:], split)


def _hidden_width(generator: Generator, params: Params) -> int:
    tiny = unconditional_batch(jnp.zeros((1, 1), jnp.int32), Vocabulary(generator.vocabulary.size))
    return jax.eval_shape(generator.hidden, params, tiny).shape[-1]


def _copy(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)
