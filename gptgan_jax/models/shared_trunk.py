"""A discriminator that starts from a generator: which of its parameters are copied, and which are the same arrays."""

import functools

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.layers.lora import LoraConfig, given, learns, merged, with_adapters, without_adapters
from gptgan_jax.models.discriminator_networks import DiscriminatorConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.trees import joined, parted
from gptgan_jax.types import Params

NEW = ("head/*",)
"""Patterns of the paths of parameters that a discriminator has and the generator it starts from does not."""


def keeps_adapters(config: DiscriminatorConfig, generator_lora: LoraConfig) -> bool:
    """Whether such a discriminator has the generator's adapters beside weights that are the generator's own."""
    adapted = isinstance(config, TransformerDiscriminatorConfig) and config.from_generator and config.lora.rank > 0
    return adapted and generator_lora.rank > 0


@suggests_names
def share_trunk(generator_params: Params, discriminator_params: Params) -> Params:
    """The discriminator's parameters with its Transformer replaced by the generator's; its head and adapters stay.

    Args:
        generator_params: without adapters; where it has some, `lora.merged` is what it learned.
        discriminator_params: with adapters or without.

    Raises:
        ValueError: where one of the two is no Transformer, or they differ in shape. That they agree in what has no
            shape, such as the activation, is up to the caller.

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
        raise ValueError("the discriminator can start from the generator only where both have the same Transformer")
    return {**discriminator_params, "trunk": with_adapters(jax.tree.map(jnp.copy, theirs), mine)}


def begun_from(
    generator_params: Params,
    discriminator_params: Params,
    generator_lora: LoraConfig,
    config: DiscriminatorConfig,
    will_begin: bool = False,
) -> Params:
    """The parameters of a discriminator that starts from a generator (`from_generator`), at the end of its training.

    What neither player ever changes is not copied: where both have adapters, it is the generator's own arrays.

    Args:
        generator_params: of the generator, with its adapters where it has some.
        discriminator_params: of the discriminator, as `build_discriminator` made it with `generator_lora`.
        generator_lora, config: of the two.
        will_begin: the discriminator only takes the place of the one that will begin later; its trunk is not copied
            where the generator has adapters, whatever of it will learn.
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
