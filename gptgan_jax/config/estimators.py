"""Estimators by configuration: one section a kind, and from it the estimator."""

import importlib
from typing import Annotated, Any, Literal

import optax
from pydantic import Field, model_validator

from gptgan_jax.estimators.cot import cot
from gptgan_jax.estimators.distillation import distill
from gptgan_jax.estimators.feature_matching import Whitening, feature_matching
from gptgan_jax.estimators.grpo import grpo
from gptgan_jax.estimators.gumbel import gumbel
from gptgan_jax.estimators.ppo import ppo
from gptgan_jax.estimators.reinforce import reinforce
from gptgan_jax.estimators.rloo import rloo
from gptgan_jax.estimators.seqgan import penalised, rollout
from gptgan_jax.estimators.spin import OwnLoss, dgsan, jsdgan, self_critic, spin
from gptgan_jax.estimators.weighted_likelihood import maligan, weighted_likelihood
from gptgan_jax.gradients.baselines import Baseline, learned_value, leave_one_out, moving_average, no_baseline
from gptgan_jax.gradients.families import Estimator
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.schema.ranges import (
    BASELINE_DECAY,
    CLIP,
    CONTEXT,
    COUNT,
    DEPTH,
    DISCOUNT,
    DIVERGENCE,
    DIVERSITY,
    DRAWS,
    EPOCHS,
    GROUP,
    LEARNING_RATE,
    MATCHED_GROUP,
    MINIBATCHES,
    ON_POLICY,
    REFRESH_EVERY,
    RELAXATION_TEMPERATURE,
    ROLLOUTS,
    SAMPLES,
    SELF_PLAY_SCALE,
    STRETCH,
    WEIGHTS_BASELINE,
)


@config_dataclass
class _WithBaseline:
    baseline: Literal["moving_average", "learned", "leave_one_out", "none"] = key(
        "moving_average", "what is taken from the returns: their average so far, a learned value, the others' mean"
    )
    baseline_decay: float = key(0.9, "weight of the past in the moving average", BASELINE_DECAY)
    value_learning_rate: float = key(1e-3, "of the learned value", LEARNING_RATE)

    def build_baseline(self) -> Baseline:
        """The baseline."""
        return {
            "moving_average": lambda: moving_average(self.baseline_decay),
            "learned": lambda: learned_value(self.value_learning_rate),
            "leave_one_out": leave_one_out,
            "none": no_baseline,
        }[self.baseline]()


@config_dataclass
class _Discounted:
    discount: float = key(1.0, "how much of the following token's return a token is credited with", DISCOUNT)


@config_dataclass
class _Clipped:
    clip: float = key(0.2, "how far a probability ratio may move and still be rewarded for it", CLIP, lt=1)
    epochs: int = key(1, "passes over the texts of a step", EPOCHS)
    minibatches: int = key(1, "updates a pass; divides the texts of a step", MINIBATCHES)
    ratio: Literal["token", "sequence"] = key("token", "ratio of each token's probability, or of the whole text's")


@config_dataclass
class ReinforceConfig(_WithBaseline, _Discounted):
    """REINFORCE (Williams 1992)."""

    kind: Literal["reinforce"] = "reinforce"


@config_dataclass
class RolloutConfig(_WithBaseline):
    """Monte-Carlo rollouts of every prefix (SeqGAN, Yu et al. 2017); scores whole texts."""

    kind: Literal["rollout"] = "rollout"
    rollouts: int = key(16, "continuations of each prefix", ROLLOUTS)


@config_dataclass
class SentiganConfig:
    """Rollouts of every prefix, weighted by each token's own probability (SentiGAN, Wang & Wan 2018)."""

    kind: Literal["sentigan"] = "sentigan"
    rollouts: int = key(16, "continuations of each prefix", ROLLOUTS)


@config_dataclass
class RlooConfig(_Discounted):
    """REINFORCE with the leave-one-out baseline of the prompt's other texts (Ahmadian et al. 2024)."""

    kind: Literal["rloo"] = "rloo"
    samples: int = key(4, "texts a prompt", GROUP)


@config_dataclass
class PpoConfig(_Clipped, _WithBaseline, _Discounted):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    kind: Literal["ppo"] = "ppo"
    epochs: int = key(4, "passes over the texts of a step", EPOCHS)


@config_dataclass
class GrpoConfig(_Clipped, _Discounted):
    """Group-relative policy optimisation (Shao et al. 2024)."""

    kind: Literal["grpo"] = "grpo"
    samples: int = key(8, "texts a prompt", GROUP)
    deviation: bool = key(True, "divide by the deviation of the group's returns")
    length_normalised: bool = key(False, "average over a text's tokens, as the paper does")


