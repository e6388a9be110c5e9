"""Rules for which choices of a config go together: every combination either works or is refused with a reason.

Rules that also hold for the functional API are in `algorithms.compatibility`; here are those of configurations only.
"""

from collections.abc import Iterator

from gptgan_jax.algorithms.compatibility import CONTROLS, Choices, no_discriminator, reasons
from gptgan_jax.config.data_compatibility import reasons_of_data
from gptgan_jax.config.estimators import (
    CustomConfig,
    DistillConfig,
    FeatureMatchingConfig,
    GrpoConfig,
    MaliganConfig,
    PpoConfig,
    WeightedLikelihoodConfig,
    build_estimator,
)
from gptgan_jax.config.sections import ObjectiveConfig, Sections
from gptgan_jax.data.config import MixtureData
from gptgan_jax.gradients.families import Estimator, Mediated, Pathwise, PolicyGradient, without_discriminator
from gptgan_jax.models.discriminators import representations_of, surprisal_of
from gptgan_jax.models.leakgan import LeakganConfig, not_readable
from gptgan_jax.objectives import formulas
from gptgan_jax.objectives.discrimination import SMOOTHABLE

# Keys that set attributes of a `Game` and are not called objective.NAME.
KEYS = {
    "class_weight": "objective.classification.weight",
    "real_fake_weight": "objective.classification.real_fake_weight",
    "discriminator_updates": "adversarial.discriminator_updates",
    "text_rewards": "objective.rewards",
    "discount": "objective.estimator.discount",
    "matches_features": "objective.classification.feature_matching_weight",
}


def check_combination(config: Sections) -> None:
    """Raises ValueError with the first reason why the choices do not go together.

    A user's own estimator is code, and reading a configuration runs no code: see `check_custom_code`.
    """
    custom = isinstance(config.objective.estimator, CustomConfig)
    for reason in _reasons(config, None if custom else build_estimator(config.objective.estimator, 1)):
        raise ValueError(reason)


def check_custom_code(config: Sections) -> None:
    """Imports and builds the user's own estimator and reward functions, if the choices name any, and checks them.

    This runs the code that the configuration names. It is therefore only for configurations that the user trains with,
    not for those in a run folder, which may come from someone else.

    Raises:
        ValueError: the first reason why the code can't be used, or why the choices do not go together.
    """
    if isinstance(config.objective.estimator, CustomConfig):
        for reason in _reasons(config, build_estimator(config.objective.estimator, 1)):
            raise ValueError(reason)
    for one in config.objective.rewards:
        if not one.is_built_in:
            one.call().check()


def _reasons(config: Sections, estimator: Estimator | None) -> Iterator[str]:
    """Why the choices do not go together, given an estimator; None for an unknown one."""
    if without_discriminator(estimator):
        yield from _reasons_without_discriminator(config, no_discriminator(estimator))
    if isinstance(estimator, Mediated) and config.objective.residual_candidates:
        yield "a mediator scores no text: objective.residual_candidates should be 0"
    yield from _reasons_of_teacher(config)
    yield from _reasons_of_start(config)
    yield from _reasons_of_leaks(config)
    yield from _reasons_of_judgement(config)
    yield from _reasons_of_kernels(config)
    yield from _reasons_of_residual(config)
    yield from reasons_of_data(config)
    yield from _reasons_of_classes(config)
    yield from _reasons_of_rewards(config)
    if isinstance(estimator, PolicyGradient | Pathwise):
        yield from _reasons_of_estimator(config)
    yield from reasons(_choices(config, estimator))
    if isinstance(estimator, PolicyGradient | Pathwise):
        yield from _reasons_of_sizes(config, estimator)


