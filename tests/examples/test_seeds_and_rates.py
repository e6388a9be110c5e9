"""examples/seeds_and_rates.py: each of the trainings that it makes at once is the one that is made alone."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptgan_jax as gg

PATH = Path(__file__).parents[2] / "examples" / "seeds_and_rates.py"
VOCABULARY = gg.Vocabulary(size=8)


def example() -> Any:
    spec = importlib.util.spec_from_file_location("seeds_and_rates", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def tiny_training(module: Any, likelihood: int, warmup: int, adversarial: int) -> Any:
    """The example's training with so many steps of each phase."""
    texts = jax.random.randint(jax.random.key(0), (20, 4), 2, VOCABULARY.size)
    return module.training(
        gg.build_generator(gg.LstmConfig(hidden=4, embedding=4), VOCABULARY),
        gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY),
        texts,
        gg.unconditional_batch(texts[:5], VOCABULARY),
        module.Steps(likelihood, warmup, adversarial, batch=4, adversarial_batch=6),
    )


@pytest.mark.thorough
def test_each_lane_is_the_training_alone() -> None:
    module = example()
    train = tiny_training(module, likelihood=3, warmup=2, adversarial=2)
    keys, rates = jax.random.split(jax.random.key(1), 2), jnp.array([0.01, 0.1])
    found, alone = module.at_once(train)(keys, rates), jax.jit(train)
    for seed, key in enumerate(keys):
        for lane, rate in enumerate(rates):
            expected = alone(key, rate)
            for name, value in expected.items():
                np.testing.assert_allclose(found[name][seed, lane], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for name in ("adversarial", "kl"):
        assert len(np.unique(np.asarray(found[name]))) == 4
    np.testing.assert_array_equal(found["likelihood"][:, 0], found["likelihood"][:, 1])
    assert found["likelihood"][0, 0] != found["likelihood"][1, 0]


def test_what_does_not_depend_on_the_rate_is_computed_once_a_seed() -> None:
    """In the program the likelihood phase's arrays have no axis of rates."""
    train = tiny_training(example(), likelihood=11, warmup=13, adversarial=17)
    keys = jax.random.split(jax.random.key(1), 2)
    traced = jax.make_jaxpr(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))(keys, jnp.ones(3))
    scans = {eqn.params["length"]: eqn for eqn in traced.jaxpr.eqns if eqn.primitive.name == "scan"}
    with_rates = {
        length: any(var.aval.shape[:2] == (2, 3) for var in eqn.outvars) for length, eqn in scans.items() if length > 10
    }
    assert with_rates == {11: False, 13: False, 17: True}
