"""The sampler as a TensorFlow SavedModel, by `jax2tf`; needs TensorFlow."""

from pathlib import Path

import numpy as np

from gptgan_jax.distributed.hosts import to_host
from gptgan_jax.errors import UserError
from gptgan_jax.export.sampler import PLATFORMS, constraints, sampler_of
from gptgan_jax.models.generators import Generator
from gptgan_jax.models.trees import flat
from gptgan_jax.types import Params

USE = """\
import tensorflow as tf

sampler = tf.saved_model.load(".").signatures["serving_default"]
prompt = tf.constant([[BOS]])  # any [B, P]; BOS, then what the texts begin with, padded on the left
written = sampler(
    seed=tf.constant(0, tf.uint32),
    prompt=prompt,
    prompt_mask=tf.ones_like(prompt, tf.bool),
    temperature=tf.constant(1.0),  # 0 is greedy
)
print(written["tokens"], written["mask"], written["log_probs"])
"""


def check_available() -> None:
    """Raises UserError if TensorFlow is not installed, or too old or too new for this JAX."""
    try:
        import tensorflow  # noqa: F401
        from jax.experimental import jax2tf  # noqa: F401
    except Exception as error:  # importing TensorFlow can fail in many ways
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"it needs TensorFlow: pip install tensorflow-cpu ({reason})") from None


def save_saved_model(folder: Path, generator: Generator, params: Params, length: int) -> None:
    """Writes saved_model.pb and variables/; its signature is the sampler's without the weights.

    Args:
        folder: an existing folder.
        generator: the network.
        params: its parameters.
        length: T, the most tokens of a text.

    Raises:
        OSError: the files can't be written.
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    converted = jax2tf.convert(
        sampler_of(generator, length),
        polymorphic_shapes=[None, None, "(B, P)", "(B, P)", None],
        polymorphic_constraints=constraints(generator, length),
        native_serialization_platforms=PLATFORMS,
        with_gradient=False,
    )
    module = tf.Module()
    module.weights = {name: tf.Variable(np.asarray(to_host(x)), trainable=False) for name, x in flat(params).items()}

    def call(seed: object, prompt: object, prompt_mask: object, temperature: object) -> object:
        return converted(dict(module.weights), seed, prompt, prompt_mask, temperature)

    module.sample = tf.function(
        call,
        autograph=False,
        input_signature=[
            tf.TensorSpec([], tf.uint32, "seed"),
            tf.TensorSpec([None, None], tf.int32, "prompt"),
            tf.TensorSpec([None, None], tf.bool, "prompt_mask"),
            tf.TensorSpec([], tf.float32, "temperature"),
        ],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.sample})
