"""GPT text GANs in JAX: the functional API.

Build two networks, put them together, and step:

    generator = build_generator(TransformerConfig(...), Vocabulary(size))
    discriminator = build_discriminator(CnnConfig(...), Vocabulary(size))
    gan = gan_from(generator, discriminator, estimator=reinforce(discount=0.23))
    state = gan.init(key, batch)
    state, metrics = jax.jit(gan.adversarial_step)(state, batch)
"""

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
from gptgan_jax.models.transformer import TransformerConfig
from gptgan_jax.objectives import discrimination, rewards
from gptgan_jax.objectives.discrimination import non_saturating, relativistic
from gptgan_jax.objectives.estimators import Estimator, reinforce
from gptgan_jax.sampling import log_probs, sample
from gptgan_jax.training.gan import Gan, gan_from
from gptgan_jax.types import Batch, GanState, Player, Sample, Scores, Vocabulary, unconditional_batch

__all__ = [
    "Batch",
    "CnnConfig",
    "Discriminator",
    "Estimator",
    "Gan",
    "GanState",
    "Generator",
    "LinearConfig",
    "LstmConfig",
    "MlpConfig",
    "Player",
    "Sample",
    "Scores",
    "TransformerConfig",
    "TransformerDiscriminatorConfig",
    "Vocabulary",
    "build_discriminator",
    "build_generator",
    "discrimination",
    "gan_from",
    "log_probs",
    "non_saturating",
    "parameter_count",
    "reinforce",
    "relativistic",
    "rewards",
    "sample",
    "share_trunk",
    "unconditional_batch",
]