@config_dataclass
class MaliganConfig:
    """Likelihood of generated texts, weighted by D/(1 - D) (MaliGAN, Che et al. 2017); scores whole texts."""

    kind: Literal["maligan"] = "maligan"
    samples: int = key(1, "texts a prompt; weights are normalised over them, or over the batch where it is 1", SAMPLES)
    baseline: float = key(1.0, "taken from N times each weight; 1 centres them", WEIGHTS_BASELINE)


@config_dataclass
class WeightedLikelihoodConfig:
    """Likelihood of generated texts, weighted by D (cooperative, Lamprier et al. 2022); scores whole texts."""

    kind: Literal["weighted_likelihood"] = "weighted_likelihood"
    samples: int = key(1, "texts a prompt; weights are normalised over them, or over the batch where it is 1", SAMPLES)


@config_dataclass
class GumbelConfig:
    """Gumbel-softmax, the judgement differentiated through relaxed tokens (RelGAN, Nie et al. 2019)."""

    kind: Literal["gumbel"] = "gumbel"
    straight_through: bool = key(True, "the discriminator reads tokens, the gradient relaxed ones; false: both relaxed")
    temperature: float = key(1.0, "of the relaxation, at the start", RELAXATION_TEMPERATURE)
    final_temperature: float = key(0.01, "at the end of the phase, reached exponentially", RELAXATION_TEMPERATURE)
    draws: int = key(1, "of the noise for each text, averaged", DRAWS)


@config_dataclass
class SpinConfig:
    """Self-play against an earlier generator, without a discriminator (SPIN, Chen et al. 2024)."""

    kind: Literal["spin"] = "spin"
    scale: float = key(0.1, "the paper's lambda: of log-probability ratios in the loss", SELF_PLAY_SCALE)
    refresh_every: int = key(100, "steps of an iteration, after which the generator is its own opponent", REFRESH_EVERY)


@config_dataclass
class DgsanConfig:
    """Self-play with the best discriminator of two generators (DGSAN, Montahaei et al. 2019)."""

    kind: Literal["dgsan"] = "dgsan"
    refresh_every: int = key(100, "steps of an iteration, after which the generator is its own opponent", REFRESH_EVERY)


@config_dataclass
class SelfCriticConfig:
    """The generator's log-ratio to its reference for a critic, by a pair loss (DPO, Rafailov et al. 2023)."""

    kind: Literal["self_critic"] = "self_critic"
    pair_loss: OwnLoss = key("relativistic", "of the log-ratios of real and of written texts; relativistic is DPO's")
    scale: float = key(0.1, "DPO's beta: of the log-ratios", SELF_PLAY_SCALE)
    refresh_every: int | None = key(
        None, "steps after which the generator is its own reference; default: never", REFRESH_EVERY
    )


@config_dataclass
class JsdganConfig:
    """The Jensen-Shannon divergence from the training texts, in closed form (JSDGAN, Li et al. 2019)."""

    kind: Literal["jsdgan"] = "jsdgan"
    texts: int = key(10_000, "training texts, each of probability 1 / texts; of no effect where normalised", COUNT)
    normalised: bool = key(True, "probabilities between the least and the largest of a batch; false: as they are")


@config_dataclass
class CotConfig:
    """Cooperative training with a mediator, a language model of both texts (CoT, Lu et al. 2018)."""

    kind: Literal["cot"] = "cot"
    future: bool = key(False, "also charge a token with what comes after it, which makes the gradient exact")


@config_dataclass
class FeatureMatchingConfig:
    """Paid for features like those of real text, by a frozen copy, without a discriminator (EBFT, 2026)."""

    kind: Literal["feature_matching"] = "feature_matching"
    samples: int = key(4, "texts a prompt", MATCHED_GROUP)
    depths: tuple[float, ...] = key(
        (0.25, 0.5, 0.75), "shares of the generator's layers whose states of the last token are the features"
    )
    whitening: Whitening = key("real", "features whitened by those of real texts, of each prompt's texts, or not")
    diversity: float = key(1.0, "weight of the likeness of a prompt's texts; 1 matches means", DIVERSITY)
    length: int | None = key(None, "tokens of a stretch of a text that is written anew; default: all of it", STRETCH)
    context: int = key(0, "tokens of the text before the first stretch", CONTEXT)
    stride: int | None = key(None, "tokens from a stretch to the next; default: length", STRETCH)

    @model_validator(mode="after")
    def _check(self) -> "FeatureMatchingConfig":
        if not self.depths:
            raise ValueError("depths should be at least one share of the layers, such as 0.5")
        for depth in self.depths:
            DEPTH.check("depths", depth)
        return self


