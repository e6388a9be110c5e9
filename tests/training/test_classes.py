"""Steps of a discriminator with classes: what the labels add to its gradient, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import VOCABULARY, assert_trees_close, assert_trees_differ, batch_of

import gptgan_jax as gg
from gptgan_jax.algorithms.gan import Gan
from gptgan_jax.estimators.gumbel import gumbel
from gptgan_jax.objectives.classification import class_cross_entropy, matching_features, naming_label
from gptgan_jax.objectives.rewards import sigmoid
from gptgan_jax.types import Batch, GanState

GENERATOR = gg.build_generator(gg.TransformerConfig(layers=1, width=8, heads=2, max_positions=24), VOCABULARY)
JUDGE = gg.build_discriminator(gg.CnnConfig(embedding=4, widths=(1, 2), filters=4, dropout=0.0), VOCABULARY, 3)
LABELS = jnp.asarray([2, -1, 0, 1], jnp.int32)


def labelled(labels: jax.Array = LABELS) -> Batch:
    return batch_of((1,) * 4, (4, 2, 3, 4)).replace(label=labels)


def started(**options: object) -> tuple[Gan, GanState]:
    sgd = {"generator_optimizer": optax.sgd(1.0), "discriminator_optimizer": optax.sgd(1.0)}
    gan = gg.gan_from(GENERATOR, JUDGE, dense=False, **(sgd | options))
    return gan, gan.init(jax.random.key(3), labelled())


def learnt(step: str, batch: Batch, **options: object) -> tuple[GanState, GanState, dict[str, jax.Array]]:
    gan, state = started(**options)
    after, metrics = jax.jit(getattr(gan, step))(state, batch)
    return state, after, metrics


@pytest.mark.thorough
def test_the_labels_alone_give_the_gradient_of_the_class_loss_and_nothing_is_written() -> None:
    state, after, metrics = learnt("discriminator_step", labelled(), class_weight=0.5, real_fake_weight=0.0)

    def loss(params: object) -> jax.Array:
        return class_cross_entropy(JUDGE.scores(params, labelled()).classes, LABELS)

    value, gradient = jax.value_and_grad(loss)(state.discriminator.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.discriminator.params, gradient)
    assert_trees_close(after.discriminator.params, expected)
    np.testing.assert_allclose(metrics["class_loss"], value, rtol=1e-5)
    assert "discriminator_accuracy" not in metrics
    assert "length" not in metrics
    assert int(after.step) == 1


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize("step", ["discriminator_step", "adversarial_step"])
def test_the_class_loss_is_added_to_that_of_real_and_generated_text(step: str) -> None:
    state, both, _ = learnt(step, labelled(), class_weight=2.0)
    _, plain, _ = learnt(step, labelled())

    def loss(params: object) -> jax.Array:
        return class_cross_entropy(JUDGE.scores(params, labelled()).classes, LABELS)

    gradient = jax.grad(loss)(state.discriminator.params)
    expected = jax.tree.map(lambda p, g: p - 2.0 * g, plain.discriminator.params, gradient)
    assert_trees_close(both.discriminator.params, expected, atol=1e-5)
    assert_trees_close(both.generator.params, plain.generator.params)


@pytest.mark.cases(1)
@pytest.mark.parametrize("step", ["discriminator_step", "adversarial_step"])
def test_a_batch_without_labels_teaches_what_it_teaches_without_classes(step: str) -> None:
    nobody = labelled(jnp.full(4, -1, jnp.int32))
    _, weighed, metrics = learnt(step, nobody, class_weight=2.0)
    _, plain, _ = learnt(step, nobody)
    assert_trees_close(weighed.discriminator.params, plain.discriminator.params)
    assert float(metrics["class_loss"]) == 0
    assert float(metrics["labelled_share"]) == 0


def test_the_pair_loss_is_weighed() -> None:
    state, half, _ = learnt("discriminator_step", labelled(), real_fake_weight=0.5)
    _, whole, _ = learnt("discriminator_step", labelled())
    moved = [
        jax.tree.map(jnp.subtract, after.discriminator.params, state.discriminator.params) for after in (half, whole)
    ]
    assert_trees_close(jax.tree.map(lambda x: 2 * x, moved[0]), moved[1])


@pytest.mark.cases(2)
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("wrapper", "estimator"),
    [
        (matching_features, gg.reinforce(discount=1.0)),
        (matching_features, gumbel(1.0)),
        (naming_label, gg.reinforce(discount=1.0)),
        (naming_label, gg.rollout(2)),
        (naming_label, gumbel(1.0)),
    ],
)
def test_what_the_classes_pay_reaches_the_generator_by_every_family(wrapper, estimator) -> None:
    options = {"class_weight": 1.0, "estimator": estimator}
    _, paid, metrics = learnt("adversarial_step", labelled(), reward=wrapper(sigmoid, 3.0), **options)
    _, plain, _ = learnt("adversarial_step", labelled(), **options)
    assert_trees_differ(paid.generator.params, plain.generator.params)
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_what_does_not_go_together_is_refused() -> None:
    plain = gg.build_discriminator(gg.LinearConfig(embedding=4), VOCABULARY)
    with pytest.raises(ValueError, match="class_weight needs a discriminator with classes"):
        gg.gan_from(GENERATOR, plain, class_weight=1.0)
    with pytest.raises(ValueError, match="both 0"):
        gg.gan_from(GENERATOR, JUDGE, real_fake_weight=0.0)
    gan, state = started(class_weight=1.0, real_fake_weight=0.0)
    with pytest.raises(ValueError, match="nothing to learn"):
        gan.adversarial_step(state, labelled())


def test_an_optimiser_lowers_the_class_loss() -> None:
    gan, state = started(class_weight=1.0, discriminator_optimizer=optax.adam(0.05))
    step = jax.jit(gan.discriminator_step)
    losses = []
    for _ in range(30):
        state, metrics = step(state, labelled())
        losses.append(float(metrics["class_loss"]))
    assert losses[-1] < 0.5 * losses[0]
