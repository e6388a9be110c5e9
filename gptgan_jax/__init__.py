"""GPT text GANs in JAX: the functional API.

Build two networks, put them together, and step:

    generator = build_generator(TransformerConfig(...), Vocabulary(size))
    discriminator = build_discriminator(CnnConfig(...), Vocabulary(size))
    gan = gan_from(generator, discriminator, estimator=reinforce(discount=0.95),
                   generator_optimizer=optax.adam(1e-4), discriminator_optimizer=optax.adam(4e-4))
    state = gan.init(key, batch)
    state, metrics = jax.jit(gan.adversarial_step)(state, batch)

The public names are in `__all__`; `data`, `discrimination`, `metrics`, `penalties` and `rewards` are modules.
"""

from importlib.metadata import version as _version

from gptgan_jax import data, metrics
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
from gptgan_jax.estimators.seqgan import guided, penalised, rollout
from gptgan_jax.estimators.spin import dgsan, jsdgan, self_critic, spin
from gptgan_jax.estimators.weighted_likelihood import maligan, weighted_likelihood
from gptgan_jax.gradients.baselines import learned_value, leave_one_out, moving_average, no_baseline
from gptgan_jax.gradients.families import (
    Distillation,
    DistillationProtocol,
    Estimator,
    EstimatorProtocol,
    Experience,
    Matching,
    Mediated,
    MediatedProtocol,
    Pathwise,
    PathwiseProtocol,
    PolicyGradient,
    PolicyGradientProtocol,
    SelfPlay,
    SelfPlayProtocol,
    estimator_of,
)
from gptgan_jax.layers.lora import LoraConfig, merged
from gptgan_jax.models.discriminator_networks import CnnConfig, LinearConfig, MlpConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.discriminators import (
    Discriminator,
    DiscriminatorProtocol,
    build_discriminator,
    discriminator_of,
    in_windows,
)
from gptgan_jax.models.generators import Generator, GeneratorProtocol, build_generator, generator_of
from gptgan_jax.models.leakgan import LeakganConfig
from gptgan_jax.models.lstm import LstmConfig
from gptgan_jax.models.relational import RelationalConfig
from gptgan_jax.models.shared_trunk import share_trunk
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.models.trees import parameter_count
from gptgan_jax.objectives import discrimination, penalties, rewards
from gptgan_jax.objectives.discrimination import (
    hinge,
    non_saturating,
    relativistic,
    relativistic_tie,
    wasserstein,
)
from gptgan_jax.objectives.text_rewards import TextReward, linear_schedule
from gptgan_jax.sampling.decoding import log_probs, sample
from gptgan_jax.sampling.residual import Residual, residual
from gptgan_jax.sampling.rollouts import best_of, resample, rollout_values
from gptgan_jax.system.earlier_names import install as _install_earlier_names
from gptgan_jax.text_rewards.host import host_reward
from gptgan_jax.training.alarms import adversarial_alarms, likelihood_alarms
from gptgan_jax.types import (
    Batch,
    GanState,
    Guidance,
    Number,
    Params,
    Player,
    PyTree,
    Sample,
    Scores,
    TopK,
    Vocabulary,
    unconditional_batch,
)
from gptgan_jax.workflows.loading import Loaded, load, save

_install_earlier_names()

__version__ = _version("gptgan_jax")

__all__ = [
    "Batch",
    "CnnConfig",
    "Demonstrations",
    "Discriminator",
    "DiscriminatorProtocol",
    "Distillation",
    "DistillationProtocol",
    "Estimator",
    "EstimatorProtocol",
    "Experience",
    "Game",
    "Gan",
    "GanState",
    "Generator",
    "GeneratorProtocol",
    "Guidance",
    "LeakganConfig",
    "LinearConfig",
    "Loaded",
    "LoraConfig",
    "LstmConfig",
    "Matching",
    "Mediated",
    "MediatedProtocol",
    "MlpConfig",
    "Number",
    "Params",
    "Pathwise",
    "PathwiseProtocol",
    "Player",
    "PolicyGradient",
    "PolicyGradientProtocol",
    "PyTree",
    "RelationalConfig",
    "Residual",
    "Sample",
    "Scores",
    "SelfPlay",
    "SelfPlayProtocol",
    "TextReward",
    "TopK",
    "TransformerConfig",
    "TransformerDiscriminatorConfig",
    "Vocabulary",
    "__version__",
    "adversarial_alarms",
    "best_of",
    "build_discriminator",
    "build_generator",
    "checked",
    "cot",
    "data",
    "dgsan",
    "discrimination",
    "discriminator_of",
    "distill",
    "estimator_of",
    "feature_matching",
    "gan_from",
    "generator_of",
    "grpo",
    "guided",
    "gumbel",
    "hinge",
    "host_reward",
    "in_windows",
    "jsdgan",
    "learned_value",
    "leave_one_out",
    "likelihood_alarms",
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
    "penalties",
    "ppo",
    "reinforce",
    "relativistic",
    "relativistic_tie",
    "resample",
    "residual",
    "rewards",
    "rloo",
    "rollout",
    "rollout_values",
    "sample",
    "save",
    "self_critic",
    "share_trunk",
    "skipping",
    "spin",
    "unconditional_batch",
    "wasserstein",
    "weighted_likelihood",
]


def __dir__() -> list[str]:
    return __all__
