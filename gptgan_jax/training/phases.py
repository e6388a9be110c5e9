"""From a configuration to the functional loop of each phase."""

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
    warmup, adversarial = config.warmup, config.adversarial
    optimizer_g, steps_g = {
        "likelihood": (config.likelihood.optimizer, config.likelihood.steps),
        "warmup": (adversarial.generator_optimizer, adversarial.steps),
        "adversarial": (adversarial.generator_optimizer, adversarial.steps),
    }[phase]
    optimizer_d, steps_d = {
        "likelihood": (warmup.optimizer, warmup.steps),
        "warmup": (warmup.optimizer, warmup.steps),
        "adversarial": (adversarial.discriminator_optimizer, adversarial.steps),
    }[phase]
    return gan_from(
        generator,
        discriminator,
        estimator=reinforce(objective.estimator.discount, objective.estimator.baseline_decay),
        pair_loss=PAIR_LOSSES[objective.pair_loss],
        reward=build_reward(objective.reward, objective.estimator.discount),
        dense=objective.dense,
        temperature=objective.temperature,
        entropy_weight=objective.entropy_weight,
        kl_weight=objective.kl_weight if phase == "adversarial" else 0.0,
        generator_optimizer=build_optimizer(optimizer_g, steps_g),
        discriminator_optimizer=build_optimizer(optimizer_d, steps_d),
    )
