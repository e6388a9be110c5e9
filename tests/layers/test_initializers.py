"""Random parameters: one compiled program for equal modules, with the values of Flax's own initialisation."""

import jax
import numpy as np
from helpers import VOCABULARY, assert_trees_close, batch_of

from gptgan_jax import CnnConfig, TransformerConfig, build_discriminator, build_generator
from gptgan_jax.layers import initializers
from gptgan_jax.models.generators import _TransformerGenerator

CONFIG = TransformerConfig(layers=1, width=8, heads=2, max_positions=16)


def test_the_parameters_are_those_of_flax() -> None:
    batch, key = batch_of(), jax.random.key(4)
    module = _TransformerGenerator(CONFIG, VOCABULARY)
    expected = module.init(key, batch.prompt, batch.prompt_mask, batch.target)["params"]
    assert_trees_close(build_generator(CONFIG, VOCABULARY).init(key, batch), expected, rtol=1e-6)


def test_equal_networks_share_one_program() -> None:
    batch, programs = batch_of(), initializers._initial_params._cache_size
    first = build_generator(CONFIG, VOCABULARY).init(jax.random.key(0), batch)
    before = programs()
    again = build_generator(CONFIG, VOCABULARY).init(jax.random.key(0), batch)
    assert programs() == before
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, first, again)))
    build_generator(TransformerConfig(layers=2, width=8, heads=2, max_positions=16), VOCABULARY).init(
        jax.random.key(0), batch
    )
    assert programs() == before + 1


def test_settings_may_hold_a_list() -> None:
    lists, tuples = (
        build_discriminator(CnnConfig(embedding=4, widths=widths, filters=3), VOCABULARY)  # type: ignore[arg-type]
        for widths in ([1, 2], (1, 2))
    )
    of_lists, of_tuples = (network.init(jax.random.key(1), batch_of()) for network in (lists, tuples))
    assert_trees_close(of_lists, of_tuples, rtol=1e-6)
