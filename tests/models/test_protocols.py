"""Players and estimators that are objects of one's own, by the protocols of `gg`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, batch_of

import gptgan_jax as gg

BATCH = batch_of()
WRITER = gg.build_generator(gg.LstmConfig(hidden=4, embedding=4), VOCABULARY)
JUDGE = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)
METHOD = gg.reinforce(0.9)


class Own:
    """An object with some of a tuple's functions."""

    def __init__(self, parts: Any, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(parts, name))


GENERATOR = ("vocabulary", "init", "logits", "hidden", "prefill", "decode", "repeat")
DISCRIMINATOR = ("init", "scores", "embed", "judge")


def test_objects_with_the_functions_train_as_the_tuples_do() -> None:
    rates: dict[str, Any] = {"generator_optimizer": optax.sgd(0.1), "discriminator_optimizer": optax.sgd(0.1)}
    own: list[Any] = [Own(WRITER, *GENERATOR), Own(JUDGE, *DISCRIMINATOR), Own(METHOD, "init", "advantages", "loss")]
    after = [
        jax.jit(gan.adversarial_step)(gan.init(jax.random.key(0), BATCH), BATCH)
        for gan in (
            gg.gan_from(own[0], own[1], estimator=own[2], **rates),
            gg.gan_from(WRITER, JUDGE, estimator=METHOD, **rates),
        )
    ]
    assert_trees_close(after[0][1], after[1][1])


@pytest.mark.parametrize("left_out", GENERATOR)
def test_an_object_without_one_of_them_is_refused_and_it_is_named(left_out: str) -> None:
    own: Any = Own(WRITER, *(name for name in GENERATOR if name != left_out))
    with pytest.raises(TypeError, match=f"generator should be a Generator, not .*Own.*; it lacks {left_out}"):
        gg.gan_from(own, JUDGE)


def test_what_an_object_has_besides_is_taken() -> None:
    own: Any = Own(gg.grpo(3, minibatches=2), "init", "advantages", "loss", "samples", "minibatches")
    assert gg.estimator_of(own)[3:7] == (3, 0, 1, 2)
    assert isinstance(gg.estimator_of(Own(gg.gumbel(), "init", "relax", "advance")), gg.Pathwise)
    assert isinstance(gg.estimator_of(Own(gg.spin(), "init", "loss", "refresh")), gg.SelfPlay)
    assert isinstance(gg.estimator_of(Own(gg.cot(), "init", "loss")), gg.Mediated)
    assert isinstance(gg.estimator_of(Own(gg.distill(), "init", "beta", "on_policy")), gg.Distillation)
    assert gg.generator_of(Own(WRITER, *GENERATOR, "max_length")).branch is None
    assert jnp.isscalar(gg.discriminator_of(JUDGE).classes)
