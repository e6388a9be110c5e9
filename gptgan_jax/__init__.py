"""GPT text GANs in JAX: the functional API.

Build two networks, put them together, and step:

    generator = build_generator(TransformerConfig(...), Vocabulary(size))
    discriminator = build_discriminator(CnnConfig(...), Vocabulary(size))
    gan = gan_from(generator, discriminator, estimator=reinforce(discount=0.23))
    state = gan.init(key, batch)
    state, metrics = jax.jit(gan.adversarial_step)(state, batch)
"""

from importlib.metadata import version as _version

from gptgan_jax import metrics
from gptgan_jax.algorithms.game import Demonstrations, Game
from gptgan_jax.algorithms.gan import Gan, gan_from
from gptgan_jax.algorithms.guards import checked, skipping
from gptgan_jax.estimators.cot import cot
from gptgan_jax.estimators.distillation import distill
from gptgan_jax.estimators.feature_matching import feature_matching
from gptgan_jax.estimators.grpo import grpo
from gptgan_jax.estimators.gumbel import gumbel
from gptgan_jax.estimators.ppo import ppo
from gptgan_jax.estimators.reinforce import reinforce
from gptgan_jax.estimators.rloo import rloo
from gptgan_jax.estimators.seqgan import penalised, rollout
from gptgan_jax.estimators.spin import dgsan, jsdgan, spin
from gptgan_jax.estimators.weighted_likelihood import maligan, weighted_likelihood
from gptgan_jax.gradients.baselines import learned_value, leave_one_out, moving_average, no_baseline
from gptgan_jax.gradients.families import (
    Distillation,
    Estimator,
    Experience,
    Matching,
    Mediated,
    Pathwise,
    PolicyGradient,
    SelfPlay,
)
from gptgan_jax.layers.lora import LoraConfig, merged
from gptgan_jax.models.discriminators import (
    CnnConfig,
    Discriminator,
    LinearConfig,
    MlpConfig,
    TransformerDiscriminatorConfig,
    build_discriminator,
    share_trunk,
)
from gptgan_jax.models.generators import Generator, build_generator, parameter_count
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.models.relational import RelationalConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.objectives import discrimination, rewards
from gptgan_jax.objectives.discrimination import (
    hinge,
    non_saturating,
    relativistic,
    relativistic_tie,
    wasserstein,
)
from gptgan_jax.objectives.text_rewards import TextReward, linear_schedule
from gptgan_jax.sampling.decoding import log_probs, sample
from gptgan_jax.sampling.rollouts import resample, rollout_values
from gptgan_jax.system.earlier_names import install as _install_earlier_names
from gptgan_jax.text_rewards.host import host_reward
from gptgan_jax.types import Batch, GanState, Player, Sample, Scores, Vocabulary, unconditional_batch
from gptgan_jax.workflows.loading import Loaded, load, save

_install_earlier_names()

__version__ = _version("gptgan_jax")

__all__ = [
    "Batch",
    "CnnConfig",
    "Demonstrations",
    "Discriminator",
    "Distillation",
    "Estimator",
    "Experience",
    "Game",
    "Gan",
    "GanState",
    "Generator",
    "LinearConfig",
    "Loaded",
    "LoraConfig",
    "LstmConfig",
    "Matching",
    "Mediated",
    "MlpConfig",
    "Pathwise",
    "Player",
    "PolicyGradient",
    "RelationalConfig",
    "Sample",
    "Scores",
    "SelfPlay",
    "TextReward",
    "TransformerConfig",
    "TransformerDiscriminatorConfig",
    "Vocabulary",
    "__version__",
    "build_discriminator",
    "build_generator",
    "checked",
    "cot",
    "dgsan",
    "discrimination",
    "distill",
    "feature_matching",
    "gan_from",
    "grpo",
    "gumbel",
    "hinge",
    "host_reward",
    "jsdgan",
    "learned_value",
    "leave_one_out",
    "linear_schedule",
    "load",
    "log_probs",
    "maligan",
    "merged",
    "metrics",
    "moving_average",
    "no_baseline",
    "non_saturating",
    "parameter_count",
    "penalised",
    "ppo",
    "reinforce",
    "relativistic",
    "relativistic_tie",
    "resample",
    "rewards",
    "rloo",
    "rollout",
    "rollout_values",
    "sample",
    "save",
    "share_trunk",
    "skipping",
    "spin",
    "unconditional_batch",
    "wasserstein",
    "weighted_likelihood",
]