def _choices(config: Sections, estimator: Estimator | None) -> Choices:
    """The input of the rules that a `Game` shares."""
    objective, discriminator = config.objective, config.discriminator
    own = objective.estimator.factory if isinstance(objective.estimator, CustomConfig) else objective.estimator.kind
    return Choices(
        estimator=estimator,
        estimator_name=f"objective.estimator {own}",
        pair_loss=objective.pair_loss,
        reward=objective.reward,
        reads_prefixes=_reads_prefixes(objective),
        discount=getattr(estimator, "discount", None),
        constant_discount=None,  # `constant` is built with the estimator's
        matches_features=objective.classification.feature_matching_weight > 0,
        label_smoothing=objective.label_smoothing,
        dense=objective.dense,
        entropy_weight=objective.entropy_weight,
        likelihood_weight=objective.likelihood_weight,
        kl_weight=objective.kl_weight,
        kl_estimator=objective.kl_estimator,
        r1_weight=objective.r1_weight,
        r2_weight=objective.r2_weight,
        gradient_penalty_weight=objective.gradient_penalty_weight,
        next_token_weight=objective.next_token_weight,
        mmd_weight=objective.mmd_weight,
        class_weight=objective.classification.weight,
        real_fake_weight=objective.classification.real_fake_weight,
        replay_size=objective.replay_size,
        discriminator_updates=config.adversarial.discriminator_updates,
        demonstrations=objective.demonstration_share > 0,
        text_rewards=len(objective.rewards),
        paying_rewards=sum(reward.weight != 0 for reward in objective.rewards),
        reward_scaling=objective.reward_scaling,
        discriminator_reward_weight=objective.discriminator_reward_weight,
        resample_groups=objective.resample_groups,
        bounded_slope=discriminator.spectral_norm,
        has_second_derivatives=getattr(discriminator, "attention", "dense") != "flash",
        no_next_token=_no_next_token(config),
        has_classes=config.classifies,
        representations=representations_of(discriminator),
        surprisal=surprisal_of(discriminator) is not None,
        window=objective.window,
        no_features=not_readable(config.generator, discriminator),
        has_goals=isinstance(config.generator, LeakganConfig),
        key=lambda name: KEYS.get(name, f"objective.{name}"),
        no_demonstrations=("objective.demonstration_share", "0"),
    )


def _reads_prefixes(objective: ObjectiveConfig) -> frozenset[str]:
    if objective.reward == "log_ratio":
        return frozenset({"s_prev"})
    return formulas.read(objective.reward_formula).names - {"s"} if objective.reward_formula else frozenset()


def _no_next_token(config: Sections) -> str | None:
    """Why the discriminator does not predict the next token, and what to set; None if it does."""
    discriminator = config.discriminator
    if discriminator.kind != "transformer":
        return f"needs discriminator.kind transformer: {discriminator.kind} predicts no next token; set the weight to 0"
    if not discriminator.tied_embeddings:
        return "predicts by the input embeddings: set discriminator.tied_embeddings to true"
    if discriminator.from_generator and not getattr(config.generator, "tied_embeddings", True):
        return (
            "predicts by the input embeddings: set generator.tied_embeddings to true, as discriminator.from_generator "
            "has no other output layer"
        )
    return None


def _reasons_of_start(config: Sections) -> Iterator[str]:
    if config.init_vocabulary == "by_token" and config.init_from is None:
        yield "init_vocabulary by_token is of what init_from names: set that, or drop init_vocabulary"
    if config.generator.lora.rank and config.init_from is None:
        yield (
            "generator.lora adapts a generator that has learned: set init_from to a run or a model, or drop "
            "generator.lora"
        )


def _reasons_of_leaks(config: Sections) -> Iterator[str]:
    if not isinstance(config.generator, LeakganConfig):
        return
    if config.label_prompts:
        yield (
            "generator.kind leakgan reads the discriminator's features, and data.label_prompts hides the prompts from "
            "it: set data.label_prompts to false, or choose another generator.kind"
        )


