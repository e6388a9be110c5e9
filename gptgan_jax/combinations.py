"""Which choices of a config go together: every combination of the axes works, or is refused here with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gptgan_jax.objectives.discrimination import SMOOTHABLE
from gptgan_jax.objectives.estimator_configs import (
    CustomConfig,
    GrpoConfig,
    MaliganConfig,
    PpoConfig,
    WeightedLikelihoodConfig,
    build_estimator,
)
from gptgan_jax.objectives.estimators import Estimator, Pathwise, PolicyGradient, SelfPlay

if TYPE_CHECKING:
    from gptgan_jax.config import Config

CONTROLS = ("constant", "random")
PENALTIES = ("r1_weight", "r2_weight", "gradient_penalty_weight")
# Losses whose scores are log-odds; those of the others are margins, of no scale that a probability could be read off.
LOG_ODDS = ("non_saturating", "relativistic", "relativistic_tie")
NEEDS_LOG_ODDS = ("sigmoid", "log_sigmoid", "softplus", "log_ratio", "pair_probability")


def check_combination(config: Config) -> None:
    """Raises ValueError with the first reason why the choices do not go together.

    An estimator of the user's own is code, and to read a configuration runs none: see `check_custom_estimator`.
    """
    custom = isinstance(config.objective.estimator, CustomConfig)
    for reason in _reasons(config, None if custom else build_estimator(config.objective.estimator, 1)):
        raise ValueError(reason)


def check_custom_estimator(config: Config) -> None:
    """Imports and builds an estimator of the user's own where the choices name one, and checks what goes with it.

    This runs the code that the configuration names. So it is for configurations that the user trains with, and not
    for those that lie in a run folder, which may be somebody else's.

    Raises:
        ValueError: the first reason why it can't be had, or why the choices do not go together.
    """
    if isinstance(config.objective.estimator, CustomConfig):
        for reason in _reasons(config, build_estimator(config.objective.estimator, 1)):
            raise ValueError(reason)


def _reasons(config: Config, estimator: Estimator | None) -> Iterator[str]:
    """Why the choices do not go together, with an estimator; None for one that is not known."""
    if isinstance(estimator, SelfPlay):
        yield from _reasons_of_self_play(config)
    yield from _reasons_of_start(config)
    yield from _reasons_of_judgement(config)
    yield from _reasons_of_kernels(config)
    yield from _reasons_of_residual(config)
    yield from _reasons_of_labels(config)
    yield from _reasons_of_classes(config)
    if estimator is not None and not isinstance(estimator, SelfPlay):
        yield from _reasons_of_estimator(config)
        yield from _reasons_of_family(config, estimator)
        yield from _reasons_of_sizes(config, estimator)


def _reasons_of_start(config: Config) -> Iterator[str]:
    if config.init_vocabulary == "by_token" and config.init_from is None:
        yield "init_vocabulary by_token is of what init_from names: set that, or drop init_vocabulary"
    if config.generator.lora.rank and config.init_from is None:
        yield (
            "generator.lora adapts a generator that has learned: set init_from to a run or a model, or drop "
            "generator.lora"
        )


def _reasons_of_judgement(config: Config) -> Iterator[str]:
    objective = config.objective
    loss, reward = objective.pair_loss, objective.reward
    if objective.label_smoothing and loss not in SMOOTHABLE:
        yield f"objective.label_smoothing needs a loss of probabilities: {loss} has none; use {' or '.join(SMOOTHABLE)}"
    if reward in NEEDS_LOG_ODDS and loss not in LOG_ODDS:
        yield (
            f"objective.reward {reward} reads the score as log-odds; with objective.pair_loss {loss} it is a margin: "
            "use reward logit or ranked"
        )
    if reward == "log_ratio" and not objective.dense:
        yield "objective.reward log_ratio is what a token adds, and with dense false it equals logit; use that"
    if objective.next_token_weight:
        yield from _reasons_of_next_token(config)
    spectral = config.discriminator.spectral_norm
    if loss == "wasserstein" and not objective.gradient_penalty_weight and not spectral:
        yield (
            "objective.pair_loss wasserstein needs a discriminator of bounded slope: set "
            "objective.gradient_penalty_weight (10 is usual) or discriminator.spectral_norm true"
        )


def _reasons_of_kernels(config: Config) -> Iterator[str]:
    players = ("generator", "discriminator")
    flash = [player for player in players if getattr(getattr(config, player), "attention", "dense") == "flash"]
    if flash and config.mesh.backend == "pmap":
        yield (
            f"mesh.backend pmap splits no kernel where a run is validated: set {flash[0]}.attention to dense, or "
            "mesh.backend to jit"
        )
    for name in PENALTIES:
        if "discriminator" in flash and getattr(config.objective, name):
            yield (
                f"objective.{name} needs second derivatives, which the kernels of discriminator.attention flash do "
                "not have: set discriminator.attention to dense, or the weight to 0"
            )


def _reasons_of_next_token(config: Config) -> Iterator[str]:
    discriminator = config.discriminator
    if discriminator.kind != "transformer":
        yield (
            f"objective.next_token_weight needs discriminator.kind transformer: {discriminator.kind} "
            "predicts no next token; set the weight to 0"
        )
        return
    why = "objective.next_token_weight predicts by the input embeddings: set"
    if not discriminator.tied_embeddings:
        yield f"{why} discriminator.tied_embeddings to true"
    if discriminator.from_generator and not getattr(config.generator, "tied_embeddings", True):
        yield f"{why} generator.tied_embeddings to true, as discriminator.from_generator has no other output layer"


def _reasons_of_residual(config: Config) -> Iterator[str]:
    objective = config.objective
    if not objective.residual_candidates:
        return
    why = "objective.residual_candidates resamples by the discriminator's log-odds"
    if config.warmup.steps == 0:
        yield f"{why}: it needs one, set warmup.steps, or residual_candidates to 0"
    if objective.pair_loss not in ("non_saturating", "relativistic") or objective.label_smoothing:
        yield (
            f"{why}: set objective.pair_loss to non_saturating or relativistic and label_smoothing to 0, or "
            "residual_candidates to 0"
        )
    if objective.reward == "random":
        yield (
            "objective.residual_candidates has the constant reward for a control, not the random one; set reward to "
            "constant, or residual_candidates to 0"
        )
    if config.conditional:
        yield (
            "objective.residual_candidates needs text without prompts, as its normaliser is another for every prompt; "
            "set it to 0"
        )


def _reasons_of_labels(config: Config) -> Iterator[str]:
    data = config.data
    if config.label_prompts and not config.labelled:
        yield f"data.label_prompts needs labels: set data.{'label' if data.kind == 'grammar' else 'label_column'}"
    if config.label_prompts and getattr(data, "prompts_from", None) is not None:
        yield "data.label_prompts makes prompts of the labels, and data.prompt_column has others: drop one of them"
    if getattr(data, "labelled", None) is not None and not config.labelled:
        yield "data.labelled counts labels, and data.label is none: set it, or drop labelled"
    for name in ("unlabelled", "classes"):
        if getattr(data, name, None) and not config.labelled:
            yield f"data.{name} is for data with labels: set data.label_column, or drop {name}"


def _reasons_of_classes(config: Config) -> Iterator[str]:
    objective, classification = config.objective, config.objective.classification
    if not config.classifies:
        for name, default in (
            ("real_fake_weight", 1),
            ("labelled_share", None),
            ("feature_matching_weight", 0),
            ("label_reward_weight", 0),
        ):
            if getattr(classification, name) != default:
                yield (
                    f"objective.classification.{name} is for a discriminator with classes: set "
                    f"objective.classification.weight, or drop {name}"
                )
        return
    why = "objective.classification.weight gives the discriminator classes: "
    if not config.labelled:
        key = {"grammar": "data.label", "hf": "data.label_column"}.get(config.data.kind)
        yield f"{why}the data needs labels, {f'set {key}' if key else 'use data.kind hf or grammar'}"
    if objective.pair_loss != "non_saturating":
        yield f"{why}their log-sum-exp is the log-odds of real text, set objective.pair_loss to non_saturating"
    if not config.warmup.steps and not config.adversarial.steps:
        yield f"{why}warmup.steps and adversarial.steps are both 0, and nothing would train it"
    for phase in ("warmup", "adversarial"):
        batch, share = getattr(config, phase).batch_size, classification.labelled_share
        if share is not None and getattr(config, phase).steps and not round(share * batch):
            yield f"objective.classification.labelled_share {share} of {phase}.batch_size {batch} is not one text"
    yield from _reasons_of_class_rewards(config)
    if classification.real_fake_weight == 0:
        yield from _reasons_of_labels_alone(config)


def _reasons_of_class_rewards(config: Config) -> Iterator[str]:
    classification, where = config.objective.classification, "objective.classification"
    for name in ("feature_matching_weight", "label_reward_weight"):
        if not getattr(classification, name):
            continue
        if not config.adversarial.steps:
            yield f"{where}.{name} teaches the generator: it needs adversarial.steps, or set it to 0"
        if config.objective.reward in CONTROLS:
            yield f"objective.reward {config.objective.reward} is a control only without {where}.{name}; set it to 0"
    if classification.label_reward_weight and not config.label_prompts:
        yield f"{where}.label_reward_weight pays for obeying labels: set data.label_prompts true, or the weight to 0"


def _reasons_of_labels_alone(config: Config) -> Iterator[str]:
    why = "objective.classification.real_fake_weight 0 learns from labels alone: "
    if config.adversarial.steps:
        yield f"{why}it teaches a generator nothing, set adversarial.steps to 0"
    for name in (*PENALTIES, "residual_candidates", "label_smoothing"):
        if getattr(config.objective, name):
            yield f"{why}set objective.{name} to 0"


def _reasons_of_self_play(config: Config) -> Iterator[str]:
    objective, adversarial = config.objective, config.adversarial
    why = "an estimator by self-play has no discriminator: "
    if config.warmup.steps:
        yield f"{why}set warmup.steps to 0"
    if objective.pair_loss == "wasserstein":
        yield f"{why}objective.pair_loss should be non_saturating"
    if objective.residual_candidates:
        yield f"{why}objective.residual_candidates should be 0"
    if adversarial.discriminator_updates > 1:
        yield f"{why}adversarial.discriminator_updates should be 1"
    if adversarial.freeze_discriminator:
        yield f"{why}adversarial.freeze_discriminator should be false"
    if objective.replay_size:
        yield f"{why}objective.replay_size should be 0"
    if config.classifies:
        yield f"{why}objective.classification.weight should be 0"
    for name in (*PENALTIES, "next_token_weight", "label_smoothing"):
        if getattr(objective, name):
            yield f"{why}objective.{name} should be 0"
    if objective.reward in CONTROLS:
        yield f"{why}reward {objective.reward} would change nothing and is no control of it"
    for name in ("kl_weight", "entropy_weight"):
        if getattr(objective, name):
            yield f"self-play is held by its own reference: objective.{name} should be 0"
    if objective.demonstration_share:
        yield "self-play learns from real text in every step: objective.demonstration_share should be 0"


def _reasons_of_estimator(config: Config) -> Iterator[str]:
    objective, estimator = config.objective, config.objective.estimator
    loss, reward, dense = objective.pair_loss, objective.reward, objective.dense
    discount = getattr(estimator, "discount", 1.0)
    if reward == "constant" and not dense and discount < 1:
        yield (
            "objective.reward constant with dense false needs objective.estimator.discount 1: "
            "a discounted end pays for short texts, which is no control"
        )
    if reward in CONTROLS and objective.demonstration_share:
        yield f"objective.reward {reward} is a control only without demonstrations; set demonstration_share to 0"
    if isinstance(estimator, MaliganConfig | WeightedLikelihoodConfig) and dense:
        yield f"objective.estimator {estimator.kind} judges whole texts; set objective.dense to false"
    if isinstance(estimator, MaliganConfig | WeightedLikelihoodConfig):
        weight = "logit" if isinstance(estimator, MaliganConfig) else "log_sigmoid"
        ratio = "D/(1 - D)" if isinstance(estimator, MaliganConfig) else "D"
        if reward not in (weight, *CONTROLS):
            yield f"objective.estimator {estimator.kind} weighs texts by {ratio}; set objective.reward to {weight}"
        if loss != "non_saturating" or objective.label_smoothing:
            yield (
                f"objective.estimator {estimator.kind} needs D to be a probability: set objective.pair_loss to "
                "non_saturating and label_smoothing to 0"
            )
        if objective.demonstration_share:
            yield (
                f"objective.estimator {estimator.kind} weighs what the generator wrote against each other; set "
                "demonstration_share to 0"
            )
    if isinstance(estimator, PpoConfig | GrpoConfig) and estimator.ratio == "sequence" and dense:
        yield "objective.estimator.ratio sequence pays whole texts; set objective.dense to false, or use ratio token"


def _reasons_of_family(config: Config, estimator: PolicyGradient | Pathwise) -> Iterator[str]:
    objective = config.objective
    kind = objective.estimator.kind
    named = objective.estimator.factory if isinstance(objective.estimator, CustomConfig) else kind
    if isinstance(estimator, Pathwise):
        if objective.demonstration_share:
            yield f"objective.estimator {named} has no rewards to give demonstrations; set demonstration_share to 0"
        if objective.kl_weight and objective.kl_estimator == "reward":
            yield f"objective.estimator {named} has no rewards; set objective.kl_estimator to exact or low_variance"
    elif estimator.rollouts:
        if objective.dense:
            yield f"objective.estimator {named} judges whole texts; set objective.dense to false"
        if objective.kl_weight and objective.kl_estimator == "reward":
            yield (
                f"objective.estimator {named} takes values of tokens, not rewards that add up; "
                "set objective.kl_estimator to exact or low_variance"
            )


def _reasons_of_sizes(config: Config, estimator: PolicyGradient | Pathwise) -> Iterator[str]:
    objective, adversarial = config.objective, config.adversarial
    texts = adversarial.batch_size * (1 if isinstance(estimator, Pathwise) else estimator.samples)
    if objective.replay_size and objective.replay_size < max(texts, config.warmup.batch_size):
        yield (
            f"objective.replay_size {objective.replay_size} holds less than the {max(texts, config.warmup.batch_size)} "
            "texts of a step; make it larger, or 0 for none"
        )
    if isinstance(estimator, PolicyGradient) and texts % estimator.minibatches:
        yield f"objective.estimator.minibatches {estimator.minibatches} does not divide the {texts} texts of a step"
    if texts < 2 and isinstance(objective.estimator, MaliganConfig | WeightedLikelihoodConfig):
        yield (
            f"objective.estimator {objective.estimator.kind} weighs texts against each other: it needs "
            "adversarial.batch_size 2 or more"
        )
    if texts < 2 and getattr(objective.estimator, "baseline", None) == "leave_one_out":
        yield "objective.estimator.baseline leave_one_out needs adversarial.batch_size 2 or more"