@config_dataclass
class DistillConfig:
    """A teacher's next-token distributions, on the generator's own texts (GKD, Agarwal et al. 2024)."""

    kind: Literal["distill"] = "distill"
    teacher: str | None = key(
        None, "a run folder, hf:FOLDER, gguf:FILE or hub:NAME, with this run's tokenizer; it stays where it is"
    )
    teacher_checkpoint: str = key("best", "of a run: best, last, a phase (its best) or a step")
    beta: float = key(0.5, "of the divergence: 0 is KL(teacher || student), 1 KL(student || teacher)", DIVERGENCE)
    on_policy: float = key(1.0, "share of the texts that the student writes; the others are real", ON_POLICY)


@config_dataclass
class CustomConfig:
    """An estimator of your own (docs/extending.md)."""

    kind: Literal["custom"] = "custom"
    factory: str = key(..., "module:function that returns an estimator; the module must be importable")
    options: dict[str, Any] = key(dict, "keyword arguments of the function")

    def __hash__(self) -> int:
        # A dict has no hash; equal sections have equal factories.
        return hash(self.factory)


EstimatorConfig = Annotated[
    ReinforceConfig
    | RolloutConfig
    | SentiganConfig
    | RlooConfig
    | PpoConfig
    | GrpoConfig
    | MaliganConfig
    | WeightedLikelihoodConfig
    | GumbelConfig
    | SpinConfig
    | DgsanConfig
    | JsdganConfig
    | SelfCriticConfig
    | CotConfig
    | FeatureMatchingConfig
    | DistillConfig
    | CustomConfig,
    Field(discriminator="kind"),
]


def build_estimator(config: EstimatorConfig, steps: int) -> Estimator:
    """The estimator of a phase of `steps` steps.

    Raises:
        ValueError: where a factory of the user's can't be found, fails or returns no estimator.
    """
    match config:
        case ReinforceConfig():
            return reinforce(config.discount, config.build_baseline())
        case RolloutConfig():
            return rollout(config.rollouts, config.build_baseline())
        case RlooConfig():
            return rloo(config.samples, config.discount)
        case PpoConfig():
            return ppo(
                config.discount,
                config.build_baseline(),
                config.clip,
                config.epochs,
                config.minibatches,
                config.ratio,
            )
        case GrpoConfig():
            return grpo(
                config.samples,
                config.discount,
                config.deviation,
                config.length_normalised,
                config.clip,
                config.epochs,
                config.minibatches,
                config.ratio,
            )
        case MaliganConfig():
            return maligan(config.samples, config.baseline)
        case WeightedLikelihoodConfig():
            return weighted_likelihood(config.samples)
        case GumbelConfig():
            rate = config.final_temperature / config.temperature
            schedule = optax.exponential_decay(config.temperature, max(steps, 1), rate)
            return gumbel(schedule, config.straight_through, config.draws)
        case SpinConfig():
            return spin(config.scale, config.refresh_every)
        case SentiganConfig():
            return penalised(config.rollouts)
        case DgsanConfig():
            return dgsan(config.refresh_every)
        case JsdganConfig():
            return jsdgan(config.texts, config.normalised)
        case SelfCriticConfig():
            return self_critic(config.pair_loss, config.scale, config.refresh_every)
        case CotConfig():
            return cot(config.future)
        case FeatureMatchingConfig():
            return feature_matching(
                config.samples,
                config.depths,
                config.whitening,
                config.diversity,
                config.length,
                config.context,
                config.stride,
            )
        case DistillConfig():
            return distill(config.beta, config.on_policy)
        case CustomConfig():
            return _custom(config)


def _custom(config: CustomConfig) -> Estimator:
    module_name, _, name = config.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the module is the user's, and may raise anything
        raise ValueError(f"factory {config.factory!r} should be module:function and importable: {error}") from error
    try:
        built = factory(**config.options)
    except Exception as error:
        raise ValueError(f"{config.factory}(**options) failed: {error}") from error
    if not isinstance(built, Estimator):
        raise ValueError(
            f"{config.factory} returned {type(built).__name__}; an estimator is a PolicyGradient, Pathwise, Mediated "
            "or SelfPlay"
        )
    return built
