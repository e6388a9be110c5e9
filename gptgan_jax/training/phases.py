"""From a configuration to the functional loop of each phase."""

import optax

from gptgan_jax.config import Config, Phase
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.objectives.discrimination import PAIR_LOSSES
from gptgan_jax.objectives.estimators import reinforce
from gptgan_jax.objectives.rewards import build_reward
from gptgan_jax.optimizers import build_optimizer
from gptgan_jax.training.gan import Gan, gan_from


def build_gan(config: Config, phase: Phase, generator: Generator, discriminator: Discriminator) -> Gan:
    """The functional loop of one phase, with that phase's optimisers."""
    objective = config.objective
    steps = config.steps(phase)
    # Who does not learn in a phase has no optimiser state to carry and to save.
    generator_optimizer = discriminator_optimizer = optax.identity()
    if phase == "likelihood":
        generator_optimizer = build_optimizer(config.likelihood.optimizer, steps)
    elif phase == "continued":
        generator_optimizer = build_optimizer(config.continued_optimizer(), steps)
    elif phase == "warmup":
        discriminator_optimizer = build_optimizer(config.warmup.optimizer, steps)
    else:
        generator_optimizer = build_optimizer(config.adversarial.generator_optimizer, steps)
        discriminator_optimizer = build_optimizer(config.adversarial.discriminator_optimizer, steps)
        if config.adversarial.freeze_discriminator:
            discriminator_optimizer = optax.set_to_zero()
    return gan_from(
        generator,
        discriminator,
        estimator=reinforce(objective.estimator.discount, objective.estimator.baseline_decay),
        pair_loss=PAIR_LOSSES[objective.pair_loss],
        reward=build_reward(objective.reward, objective.estimator.discount),
        relative_reward=objective.pair_loss == "relativistic",
        dense=objective.dense,
        temperature=objective.temperature,
        entropy_weight=objective.entropy_weight,
        kl_weight=objective.kl_weight if phase == "adversarial" else 0.0,
        generator_optimizer=generator_optimizer,
        discriminator_optimizer=discriminator_optimizer,
    )
