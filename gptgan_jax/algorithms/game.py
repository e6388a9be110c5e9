"""What two players play: the networks, the losses and the regularisers, checked against each other."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

import optax

from gptgan_jax.algorithms.compatibility import Choices, reasons
from gptgan_jax.algorithms.learning import Learning
from gptgan_jax.distributed.rows import Rows
from gptgan_jax.errors import UserError
from gptgan_jax.estimators.families import Estimator, Pathwise, PolicyGradient, SelfPlay
from gptgan_jax.estimators.reinforce import reinforce
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.objectives.discrimination import PairLoss, non_saturating, pair_loss_name
from gptgan_jax.objectives.likelihood import KlEstimator
from gptgan_jax.objectives.rewards import Reward, reward_name, sigmoid
from gptgan_jax.objectives.text_rewards import RewardScaling, TextReward
from gptgan_jax.schema.ranges import DEMONSTRATIONS, GAME, POLICY_GRADIENT, REWARD_WEIGHT, check_choice

NO_NEXT_TOKEN = "needs a Transformer discriminator: others predict no next token; set it to 0"

REINFORCE: Estimator = reinforce()
ADAM = optax.adam(1e-3)


class Demonstrations(NamedTuple):
    """Real texts among those that the generator learns from (TextGAIL, Wu et al. 2021).

    Attributes:
        share: of the texts of a step that are real ones, at first.
        reward: paid at the last token of a real text.
        steps: in which the share falls linearly to 0.
    """

    share: float
    reward: float
    steps: int


class Game(NamedTuple):
    """All that the steps are made of; each is a function of this and of a state.

    Attributes:
        generator, discriminator: the two players.
        estimator: of the generator's gradient.
        pair_loss: what the discriminator minimises.
        reward: from the discriminator's logits. With a loss that fixes only differences, such as `relativistic`, it
            should be `rewards.relative`: the level of the logits then means nothing, and where texts may end it would
            pay for or against length.
        dense: score and reward every token; otherwise whole texts, rewarded at their last token.
        temperature: that the generator writes at while it trains; its gradient is of that same distribution.
        entropy_weight: nats of next-token entropy, summed over a text, added to the generator's objective by this much.
        kl_weight: weight of KL(generator || reference), summed over a text's tokens; the reference is the generator at
            the beginning of the phase.
        kl_estimator: `exact` sums over the vocabulary at the prefixes that were written, and leaves out how a token
            changes the prefixes after it. `low_variance` is Schulman's ratio - 1 - log ratio of the tokens written; it
            is never negative, and the gradient of its sample is in expectation that of KL(reference || generator) at
            each prefix. `reward` takes log(generator / reference) of each token from its reward, which with discount 1
            is exact for whole texts.
        r1_weight, r2_weight: of half the squared gradient of the score by the embeddings of real and of generated
            text (Mescheder et al. 2018).
        gradient_penalty_weight: of (|gradient| - 1)^2 between real and generated embeddings (Gulrajani et al. 2017).
        next_token_weight: of the discriminator's own next-token cross-entropy on real text, nats a token, added to
            its loss: an auxiliary objective (Radford et al. 2018), by which it knows the language sooner than one bit a
            text could tell it. Needs a Transformer.
        class_weight: of the cross-entropy of real texts' labels, in nats a labelled text, in the discriminator's loss.
            Needs a discriminator with classes.
        real_fake_weight: of the pair loss in the discriminator's loss. With 0 `discriminator_step` writes no texts and
            learns the labels alone, and `adversarial_step` is refused.
        replay_size, replay_share: texts of earlier steps that are kept, and the share of the discriminator's generated
            texts that is drawn from them.
        demonstrations: real texts for the generator.
        discriminator_updates: updates of the discriminator for each of the generator; the batch is that many times
            as long.
        ema_decay: of the average of the generator's parameters; 0 keeps none. It is ramped up from 0 at the start.
        generator_optimizer, discriminator_optimizer: Optax's.
        text_rewards: what the generator is paid beside the discriminator's reward.
        reward_scaling: how several rewards, the discriminator's among them, are put on one scale; see
            `objectives.text_rewards`.
        discriminator_reward_weight: of the discriminator's reward in what is paid; with 0 the generator learns from the
            text rewards alone, and the discriminator only looks on.
        resample_groups: times at most that the texts of a prompt are drawn again where the text rewards pay all of them
            alike, so that they show no difference (dynamic sampling: DAPO, Yu et al. 2025, arXiv:2503.14476).
        axis_name: of the devices that share the rows of a batch, where a step runs under `jax.pmap` or `jax.shard_map`
            (with check_vma=False); None under `jax.jit`, whose program sees all rows. See `rows.Rows`.
    """

    generator: Generator
    discriminator: Discriminator
    estimator: Estimator = REINFORCE
    pair_loss: PairLoss = non_saturating
    reward: Reward = sigmoid
    dense: bool = True
    temperature: float = 1.0
    entropy_weight: float = 0.0
    kl_weight: float = 0.0
    kl_estimator: KlEstimator = "exact"
    r1_weight: float = 0.0
    r2_weight: float = 0.0
    gradient_penalty_weight: float = 0.0
    next_token_weight: float = 0.0
    class_weight: float = 0.0
    real_fake_weight: float = 1.0
    replay_size: int = 0
    replay_share: float = 0.5
    demonstrations: Demonstrations | None = None
    discriminator_updates: int = 1
    ema_decay: float = 0.0
    generator_optimizer: optax.GradientTransformation = ADAM
    discriminator_optimizer: optax.GradientTransformation = ADAM
    text_rewards: Sequence[TextReward] = ()
    reward_scaling: RewardScaling = "none"
    discriminator_reward_weight: float = 1.0
    resample_groups: int = 0
    axis_name: str | None = None

    @property
    def rows(self) -> Rows:
        """How a program's rows are part of the batch."""
        return Rows(self.axis_name)

    @property
    def learning(self) -> Learning:
        """Which of the players' parameters learn, by what the networks say of themselves."""
        return Learning.of(self.generator.config, self.discriminator.config)

    @property
    def samples(self) -> int:
        """Texts that the generator writes for each prompt."""
        return self.estimator.samples if isinstance(self.estimator, PolicyGradient) else 1

    @property
    def pays_values(self) -> bool:
        """Whether each token is paid its own value, by texts that go on from it."""
        return isinstance(self.estimator, PolicyGradient) and self.estimator.rollouts > 0

    @property
    def needs_reference(self) -> bool:
        """Whether an earlier generator is carried along."""
        return bool(self.kl_weight) or isinstance(self.estimator, SelfPlay)

    def check(self) -> None:
        """Checks every number, and that the choices go together, by the rules that hold for configurations.

        Raises:
            ValueError: one line that names what is wrong, and what would be right.
            TypeError: something is not of its kind, such as a text instead of a number.
        """
        for name, allowed in GAME.items():
            if name != "replay_share" or self.replay_size:
                allowed.check(name, getattr(self, name))
        check_choice("kl_estimator", self.kl_estimator, get_args(KlEstimator))
        if not isinstance(self.estimator, PolicyGradient | Pathwise | SelfPlay):
            raise TypeError(f"estimator should be a PolicyGradient, Pathwise or SelfPlay, not {self.estimator!r}")
        if isinstance(self.estimator, PolicyGradient):
            for name, allowed in POLICY_GRADIENT.items():
                allowed.check(f"estimator.{name}", getattr(self.estimator, name))
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
            raise UserError(f"text_rewards: a name stands there twice among {', '.join(names)}")

    def _choices(self) -> Choices:
        """What the rules look at."""
        same = {name: getattr(self, name) for name in Choices._fields if name in self._fields}
        loss, smoothing = pair_loss_name(self.pair_loss)
        network = self.discriminator.config  # None where it is the user's own
        return Choices(
            **same
            | {
                "pair_loss": loss,
                "label_smoothing": smoothing,
                "reward": reward_name(self.reward),
                "demonstrations": self.demonstrations is not None,
                "text_rewards": len(self.text_rewards),
                "paying_rewards": sum(reward.is_paid for reward in self.text_rewards),
            },
            estimator_name=f"estimator ({type(self.estimator).__name__})",
            bounded_slope=getattr(network, "spectral_norm", True),
            has_second_derivatives=getattr(network, "attention", "dense") != "flash",
            no_next_token=None if self.discriminator.next_logits else NO_NEXT_TOKEN,
            has_classes=self.discriminator.classes > 0,
            key=lambda name: name,
            no_demonstrations=("demonstrations", "None"),
        )