def _reasons_of_judgement(config: Sections) -> Iterator[str]:
    smoothing, loss = config.objective.label_smoothing, config.objective.pair_loss
    if (config.objective.reward == "formula") != (config.objective.reward_formula is not None):
        yield "objective.reward formula is what objective.reward_formula says: set both, or drop both"
    if smoothing and loss not in SMOOTHABLE:
        yield f"objective.label_smoothing needs a loss of probabilities: {loss} has none; use {' or '.join(SMOOTHABLE)}"


def _reasons_of_kernels(config: Sections) -> Iterator[str]:
    players = ("generator", "discriminator")
    flash = [player for player in players if getattr(getattr(config, player), "attention", "dense") == "flash"]
    if flash and config.mesh.backend == "pmap":
        yield (
            f"mesh.backend pmap splits no kernel where a run is validated: set {flash[0]}.attention to dense, or "
            "mesh.backend to jit"
        )


def _reasons_of_residual(config: Sections) -> Iterator[str]:
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
    if objective.pair_loss == "relativistic" and objective.dense:
        yield (
            f"{why}, which a relativistic loss of tokens knows but for a number at each position: set objective.dense "
            "to false, objective.pair_loss to non_saturating, or residual_candidates to 0"
        )
    if objective.window:
        yield f"{why} of whole texts: set objective.window to 0, or residual_candidates to 0"
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


def _reasons_of_classes(config: Sections) -> Iterator[str]:
    classification = config.objective.classification
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
    if representations_of(config.discriminator) > 1:
        yield f"{why}it reads one set of features, set discriminator.representations to 1"
    if not config.warmup.steps and not config.adversarial.steps:
        yield f"{why}warmup.steps and adversarial.steps are both 0, and nothing would train it"
    for phase in ("warmup", "adversarial"):
        batch, share = getattr(config, phase).batch_size, classification.labelled_share
        if share is not None and getattr(config, phase).steps and not round(share * batch):
            yield f"objective.classification.labelled_share {share} of {phase}.batch_size {batch} is not one text"
    yield from _reasons_of_class_rewards(config)
    if classification.real_fake_weight == 0:
        yield from _reasons_of_labels_alone(config)


def _reasons_of_class_rewards(config: Sections) -> Iterator[str]:
    classification, where = config.objective.classification, "objective.classification"
    for name in ("feature_matching_weight", "label_reward_weight"):
        if not getattr(classification, name):
            continue
        if not config.adversarial.steps:
            yield f"{where}.{name} teaches the generator: it needs adversarial.steps, or set it to 0"
        if config.objective.reward in CONTROLS:
            yield f"objective.reward {config.objective.reward} is a control only without {where}.{name}; set it to 0"
    if config.objective.reward == "penalty" and not config.label_prompts:
        yield (
            "objective.reward penalty pays for the label that a prompt asks for: set data.label_prompts true, or the "
            "reward to sigmoid"
        )
    if classification.label_reward_weight and not config.label_prompts:
        yield f"{where}.label_reward_weight pays for obeying labels: set data.label_prompts true, or the weight to 0"


def _reasons_of_rewards(config: Sections) -> Iterator[str]:
    rewards = config.objective.rewards
    names = [reward.called for reward in rewards]
    if twice := next((name for name in names if names.count(name) > 1), None):
        yield f"objective.rewards: two are called {twice}; give one of them another name"
    if getattr(config.data, "reward_columns", ()):
        if not rewards:
            yield "data.reward_columns is for functions of objective.rewards, and there are none; drop it"
        if getattr(config.data, "store", None) is not None:
            yield "data.reward_columns: data.store keeps texts alone; drop one of them"
    for reward in rewards:
        if reward.function == "exact_answer" and not config.conditional:
            yield "objective.rewards: exact_answer compares answers to prompts, and this data has none; leave it out"


def _reasons_of_labels_alone(config: Sections) -> Iterator[str]:
    why = "objective.classification.real_fake_weight 0 learns from labels alone: "
    if config.adversarial.steps:
        yield f"{why}it teaches a generator nothing, set adversarial.steps to 0"
    if config.objective.residual_candidates:
        yield f"{why}set objective.residual_candidates to 0"


