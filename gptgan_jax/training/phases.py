"""Builds the training loop of each phase, a `Gan`, from a configuration."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from gptgan_jax.algorithms.game import Demonstrations, Game
from gptgan_jax.algorithms.gan import Gan, Step, gan_of
from gptgan_jax.algorithms.learning import Learning, Learns
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import LIKELIHOOD, PHASES, Config, Phase
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.errors import UserError
from gptgan_jax.gradients.families import Distillation, Estimator, Mediated, PolicyGradient, without_discriminator
from gptgan_jax.layers.lora import LoraConfig, learns
from gptgan_jax.models.discriminator_networks import TransformerDiscriminatorConfig
from gptgan_jax.models.discriminators import Discriminator, surprisal_of
from gptgan_jax.models.generators import Generator
from gptgan_jax.models.shared_trunk import NEW
from gptgan_jax.objectives.classification import matching_features, naming_label
from gptgan_jax.objectives.discrimination import DIFFERENCES_ONLY, build_pair_loss
from gptgan_jax.objectives.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_count,
    learning_rate_at,
    parameter_paths,
    unmatched,
)
from gptgan_jax.objectives.rewards import Reward, build_reward
from gptgan_jax.objectives.text_rewards import RewardFunction
from gptgan_jax.training.sharding import Placement
from gptgan_jax.types import Batch, GanState, Params

DISCRIMINATING: tuple[Phase, ...] = ("warmup", "adversarial")
"""The phases that train the discriminator."""


def build_gan(
    config: Config,
    phase: Phase,
    generator: Generator,
    discriminator: Discriminator,
    axis_name: str | None = None,
    functions: Mapping[str, RewardFunction] | None = None,
    teacher: Generator | None = None,
) -> Gan:
    """The training loop of one phase, with that phase's optimisers; see `game_of`."""
    gan = gan_of(game_of(config, phase, generator, discriminator, axis_name, functions, teacher))
    network = config.discriminator
    if phase in LIKELIHOOD and isinstance(network, TransformerDiscriminatorConfig) and network.from_generator:
        return gan._replace(learning=_before_the_twin(gan.learning))
    return gan


def game_of(
    config: Config,
    phase: Phase,
    generator: Generator,
    discriminator: Discriminator,
    axis_name: str | None = None,
    functions: Mapping[str, RewardFunction] | None = None,
    teacher: Generator | None = None,
) -> Game:
    """The game of a phase: every key of the configuration that affects a step is an attribute of it.

    Args:
        config: of the run.
        phase: determines the optimisers. What only the adversarial phase uses has its default elsewhere.
        generator, discriminator: the two players.
        axis_name: see `Game.axis_name`.
        functions: the reward functions of `objective.rewards` by name; required if there are any.
        teacher: the teacher in distillation; required if there is one.
    """
    objective, adversarial = config.objective, config.adversarial
    steps = config.steps(phase)
    estimator = build_estimator(objective.estimator, steps)
    # A player that is not trained in a phase has no optimiser state to carry and to save.
    generator_optimizer = discriminator_optimizer = optax.identity()
    generator_learns, discriminator_learns = what_learns(config)
    of_generator, of_discriminator = optimizers_of(config, phase)
    if of_generator is not None:
        optimizer, updates = of_generator
        generator_optimizer = build_optimizer(optimizer, steps * updates, generator_learns)
    if of_discriminator is not None:
        discriminator_optimizer = build_optimizer(
            of_discriminator[0], steps * of_discriminator[1], discriminator_learns
        )
    if phase == "adversarial" and adversarial.freeze_discriminator:
        discriminator_optimizer = optax.set_to_zero()
    adversarial_only: dict[str, Any] = {}
    if phase == "adversarial" and (steps or not isinstance(estimator, Distillation)):  # else there is no teacher
        adversarial_only = {
            "kl_weight": objective.kl_weight,
            "likelihood_weight": objective.likelihood_weight,
            "replay_size": objective.replay_size,
            "demonstrations": _demonstrations(config),
            "discriminator_updates": adversarial.discriminator_updates,
            "ema_decay": adversarial.ema_decay,
            "estimator": estimator,
            "teacher": teacher,
            "text_rewards": tuple(one.text_reward((functions or {})[one.called]) for one in objective.rewards),
            "reward_scaling": objective.reward_scaling,
            "discriminator_reward_weight": objective.discriminator_reward_weight,
            "resample_groups": objective.resample_groups,
        }
    elif isinstance(estimator, Mediated):
        adversarial_only = {"estimator": estimator}  # determines the discriminator's loss in the warm-up too
    elif isinstance(estimator, PolicyGradient):
        # The discriminator warms up on as many texts per prompt as it will read in the adversarial phase.
        adversarial_only = {"estimator": PolicyGradient(lambda width: None, *estimator[1:])._replace(matching=None)}
    classification = objective.classification
    return Game(
        generator,
        discriminator,
        pair_loss=build_pair_loss(objective.pair_loss, objective.label_smoothing),
        reward=_reward(config, estimator),
        dense=objective.dense,
        temperature=objective.temperature,
        entropy_weight=objective.entropy_weight,
        kl_estimator=objective.kl_estimator,
        r1_weight=objective.r1_weight,
        r2_weight=objective.r2_weight,
        gradient_penalty_weight=objective.gradient_penalty_weight,
        next_token_weight=objective.next_token_weight,
        mmd_weight=objective.mmd_weight,
        mmd_bandwidths=objective.mmd_bandwidths,
        class_weight=classification.weight,
        real_fake_weight=classification.real_fake_weight,
        replay_share=objective.replay_share,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
        axis_name=axis_name,
        **adversarial_only,
    )


