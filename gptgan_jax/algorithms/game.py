"""The game of two players: networks, losses and regularisers, checked for consistency."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.algorithms.compatibility import Choices, reasons
from gptgan_jax.algorithms.learning import Learning
from gptgan_jax.distributed.rows import Rows
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.estimators.reinforce import reinforce
from gptgan_jax.gradients.families import (
    Distillation,
    Estimator,
    PolicyGradient,
    matching_of,
    without_discriminator,
)
from gptgan_jax.models.discriminators import Discriminator, representations_of, surprisal_of
from gptgan_jax.models.generators import Generator
from gptgan_jax.models.leakgan import not_readable
from gptgan_jax.objectives.classification import matches_features
from gptgan_jax.objectives.discrimination import PairLoss, non_saturating, pair_loss_name
from gptgan_jax.objectives.likelihood import KlEstimator
from gptgan_jax.objectives.mmd import BANDWIDTHS, check_bandwidths
from gptgan_jax.objectives.rewards import Judgement, Reward, constant_discount, reads_prefixes, reward_name, sigmoid
from gptgan_jax.objectives.shapes import check_arrays, check_function, shown
from gptgan_jax.objectives.text_rewards import RewardScaling, TextReward
from gptgan_jax.schema.ranges import DEMONSTRATIONS, GAME, POLICY_GRADIENT, REWARD_WEIGHT, check_choice, is_on
from gptgan_jax.types import Array, Batch, GanState, Number

NAMES = {"matches_features": "reward matching_features", "discount": "the estimator's discount"}
NO_NEXT_TOKEN = "needs a Transformer discriminator: others predict no next token; set it to 0"

REINFORCE: Estimator = reinforce()
GENERATOR_OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-4))
DISCRIMINATOR_OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(4e-4))
"""Defaults for an adversarial phase: the rates of SAGAN (Zhang et al. 2019, arXiv:1805.08318), clipping at 1."""


@suggests_names
class Demonstrations(NamedTuple):
    """Real texts among those that the generator learns from (TextGAIL, Wu et al. 2021).

    Attributes:
        share: initial share of real texts in a step.
        reward: of a real text, at its last token.
        steps: over which the share falls linearly to 0.

    Example:
        >>> half = gg.Demonstrations(share=0.5, reward=1.0, steps=1000)
        >>> gan = gg.gan_from(generator, discriminator, dense=False, demonstrations=half, **optimizers)
    """

    share: Number
    reward: Number
    steps: int


@suggests_names
class Game(NamedTuple):
    """Everything that the training steps need besides the state.

    Attributes:
        generator, discriminator: the two players.
        estimator: of the generator's gradient.
        teacher: the teacher, if the estimator is a `Distillation`; its parameters are `GanState.teacher`:
            state.replace(teacher=params). None: batches have its most likely tokens, `Batch.top_k`.
        pair_loss: the discriminator's loss.
        reward: from the discriminator's logits. With a loss that only depends on differences, such as `relativistic`,
            use `rewards.relative`: the level of the logits is then arbitrary, and would reward or penalise length.
        dense: score and reward every token; otherwise whole texts, rewarded at their last token.
        temperature: at which the generator samples during training; its gradient is of the same distribution.
        entropy_weight: weight of the next-token entropy, in nats and summed over a text, in the generator's objective.
        likelihood_weight: weight of the real texts' negative log-likelihood, in nats per text, in the generator's loss.
        kl_weight: weight of KL(generator || reference), summed over a text's tokens; the reference is the generator at
            the beginning of the phase.
        kl_estimator: `exact` sums over the vocabulary at the sampled prefixes, and ignores how a token changes later
            prefixes. `low_variance` is Schulman's ratio - 1 - log ratio of the sampled tokens; it is never negative,
            and the expected gradient of its sample is that of KL(reference || generator) at each prefix. `reward`
            subtracts log(generator / reference) of each token from its reward, which with discount 1 is exact for whole
            texts.
        r1_weight, r2_weight: weight of half the squared gradient of the score by the embeddings of real and of
            generated text (Mescheder et al. 2018).
        gradient_penalty_weight: weight of (|gradient| - 1)^2 between real and generated embeddings (Gulrajani et al.
            2017).
        next_token_weight: weight of the discriminator's own next-token cross-entropy on real text, in nats per token,
            in its loss: an auxiliary objective (Radford et al. 2018) that teaches it the language sooner than one bit
            per text could. Needs a Transformer.
        mmd_weight: weight of MMD^2 between its features of real and of generated texts, which it then maximises; for
            the reward `rewards.mmd`.
        mmd_bandwidths: of the kernel on features.
        class_weight: weight of the cross-entropy of real texts' labels, in nats per labelled text, in the
            discriminator's loss. Needs a discriminator with classes.
        real_fake_weight: weight of the pair loss in the discriminator's loss. With 0 `discriminator_step` generates no
            texts and only learns the labels, and `adversarial_step` is refused.
        replay_size, replay_share: number of texts of earlier steps to keep, and the share of the discriminator's
            generated texts that is drawn from them.
        demonstrations: real texts for the generator.
        discriminator_updates: updates of the discriminator per update of the generator; batches have that many times
            the rows.
        ema_decay: of the average of the generator's parameters, ramped up from 0 at the start; 0: no average.
        generator_optimizer, discriminator_optimizer: Optax's. By default Adam at 1e-4 and at 4e-4, for an adversarial
            phase.
        text_rewards: rewards of the generator beside the discriminator's.
        reward_scaling: how several rewards, including the discriminator's, are put on one scale; see
            `objectives.text_rewards`.
        discriminator_reward_weight: weight of the discriminator's reward; with 0 the generator learns from the text
            rewards only, and the discriminator has no influence.
        resample_groups: how many times at most the texts of a prompt are resampled if the text rewards are equal for
            all of them and thus give no signal (dynamic sampling: DAPO, Yu et al. 2025, arXiv:2503.14476).
        axis_name: of the devices that share the rows of a batch, if a step runs under `jax.pmap` or `jax.shard_map`
            (with check_vma=False); None under `jax.jit`, whose program sees all rows. See `rows.Rows`.

    Example:
        >>> game = gg.Game(generator, discriminator, estimator=gg.rloo(samples=4), kl_weight=0.1, **optimizers)
        >>> game.check()
        >>> game.samples, game.needs_reference
        (4, True)
    """

    generator: Generator
    discriminator: Discriminator
    estimator: Estimator = REINFORCE
    pair_loss: PairLoss = non_saturating
    reward: Reward = sigmoid
    dense: bool = True
    temperature: Number = 1.0
    entropy_weight: Number = 0.0
    likelihood_weight: Number = 0.0
    kl_weight: Number = 0.0
    kl_estimator: KlEstimator = "exact"
    r1_weight: Number = 0.0
    r2_weight: Number = 0.0
    gradient_penalty_weight: Number = 0.0
    next_token_weight: Number = 0.0
    mmd_weight: Number = 0.0
    mmd_bandwidths: Sequence[Number] = BANDWIDTHS
    class_weight: Number = 0.0
    real_fake_weight: Number = 1.0
    replay_size: int = 0
    replay_share: Number = 0.5
    demonstrations: Demonstrations | None = None
    discriminator_updates: int = 1
    ema_decay: Number = 0.0
    generator_optimizer: optax.GradientTransformation = GENERATOR_OPTIMIZER
    discriminator_optimizer: optax.GradientTransformation = DISCRIMINATOR_OPTIMIZER
    text_rewards: Sequence[TextReward] = ()
    reward_scaling: RewardScaling = "none"
    discriminator_reward_weight: Number = 1.0
    resample_groups: int = 0
    axis_name: str | None = None
    teacher: Generator | None = None

    @property
    def rows(self) -> Rows:
        """Which rows of the batch a program holds."""
        return Rows(self.axis_name)

    @property
    def learning(self) -> Learning:
        """Which of the players' parameters are trained, by the networks' configurations."""
        return Learning.of(self.generator.config, self.discriminator.config)

    @property
    def samples(self) -> int:
        """Number of texts that the generator generates for each prompt."""
        return self.estimator.samples if isinstance(self.estimator, PolicyGradient) else 1

    @property
    def pays_values(self) -> bool:
        """Whether the reward of each token is its own value, estimated from continuations."""
        return isinstance(self.estimator, PolicyGradient) and self.estimator.rollouts > 0

    @property
    def needs_reference(self) -> bool:
        """Whether an earlier generator is kept as the reference."""
        distilled = isinstance(self.estimator, Distillation)
        return is_on(self.kl_weight) or (without_discriminator(self.estimator) and not distilled)

    def pay(self, judgement: Judgement, key: Array) -> Array:
        """The discriminator's reward, float32 [R, T]; for whole texts [R, 1], the mean over its representations."""
        rewards = self.reward(judgement, key)
        return rewards if self.dense or rewards.shape[1] == 1 else rewards.mean(axis=1, keepdims=True)

    def check(self) -> None:
        """Checks every number, and that the choices go together, by the same rules as for configurations.

        Raises:
            ValueError: one line that says what is wrong and what would be right.
            TypeError: something has the wrong type, such as a string instead of a number.
        """
        self._check_parts()
        for name, allowed in GAME.items():
            if name != "replay_share" or self.replay_size:
                allowed.check(name, getattr(self, name), static=allowed.whole)
        check_bandwidths(self.mmd_bandwidths)
        check_choice("kl_estimator", self.kl_estimator, get_args(KlEstimator))
        if isinstance(self.estimator, PolicyGradient):
            for name, allowed in POLICY_GRADIENT.items():
                allowed.check(f"estimator.{name}", getattr(self.estimator, name), static=True)
        for name, allowed in DEMONSTRATIONS.items() if self.demonstrations is not None else ():
            allowed.check(f"demonstrations.{name}", getattr(self.demonstrations, name))
        self._check_text_rewards()
        for reason in reasons(self._choices()):
            raise UserError(reason)

    def _check_text_rewards(self) -> None:
        check_choice("reward_scaling", self.reward_scaling, get_args(RewardScaling))
        for reward in self.text_rewards:
            if not isinstance(reward, TextReward):
                raise TypeError(f"text_rewards should hold TextReward(name, function, ...), not {reward!r}")
            REWARD_WEIGHT.check(f"the weight of reward {reward.name}", reward.weight)
        names = [reward.name for reward in self.text_rewards]
        if len(set(names)) < len(names):
            raise UserError(f"text_rewards: there is a duplicate name among {', '.join(names)}")

    def _check_parts(self) -> None:
        """Checks the types of all parts, as wrong ones would otherwise be found late or not at all."""
        for name, kind in (("generator", Generator), ("discriminator", Discriminator)):
            found = getattr(self, name)
            if not isinstance(found, kind):
                raise TypeError(f"{name} should be a {kind.__name__}, not {shown(found)}; {_mend(name, kind, found)}")
            optimizer = getattr(self, f"{name}_optimizer")
            if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
                raise TypeError(
                    f"{name}_optimizer should be an Optax optimizer, such as optax.adam(1e-3), not {shown(optimizer)}"
                )
        mine, others = self.generator.vocabulary, self.discriminator.vocabulary
        if others is not None and others.size != mine.size:
            raise UserError(
                f"the generator's vocabulary has {mine.size} ids, the discriminator's {others.size}: build both of one"
            )
        if not isinstance(self.estimator, Estimator):
            raise TypeError(
                "estimator should be a PolicyGradient, Pathwise, Mediated, SelfPlay or Distillation, such as "
                f"reinforce(discount=0.95), not {shown(self.estimator)}"
            )
        if isinstance(self.estimator, Distillation):
            self._check_teacher()
        if matching_of(self.estimator) is not None and self.generator.depths is None:
            raise UserError(
                "the estimator matches features of the generator's layers, and this generator names none: give it "
                "`depths`, or use another estimator"
            )
        scores = jnp.zeros((2, 3 if self.dense else 1)), jnp.ones((2, 3 if self.dense else 1), bool)
        features, classes = (jnp.zeros((2, 4)),) * 2, jnp.zeros((2, 2))
        judgement = Judgement(*scores, *scores, *features, classes, jnp.zeros(2, jnp.int32))
        check_function("pair_loss", self.pair_loss, "hinge", "float []", *scores, *scores)
        check_function("reward", self.reward, "rewards.sigmoid", "float [R, T]", judgement, jax.random.key(0))

    def _check_teacher(self) -> None:
        estimator: Any = self.estimator
        if self.teacher is None and not estimator.on_policy:
            if is_on(self.temperature - 1):
                raise UserError(
                    "batches with top_k hold a teacher's probabilities at temperature 1: set temperature to 1"
                )
            if self.generator.output is None:
                raise UserError("distillation reads the generator's output layer: give it `output`")
            return
        if not isinstance(self.teacher, Generator):
            raise TypeError(
                f"distillation needs teacher, a Generator, not {shown(self.teacher)}"
                "; without one, on_policy 0 and batches with top_k"
            )
        mine, theirs = self.generator.vocabulary, self.teacher.vocabulary
        if mine.size != theirs.size:
            raise UserError(
                f"the teacher's vocabulary has {theirs.size} ids, the generator's {mine.size}: both need one"
            )
        if self.generator.output is None or self.teacher.output is None:
            raise UserError("distillation reads both networks' output layers: give each generator `output`")

    def check_state(self, step: str, state: GanState, *players: str) -> None:
        """Checks, when a step is traced, that a state belongs to this game; compiled programs do not repeat the check.

        Args:
            step: the step's name, for the message.
            state: given to the step.
            players: whose optimizers the step needs, "generator" or "discriminator".

        Raises:
            ValueError: something is missing, or belongs to another optimizer or estimator.
        """
        mend = "begin the phase with this gan: state = gan.begin(state, batch)"
        for name in players:
            player = getattr(state, name)
            expected = jax.eval_shape(getattr(self, f"{name}_optimizer").init, player.params)
            if not _is_like(player.opt_state, expected):
                raise ValueError(f"{step}: the state of the {name}'s optimizer is that of another optimizer; {mend}")
        if "discriminator" in players and bool(self.replay_size) != (state.replay is not None):
            what = "no replay, for replay_size" if self.replay_size else "a replay, and replay_size is 0"
            raise ValueError(f"{step}: the state has {what}; {mend}")
        if "discriminator" not in players or "generator" not in players:
            return
        structures: list[Any] = [
            jax.tree.structure(tree) for tree in (jax.eval_shape(lambda: self.estimator.init(1)), state.estimator)
        ]
        if structures[0] != structures[1]:
            raise ValueError(f"{step}: the state of the estimator is that of another estimator; {mend}")
        needed = {
            "reference, for kl_weight": self.needs_reference and state.reference is None,
            "average, for ema_decay": is_on(self.ema_decay) and state.generator.ema is None,
            "teacher, for distillation": self.teacher is not None and state.teacher is None,
        }
        for what, is_missing in needed.items():
            if is_missing:
                mend = "give it: state.replace(teacher=params)" if what.startswith("teacher") else mend
                raise ValueError(f"{step}: the state has no {what}; {mend}")

    def check_batch(self, step: str, batch: Batch, adversarial: bool = False) -> None:
        """Checks shapes, types and known token ids of a batch, and that an adversarial step can split it.

        Raises:
            TypeError, ValueError: the message names the array and what it should be.
        """
        shapes = {"prompt": "int [P, S]", "prompt_mask": "bool [P, S]", "target": "int [B, T]"}
        shapes |= {"target_mask": "bool [B, T]", "label": "int [B]"}
        check_arrays(step, **{f"batch.{name}": (getattr(batch, name), shape) for name, shape in shapes.items()})
        rows = batch.target.shape[0]
        if batch.prompt.shape[0] != rows:
            raise ValueError(f"{step}: batch.prompt has {batch.prompt.shape[0]} rows and batch.target {rows}")
        for name in ("prompt", "target"):
            ids, mask = getattr(batch, name), getattr(batch, f"{name}_mask")
            self.generator.vocabulary.check_ids(f"{step}: batch.{name}", ids, mask)
        if not adversarial:
            return
        if isinstance(self.estimator, Distillation) and self.teacher is None and batch.top_k is None:
            raise ValueError(f"{step}: batch.top_k is None, and the estimator distils without a teacher; give it")
        if rows % self.discriminator_updates:
            raise ValueError(
                f"{step}: a batch of {rows} rows can't be split evenly over discriminator_updates "
                f"{self.discriminator_updates}; give it a multiple of that"
            )
        written = rows // self.discriminator_updates * self.samples * self.rows.devices
        minibatches = self.estimator.minibatches if isinstance(self.estimator, PolicyGradient) else 1
        if written % minibatches:
            raise ValueError(
                f"{step}: the {written} texts of a step can't be split evenly into {minibatches} minibatches; "
                "change the rows of the batch or the estimator's minibatches"
            )

    def _choices(self) -> Choices:
        """The input of the rules."""
        same = {name: _known(getattr(self, name)) for name in Choices._fields if name in self._fields}
        loss, smoothing = pair_loss_name(self.pair_loss)
        network = self.discriminator.config  # None where it is the user's own
        return Choices(
            **same
            | {
                "pair_loss": loss,
                "label_smoothing": _known(smoothing),
                "reward": reward_name(self.reward),
                "reads_prefixes": reads_prefixes(self.reward),
                "discount": _known(getattr(self.estimator, "discount", None), None),
                "constant_discount": _known(constant_discount(self.reward), None),
                "matches_features": matches_features(self.reward),
                "demonstrations": self.demonstrations is not None,
                "text_rewards": len(self.text_rewards),
                "paying_rewards": sum(reward.is_paid for reward in self.text_rewards),
            },
            estimator_name=f"estimator ({type(self.estimator).__name__})",
            bounded_slope=getattr(network, "spectral_norm", True),
            has_second_derivatives=getattr(network, "attention", "dense") != "flash",
            no_next_token=None if self.discriminator.next_logits else NO_NEXT_TOKEN,
            has_classes=self.discriminator.classes > 0,
            representations=representations_of(network),
            surprisal=surprisal_of(network) is not None,
            window=self.discriminator.window,
            no_features=not_readable(self.generator.config, network),
            has_goals=self.generator.guidance is not None,
            key=lambda name: NAMES.get(name, name),
            no_demonstrations=("demonstrations", "None"),
        )


def _known(value: Any, traced: Any = 1.0) -> Any:
    """A value for the rules, most of which check whether numbers are 0; traced numbers are unknown and count as 1."""
    return traced if isinstance(value, jax.core.Tracer) else value


def _is_like(found: Any, expected: Any) -> bool:
    """Whether two trees have the same structure and shapes."""
    outlines: list[Any] = [
        (jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, expected)
    ]
    return bool(outlines[0] == outlines[1])


def _mend(name: str, kind: Any, found: Any) -> str:
    """Advice for something that is not a player."""
    if isinstance(found, Generator | Discriminator):
        return "the two players are swapped"
    lacking = [part for part in kind._fields if part not in kind._field_defaults and not hasattr(found, part)]
    needed = len(kind._fields) - len(kind._field_defaults)
    return f"it lacks {', '.join(lacking)}" if len(lacking) < needed else f"build_{name} makes one"
