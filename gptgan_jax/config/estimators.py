"""Estimators by configuration: one section per kind, from which the estimator is built."""

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
from gptgan_jax.estimators.seqgan import guided, penalised, rollout
from gptgan_jax.estimators.spin import OwnLoss, dgsan, jsdgan, self_critic, spin
from gptgan_jax.estimators.weighted_likelihood import maligan, weighted_likelihood
from gptgan_jax.gradients.baselines import Baseline, learned_value, leave_one_out, moving_average, no_baseline
from gptgan_jax.gradients.families import Estimator, estimator_of
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
    INTRINSIC_SHARE,
    LEARNING_RATE,
    MATCHED_GROUP,
    MINIBATCHES,
    ON_POLICY,
    REFRESH_EVERY,
    RELAXATION_TEMPERATURE,
    RESCALE,
    ROLLOUTS,
    SAMPLES,
    SELF_PLAY_SCALE,
    STRETCH,
    WEIGHTS_BASELINE,
)


@config_dataclass
class _WithBaseline:
    baseline: Literal["moving_average", "learned", "leave_one_out", "none"] = key(
        "moving_average",
        "baseline subtracted from the returns: their moving average, a learned value, the mean of the other texts, or "
        "0",
    )
    baseline_decay: float = key(0.9, "decay of the moving average", BASELINE_DECAY)
    value_learning_rate: float = key(1e-3, "learning rate of the learned value", LEARNING_RATE)

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
    discount: float = key(1.0, "discount of later rewards, per token", DISCOUNT)


@config_dataclass
class _Clipped:
    clip: float = key(0.2, "probability ratios are clipped to between 1 - clip and 1 + clip", CLIP, lt=1)
    epochs: int = key(1, "passes over the texts of a step", EPOCHS)
    minibatches: int = key(1, "updates per pass; must divide the number of texts of a step", MINIBATCHES)
    ratio: Literal["token", "sequence"] = key("token", "probability ratio of each token, or of the whole text")


@config_dataclass
class ReinforceConfig(_WithBaseline, _Discounted):
    """REINFORCE (Williams 1992)."""

    kind: Literal["reinforce"] = "reinforce"


@config_dataclass
class RolloutConfig(_WithBaseline):
    """Monte Carlo rollouts of every prefix (SeqGAN, Yu et al. 2017); scores whole texts."""

    kind: Literal["rollout"] = "rollout"
    rollouts: int = key(16, "continuations sampled for each prefix", ROLLOUTS)


@config_dataclass
class SentiganConfig:
    """Rollouts of every prefix, weighted by each token's own probability (SentiGAN, Wang & Wan 2018)."""

    kind: Literal["sentigan"] = "sentigan"
    rollouts: int = key(16, "continuations sampled for each prefix", ROLLOUTS)


@config_dataclass
class LeakganConfig(_WithBaseline):
    """Rollouts for a manager's goals, and a reward for following them (LeakGAN, Guo et al. 2018)."""

    kind: Literal["leakgan"] = "leakgan"
    rollouts: int = key(4, "continuations sampled for each prefix", ROLLOUTS)
    intrinsic_share: float = key(1.0, "share of the reward for following goals in the worker's", INTRINSIC_SHARE)
    rescale: float = key(16.0, "slope of the rewards' ranks among the texts of a step; 0: no ranks", RESCALE)


@config_dataclass
class RlooConfig(_Discounted):
    """REINFORCE with the leave-one-out baseline of the prompt's other texts (Ahmadian et al. 2024)."""

    kind: Literal["rloo"] = "rloo"
    samples: int = key(4, "texts per prompt", GROUP)


@config_dataclass
class PpoConfig(_Clipped, _WithBaseline, _Discounted):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    kind: Literal["ppo"] = "ppo"
    epochs: int = key(4, "passes over the texts of a step", EPOCHS)


@config_dataclass
class GrpoConfig(_Clipped, _Discounted):
    """Group-relative policy optimisation (Shao et al. 2024)."""

    kind: Literal["grpo"] = "grpo"
    samples: int = key(8, "texts per prompt", GROUP)
    deviation: bool = key(True, "divide by the standard deviation of the group's returns")
    length_normalised: bool = key(False, "average over a text's tokens, as the paper does")


@config_dataclass
class MaliganConfig:
    """Likelihood of generated texts, weighted by D/(1 - D) (MaliGAN, Che et al. 2017); scores whole texts."""

    kind: Literal["maligan"] = "maligan"
    samples: int = key(1, "texts per prompt; weights are normalised over them, or over the batch if it is 1", SAMPLES)
    baseline: float = key(1.0, "subtracted from N times each weight; 1 centres them", WEIGHTS_BASELINE)


@config_dataclass
class WeightedLikelihoodConfig:
    """Likelihood of generated texts, weighted by D (cooperative, Lamprier et al. 2022); scores whole texts."""

    kind: Literal["weighted_likelihood"] = "weighted_likelihood"
    samples: int = key(1, "texts per prompt; weights are normalised over them, or over the batch if it is 1", SAMPLES)