def optimizers_of(
    config: Config, phase: Phase
) -> tuple[tuple[OptimizerConfig, int] | None, tuple[OptimizerConfig, int] | None]:
    """For generator and discriminator: the optimiser and its updates per step; None if not trained in the phase."""
    adversarial = config.adversarial
    if phase == "likelihood":
        return (config.likelihood.optimizer, 1), None
    if phase == "continued":
        return (config.continued_optimizer(), 1), None
    if phase == "warmup":
        return None, (config.warmup.optimizer, 1)
    estimator = build_estimator(config.objective.estimator, config.steps(phase))
    updates = estimator.epochs * estimator.minibatches if isinstance(estimator, PolicyGradient) else 1
    rests = adversarial.freeze_discriminator or without_discriminator(estimator)
    of_discriminator = adversarial.discriminator_optimizer, adversarial.discriminator_updates
    return (adversarial.generator_optimizer, updates), None if rests else of_discriminator


def learning_rates(config: Config, phase: Phase, done: int) -> dict[str, float]:
    """The learning rates of the trained players after `done` steps of a phase, named like their gradient norms."""
    names = ("learning_rate", "discriminator_learning_rate")
    return {
        name: learning_rate_at(one[0], config.steps(phase) * one[1], done * one[1])
        for name, one in zip(names, optimizers_of(config, phase), strict=True)
        if one is not None
    }


def _before_the_twin(learning: Learning) -> Learning:
    """For a discriminator that will start from the generator: until then it shares all that the generator freezes."""
    of_generator, of_discriminator = learning.generator, learning.discriminator
    if of_generator is None:
        return learning

    def learns(path: str) -> bool:
        return (of_discriminator is None or of_discriminator(path)) and (
            not path.startswith("trunk/") or of_generator(path)
        )

    return learning._replace(discriminator=learns)


def what_learns(config: Config) -> tuple[Learns | None, Learns | None]:
    """For generator and discriminator, whether the parameter at a path is trained; None without adapters."""
    lora, network = config.generator.lora, config.discriminator
    of_discriminator = network.lora if isinstance(network, TransformerDiscriminatorConfig) else LoraConfig()
    return learns(lora) if lora.rank else None, learns(of_discriminator, NEW) if of_discriminator.rank else None


def step_of(gan: Gan, phase: Phase) -> Step:
    """The step that a phase repeats."""
    steps: dict[Phase, Step] = {
        "likelihood": gan.likelihood_step,
        "continued": gan.likelihood_step,
        "warmup": gan.discriminator_step,
        "adversarial": gan.adversarial_step,
    }
    return steps[phase]


def metric_names(
    config: Config,
    phase: Phase,
    players: tuple[Generator, Discriminator],
    shapes: GanState,
    batch: Batch,
    functions: Mapping[str, RewardFunction] | None = None,
    teacher: Generator | None = None,
) -> set[str]:
    """The names of the metrics of a phase's step, which is traced but neither compiled nor run.

    There are none in the adversarial phase of a discriminator that learns labels alone, which teaches no generator.

    Args:
        config: of the run.
        phase: the phase.
        players: both networks.
        shapes: of the initial state of a run.
        batch: of the phase's size.
        functions: the reward functions of `objective.rewards` by name; required if there are any.
        teacher: the teacher in distillation, whose parameters' shapes are in `shapes`.
    """
    if phase == "adversarial" and not config.objective.classification.real_fake_weight:
        return set()
    gan = build_gan(config, phase, *players, functions=functions, teacher=teacher)
    metrics = jax.eval_shape(lambda state, batch: step_of(gan, phase)(gan.begin(state, batch), batch)[1], shapes, batch)
    return set(metrics)


