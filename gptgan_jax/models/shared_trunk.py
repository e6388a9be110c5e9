"""A discriminator that starts from a generator: which parameters it copies, and which arrays it shares."""

import functools

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.layers.lora import LoraConfig, given, learns, merged, with_adapters, without_adapters
from gptgan_jax.models.discriminator_networks import DiscriminatorConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.trees import joined, parted
from gptgan_jax.types import Params

NEW = ("head/*",)
"""Path patterns of parameters that the discriminator has and the generator does not."""


def keeps_adapters(config: DiscriminatorConfig, generator_lora: LoraConfig) -> bool:
    """Whether such a discriminator keeps the generator's adapters beside weights that it shares with the generator."""
    adapted = isinstance(config, TransformerDiscriminatorConfig) and config.from_generator and config.lora.rank > 0
    return adapted and generator_lora.rank > 0


@suggests_names
def share_trunk(generator_params: Params, discriminator_params: Params) -> Params:
    """The discriminator's parameters with its Transformer replaced by the generator's; its head and adapters stay.

    Args:
        generator_params: without adapters; merge them into the weights first with `merged`.
        discriminator_params: with adapters or without.

    Raises:
        ValueError: one of the two is not a Transformer, or their shapes differ. Settings without a shape, such as the
            activation, are not checked and must agree.

    Example:
        >>> shape = {"layers": 1, "width": 8, "heads": 2}
        >>> writer = gg.build_generator(gg.TransformerConfig(**shape), vocabulary).init(key, batch)
        >>> judge = gg.build_discriminator(gg.TransformerDiscriminatorConfig(**shape), vocabulary).init(key, batch)
        >>> sorted(gg.share_trunk(writer, judge))
        ['head', 'trunk']
    """
    mine, theirs = discriminator_params.get("trunk"), generator_params.get("trunk")
    if mine is None or theirs is None:
        raise ValueError("only a Transformer discriminator can start from a generator, and only from a Transformer")
    if jax.tree.map(jnp.shape, without_adapters(mine)) != jax.tree.map(jnp.shape, theirs):
        raise ValueError("the discriminator can start from the generator only if both have the same Transformer")
    return {**discriminator_params, "trunk": with_adapters(jax.tree.map(jnp.copy, theirs), mine)}


def begun_from(
    generator_params: Params,
    discriminator_params: Params,
    generator_lora: LoraConfig,
    config: DiscriminatorConfig,
    will_begin: bool = False,
) -> Params:
    """The parameters of a discriminator that starts from a trained generator (`from_generator`).

    Parameters that neither network changes are not copied: if both have adapters, they are the generator's arrays.

    Args:
        generator_params: of the generator, with its adapters if it has any.
        discriminator_params: of the discriminator, as `build_discriminator` made it with `generator_lora`.
        generator_lora, config: of the two.
        will_begin: the result is only a placeholder for the discriminator that starts later; if the generator has
            adapters, its trunk is not copied, whatever will be trained.
    """
    if not will_begin and not keeps_adapters(config, generator_lora):
        params = generator_params
        if generator_lora.rank:
            params = jax.jit(functools.partial(merged, lora=generator_lora))(params)
        return share_trunk(params, discriminator_params)
    assert isinstance(config, TransformerDiscriminatorConfig)
    of_writer, of_judge = learns(generator_lora), learns(config.lora, NEW)
    moving, still = parted(
        {"trunk": without_adapters(generator_params["trunk"])},
        lambda path: of_writer(path) or (not will_begin and of_judge(path)),
    )
    begun = joined(jax.tree.map(jnp.copy, moving), still)
    if keeps_adapters(config, generator_lora):
        adapters = jax.jit(functools.partial(given, lora=generator_lora))({"trunk": generator_params["trunk"]})
        begun = joined(adapters, begun)
    return joined(begun, discriminator_params)