@config_dataclass
class GumbelConfig:
    """Gumbel-softmax: the score is differentiated through relaxed tokens (RelGAN, Nie et al. 2019)."""

    kind: Literal["gumbel"] = "gumbel"
    straight_through: bool = key(
        True,
        "the discriminator reads the tokens, and the gradient is that of relaxed ones; false: both use relaxed ones",
    )
    temperature: float = key(1.0, "temperature of the relaxation at the start", RELAXATION_TEMPERATURE)
    final_temperature: float = key(
        0.01, "temperature at the end of the phase, reached exponentially", RELAXATION_TEMPERATURE
    )
    draws: int = key(1, "noise samples per text, averaged", DRAWS)


@config_dataclass
class SpinConfig:
    """Self-play against an earlier generator, without a discriminator (SPIN, Chen et al. 2024)."""

    kind: Literal["spin"] = "spin"
    scale: float = key(0.1, "scale of log-probability ratios in the loss, the paper's lambda", SELF_PLAY_SCALE)
    refresh_every: int = key(100, "steps after which the generator becomes its own new opponent", REFRESH_EVERY)


@config_dataclass
class DgsanConfig:
    """Self-play with the optimal discriminator between two generators (DGSAN, Montahaei et al. 2019)."""

    kind: Literal["dgsan"] = "dgsan"
    refresh_every: int = key(100, "steps after which the generator becomes its own new opponent", REFRESH_EVERY)


@config_dataclass
class SelfCriticConfig:
    """The generator's log-ratio to its reference as the critic, in a pair loss (DPO, Rafailov et al. 2023)."""

    kind: Literal["self_critic"] = "self_critic"
    pair_loss: OwnLoss = key("relativistic", "loss on the log-ratios of real and generated texts (DPO: relativistic)")
    scale: float = key(0.1, "scale of the log-ratios, DPO's beta", SELF_PLAY_SCALE)
    refresh_every: int | None = key(
        None, "steps after which the generator becomes its own reference; default: never", REFRESH_EVERY
    )


@config_dataclass
class JsdganConfig:
    """The Jensen-Shannon divergence from the training texts, in closed form (JSDGAN, Li et al. 2019)."""

    kind: Literal["jsdgan"] = "jsdgan"
    texts: int = key(10_000, "training texts, each of probability 1 / texts; no effect if normalised", COUNT)
    normalised: bool = key(True, "rescale the probabilities of a batch to between 0 and 1; false: use them unscaled")


@config_dataclass
class CotConfig:
    """Cooperative training with a mediator, a language model of real and generated text (CoT, Lu et al. 2018)."""

    kind: Literal["cot"] = "cot"
    future: bool = key(False, "also include each token's effect on later ones, which makes the gradient exact")


@config_dataclass
class FeatureMatchingConfig:
    """Reward for features like real text's, from a frozen generator, without a discriminator (EBFT, 2026)."""

    kind: Literal["feature_matching"] = "feature_matching"
    samples: int = key(4, "texts per prompt", MATCHED_GROUP)
    depths: tuple[float, ...] = key(
        (0.25, 0.5, 0.75), "relative depths of the layers whose states at the last token are the features"
    )
    whitening: Whitening = key(
        "real", "whiten the features by those of real texts (real), of each prompt's texts (group), or not (none)"
    )
    diversity: float = key(
        1.0, "weight of the penalty on similarity between a prompt's texts; 1 matches the mean features", DIVERSITY
    )
    length: int | None = key(
        None, "tokens of each stretch of a text that is generated; default: the whole text", STRETCH
    )
    context: int = key(0, "tokens of the text before the first stretch", CONTEXT)
    stride: int | None = key(None, "tokens from the start of one stretch to the next; default: length", STRETCH)

    @model_validator(mode="after")
    def _check(self) -> "FeatureMatchingConfig":
        if not self.depths:
            raise ValueError("depths should be at least one share of the layers, such as 0.5")
        for depth in self.depths:
            DEPTH.check("depths", depth)
        return self


@config_dataclass
class DistillConfig:
    """Learn a teacher's next-token distributions on the generator's own texts (GKD, Agarwal et al. 2024)."""

    kind: Literal["distill"] = "distill"
    teacher: str | None = key(
        None,
        "a run folder, hf:FOLDER, gguf:FILE or hub:NAME, with this run's tokenizer; it is not copied",
        min_length=1,
    )
    teacher_checkpoint: str = key(
        "best", "the checkpoint, if the teacher is a run: best, last, a phase (its best) or a step"
    )
    top_k_file: str | None = key(
        None,
        "instead of a teacher: a file of its most likely tokens on the training text, made by gptgan data --top-k; "
        "needs on_policy 0",
        min_length=1,
    )
    beta: float = key(0.5, "kind of divergence: 0 is KL(teacher || student), 1 is KL(student || teacher)", DIVERGENCE)
    on_policy: float = key(1.0, "share of the texts that the student generates; the others are real", ON_POLICY)


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
    | LeakganConfig
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
    """The estimator for a phase of `steps` steps.

    Raises:
        ValueError: a custom factory can't be found, fails, or returns no estimator.
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
        case LeakganConfig():
            return guided(config.rollouts, config.intrinsic_share, config.rescale, config.build_baseline())
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
    estimator = estimator_of(built)
    if not isinstance(estimator, Estimator):
        raise ValueError(
            f"{config.factory} returned {type(built).__name__}; an estimator is a PolicyGradient, Pathwise, Mediated, "
            "SelfPlay or Distillation, or has what one of them has"
        )
    return estimator