def _reasons_without_discriminator(config: Sections, why: str) -> Iterator[str]:
    if config.warmup.steps:
        yield f"{why}set warmup.steps to 0"
    if config.objective.residual_candidates:
        yield f"{why}objective.residual_candidates should be 0"
    if config.adversarial.freeze_discriminator:
        yield f"{why}adversarial.freeze_discriminator should be false"


def _reasons_of_estimator(config: Sections) -> Iterator[str]:
    objective, estimator = config.objective, config.objective.estimator
    if isinstance(estimator, FeatureMatchingConfig):
        yield from _reasons_of_stretches(config, estimator)
    if isinstance(estimator, PpoConfig | GrpoConfig) and estimator.ratio == "sequence" and objective.dense:
        yield "objective.estimator.ratio sequence pays whole texts; set objective.dense to false, or use ratio token"


def _reasons_of_teacher(config: Sections) -> Iterator[str]:
    estimator, data = config.objective.estimator, config.data
    if not isinstance(estimator, DistillConfig):
        return
    where = "objective.estimator.top_k_file"
    if estimator.top_k_file is None:
        if estimator.teacher is None and config.adversarial.steps:
            yield (
                "objective.estimator distill: set objective.estimator.teacher to a run folder, or hf:FOLDER of a model "
                f"(or {where}, for one that is not at hand)"
            )
        return
    if estimator.teacher is not None:
        yield f"{where} and objective.estimator.teacher are two teachers: leave one out"
    if estimator.on_policy:
        yield f"{where} knows real texts alone: objective.estimator.on_policy should be 0"
    if config.objective.temperature != 1:
        yield f"{where} has probabilities at temperature 1: objective.temperature should be 1"
    if isinstance(data, MixtureData) or getattr(data, "store", None) is not None:
        yield f"{where} is of text in memory: leave data.store out, and name no data.sources"


def _reasons_of_stretches(config: Sections, estimator: FeatureMatchingConfig) -> Iterator[str]:
    where = "objective.estimator"
    if estimator.length is None:
        if estimator.context or estimator.stride is not None:
            yield f"{where}.context and stride are of stretches of a text: set {where}.length, or drop them"
        return
    longest = config.data.max_length - estimator.context
    if estimator.length > longest:
        yield (
            f"{where}.length {estimator.length} does not fit into data.max_length {config.data.max_length} after "
            f"{where}.context {estimator.context}; set it to at most {max(longest, 1)}, or the context lower"
        )


def _reasons_of_sizes(config: Sections, estimator: PolicyGradient | Pathwise) -> Iterator[str]:
    objective, adversarial = config.objective, config.adversarial
    texts = adversarial.batch_size * (1 if isinstance(estimator, Pathwise) else estimator.samples)
    if objective.replay_size and objective.replay_size < texts:
        yield (
            f"objective.replay_size {objective.replay_size} holds less than the {texts} texts of a step; make it "
            "larger, or 0 for none"
        )
    if isinstance(estimator, PolicyGradient) and texts % estimator.minibatches:
        yield f"objective.estimator.minibatches {estimator.minibatches} does not divide the {texts} texts of a step"
    if texts < 2 and isinstance(objective.estimator, MaliganConfig | WeightedLikelihoodConfig):
        yield (
            f"objective.estimator {objective.estimator.kind} weighs texts against each other: it needs "
            "adversarial.batch_size 2 or more"
        )
    if texts < 2 and objective.reward == "mmd":
        yield "objective.reward mmd compares texts with each other: it needs adversarial.batch_size 2 or more"
    if texts < 2 and getattr(objective.estimator, "baseline", None) == "leave_one_out":
        yield "objective.estimator.baseline leave_one_out needs adversarial.batch_size 2 or more"