def check_batch_sizes(config: Config, placement: Placement) -> None:
    """Raises UserError if the batch of a phase with steps can't be split evenly over the devices."""
    for phase in PHASES:
        if config.steps(phase):
            section = "adversarial" if phase == "continued" else phase
            placement.check_batch_size(f"{section}.batch_size", config.batch_size(phase))


def is_due(config: Config, phase: Phase, step: int) -> bool:
    """Whether an evaluation follows the given global step of the phase."""
    made = step - sum(config.steps(earlier) for earlier in PHASES[: PHASES.index(phase)])
    return made == config.steps(phase) or made % config.evaluation.every == 0


def owes_evaluation(config: Config, saved: Saved) -> bool:
    """Whether a checkpoint lacks metrics of an evaluation that was due, because a signal interrupted it."""
    discriminated = saved.phase in DISCRIMINATING and config.classifies
    lacks = (saved.phase != "warmup" and saved.valid_nats is None) or (discriminated and saved.class_error is None)
    return lacks and is_due(config, saved.phase, saved.step)


def check_frozen(config: Config, generator: Params, discriminator: Params) -> None:
    """Checks that every pattern of frozen or trained parameters matches one, and that some parameters are trained.

    Args:
        config: of the run.
        generator, discriminator: the players' parameters, or their shapes.

    Raises:
        UserError: names the key and, if one matches nothing, the pattern.
    """
    generator_learns, discriminator_learns = what_learns(config)
    adversarial, discriminator_config = config.adversarial, config.discriminator
    patterns = {"generator.lora.trained": (config.generator.lora.trained, generator)}
    if isinstance(discriminator_config, TransformerDiscriminatorConfig):
        patterns["discriminator.lora.trained"] = (discriminator_config.lora.trained, discriminator)
    optimizers = {
        "likelihood.optimizer": (config.likelihood.optimizer, generator, generator_learns),
        "warmup.optimizer": (config.warmup.optimizer, discriminator, discriminator_learns),
        "adversarial.generator_optimizer": (adversarial.generator_optimizer, generator, generator_learns),
        "adversarial.discriminator_optimizer": (
            adversarial.discriminator_optimizer,
            discriminator,
            discriminator_learns,
        ),
    }
    patterns |= {f"{key}.frozen": (optimizer.frozen, params) for key, (optimizer, params, _) in optimizers.items()}
    for key, (given, params) in patterns.items():
        for pattern in unmatched(given, params):
            paths = parameter_paths(params)
            raise UserError(
                f"{key} {pattern!r} matches none of the {len(paths)} parameters, which are called such as "
                f"{paths[0]} or {paths[-1]}"
            )
    for key, (optimizer, params, who_learns) in optimizers.items():
        if optimizer.frozen and not learning_count(params, optimizer.frozen, who_learns):
            raise UserError(
                f"{key}.frozen {list(optimizer.frozen)} leaves nothing that learns; leave some parameters out, or "
                "set the phase's steps to 0 (to leave the discriminator as it is: adversarial.freeze_discriminator)"
            )


def _reward(config: Config, estimator: Estimator) -> Reward:
    """The generator's reward, with the terms from the discriminator's classes."""
    objective, classification = config.objective, config.objective.classification
    discount = getattr(estimator, "discount", None)
    # The level of a surprisal, in nats, is meaningful even if the loss depends on differences only.
    relative = objective.pair_loss in DIFFERENCES_ONLY and surprisal_of(config.discriminator) is None
    reward = build_reward(
        objective.reward,
        1.0 if discount is None else discount,
        relative,
        objective.mmd_bandwidths,
        objective.reward_formula or "s",
    )
    if classification.feature_matching_weight:
        reward = matching_features(reward, classification.feature_matching_weight)
    if classification.label_reward_weight:
        reward = naming_label(reward, classification.label_reward_weight)
    return reward


def _demonstrations(config: Config) -> Demonstrations | None:
    objective = config.objective
    if not objective.demonstration_share:
        return None
    steps = objective.demonstration_steps or config.adversarial.steps
    return Demonstrations(objective.demonstration_share, objective.demonstration_reward, steps)
