"""A parameter has one range, whether a configuration or a function of the API is given it."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gptgan_jax as gg
from gptgan_jax.config.estimators import (
    DistillConfig,
    FeatureMatchingConfig,
    GrpoConfig,
    GumbelConfig,
    MaliganConfig,
    PpoConfig,
    ReinforceConfig,
    RlooConfig,
    RolloutConfig,
    SelfCriticConfig,
    SpinConfig,
    WeightedLikelihoodConfig,
)
from gptgan_jax.errors import UserError
from gptgan_jax.gradients import baselines
from gptgan_jax.objectives import classification, rewards
from gptgan_jax.objectives.classification import ClassificationConfig
from gptgan_jax.objectives.discrimination import build_pair_loss
from gptgan_jax.schema.ranges import ANY, Range

NUMBERS = (
    -math.inf, -3, -1.0, -1e-9, 0, 0.0, 1e-9, 0.3, 0.5, 0.999, 1, 1.0, 1.001, 1.5, 2, 3, 7.0, 1e9, math.inf, math.nan,
)  # fmt: skip

# What makes something of a number, what it calls the number, and the key of a configuration that is the same.
PARAMETERS: dict[str, tuple[Callable[[Any], Any], str, Any, str]] = {
    "reinforce discount": (gg.reinforce, "discount", ReinforceConfig, "discount"),
    "rloo discount": (lambda x: gg.rloo(2, x), "discount", RlooConfig, "discount"),
    "ppo discount": (gg.ppo, "discount", PpoConfig, "discount"),
    "grpo discount": (lambda x: gg.grpo(2, x), "discount", GrpoConfig, "discount"),
    "rollout rollouts": (gg.rollout, "rollouts", RolloutConfig, "rollouts"),
    "rloo samples": (gg.rloo, "samples", RlooConfig, "samples"),
    "grpo samples": (gg.grpo, "samples", GrpoConfig, "samples"),
    "maligan samples": (gg.maligan, "samples", MaliganConfig, "samples"),
    "weighted likelihood samples": (gg.weighted_likelihood, "samples", WeightedLikelihoodConfig, "samples"),
    "ppo clip": (lambda x: gg.ppo(clip=x), "clip", PpoConfig, "clip"),
    "grpo clip": (lambda x: gg.grpo(clip=x), "clip", GrpoConfig, "clip"),
    "ppo epochs": (lambda x: gg.ppo(epochs=x), "epochs", PpoConfig, "epochs"),
    "grpo epochs": (lambda x: gg.grpo(epochs=x), "epochs", GrpoConfig, "epochs"),
    "ppo minibatches": (lambda x: gg.ppo(minibatches=x), "minibatches", PpoConfig, "minibatches"),
    "grpo minibatches": (lambda x: gg.grpo(minibatches=x), "minibatches", GrpoConfig, "minibatches"),
    "maligan baseline": (lambda x: gg.maligan(2, x), "baseline", MaliganConfig, "baseline"),
    "moving average decay": (gg.moving_average, "decay", ReinforceConfig, "baseline_decay"),
    "learned value rate": (gg.learned_value, "learning_rate", ReinforceConfig, "value_learning_rate"),
    "gumbel temperature": (gg.gumbel, "temperature", GumbelConfig, "temperature"),
    "gumbel draws": (lambda x: gg.gumbel(draws=x), "draws", GumbelConfig, "draws"),
    "spin scale": (gg.spin, "scale", SpinConfig, "scale"),
    "spin refresh": (lambda x: gg.spin(refresh_every=x), "refresh_every", SpinConfig, "refresh_every"),
    "own critic's scale": (lambda x: gg.self_critic(scale=x), "scale", SelfCriticConfig, "scale"),
    "ebft samples": (gg.feature_matching, "samples", FeatureMatchingConfig, "samples"),
    "ebft diversity": (lambda x: gg.feature_matching(diversity=x), "diversity", FeatureMatchingConfig, "diversity"),
    "ebft context": (lambda x: gg.feature_matching(context=x), "context", FeatureMatchingConfig, "context"),
    "ebft length": (lambda x: gg.feature_matching(length=x), "length", FeatureMatchingConfig, "length"),
    "gkd beta": (gg.distill, "beta", DistillConfig, "beta"),
    "gkd on policy": (lambda x: gg.distill(on_policy=x), "on_policy", DistillConfig, "on_policy"),
    "feature matching": (
        lambda x: classification.matching_features(rewards.logit, x),
        "the weight of feature matching",
        ClassificationConfig,
        "feature_matching_weight",
    ),
    "labels' reward": (
        lambda x: classification.naming_label(rewards.logit, x),
        "the weight of the labels' reward",
        ClassificationConfig,
        "label_reward_weight",
    ),
}
# What no configuration has.
OTHERS: dict[str, tuple[Callable[[Any], Any], str, Range]] = {
    "constant's discount": (rewards.constant, "discount", Range(ge=0, le=1)),
    "bandwidth": (lambda x: rewards.mmd([x]), "mmd_bandwidths", Range(gt=0)),
    "sharpness": (rewards.ranked, "the sharpness of a ranking", Range(gt=0)),
    "smoothing": (lambda x: build_pair_loss("non_saturating", x), "label smoothing", Range(ge=0, lt=0.5)),
    "the loss's smoothing": (
        lambda x: gg.non_saturating(*[jnp.ones((1, 1)), jnp.ones((1, 1), bool)] * 2, smoothing=x),
        "smoothing",
        Range(ge=0, lt=0.5),
    ),
    "the relativistic loss's smoothing": (
        lambda x: gg.relativistic(*[jnp.ones((1, 1)), jnp.ones((1, 1), bool)] * 2, smoothing=x),
        "smoothing",
        Range(ge=0, lt=0.5),
    ),
    "discounted returns": (
        lambda x: baselines.discounted_returns(jnp.ones((1, 1)), jnp.ones((1, 1), bool), x),
        "discount",
        Range(ge=0, le=1),
    ),
}  # fmt: skip


def refused(make: Callable[[Any], Any], number: Any) -> str | None:
    """What is said of a number that is refused."""
    try:
        make(number)
    except UserError as error:
        return str(error)
    return None


def in_config(section: Any, key: str, number: Any) -> bool:
    try:
        section(**{key: number})
    except UserError:
        return False
    return True


@pytest.mark.parametrize("case", PARAMETERS)
def test_a_function_takes_the_numbers_that_its_key_takes_and_no_others(case: str) -> None:
    make, name, section, key = PARAMETERS[case]
    for number in NUMBERS:
        says, taken = refused(make, number), in_config(section, key, number)
        if key == "clip" and number >= 1 and math.isfinite(number):
            assert not taken
            assert says is None, "a clip that no ratio comes to stands for none"
        elif isinstance(number, float) and number.is_integer() and "whole" in str(says):
            pass  # pydantic takes 2.0 for 2
        else:
            assert (says is None) == taken, (number, says)
        if says is not None:
            assert says.startswith(f"{name} should be ")
            assert says.endswith(f", not {number}")
            assert "\n" not in says


@pytest.mark.parametrize("case", OTHERS)
def test_what_no_config_has_takes_a_range_as_well(case: str) -> None:
    make, name, allowed = OTHERS[case]
    for number in NUMBERS:
        says = refused(make, number)
        assert (says is None) == (refused(lambda x: allowed.check(name, x), number) is None), (number, says)
        assert says is None or says.startswith(f"{name} should be {allowed}")


def test_every_number_of_a_factory_has_a_case() -> None:
    """So that a new parameter cannot come without a range."""
    factories = [gg.reinforce, gg.rollout, gg.rloo, gg.ppo, gg.grpo, gg.maligan, gg.weighted_likelihood, gg.gumbel]
    factories += [gg.spin, gg.moving_average, gg.learned_value]
    for factory in factories:
        for parameter in inspect.signature(factory).parameters.values():
            if type(parameter.default) not in (int, float):
                continue
            cases = [case for case, (_, name, _, _) in PARAMETERS.items() if name == parameter.name]
            assert any(case.startswith(factory.__name__.replace("_", " ")[:8]) for case in cases), (factory, parameter)


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (Range(gt=0), "above 0"),
        (Range(ge=0, lt=0.5), "at least 0 and below 0.5"),
        (Range(ge=2, whole=True), "a whole number, at least 2"),
        (Range(ge=0, le=1), "at least 0 and at most 1"),
        (ANY, "a finite number"),
    ],
)
def test_a_range_in_words(allowed: Range, words: str) -> None:
    assert str(allowed) == words


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_range_holds_what_is_not_finite(number: float) -> None:
    for allowed, words in ((ANY, "a finite number, not"), (Range(gt=0), "above 0 and finite, not")):
        with pytest.raises(UserError, match=f"x should be {words}"):
            allowed.check("x", number)


@pytest.mark.parametrize("thing", ["a", None, True, [1.0], jnp.ones(1), 1j, jnp.array(True)])
def test_what_is_no_number_is_of_the_wrong_type(thing: Any) -> None:
    with pytest.raises(TypeError, match="x should be above 0, not "):
        Range(gt=0).check("x", thing)


@pytest.mark.parametrize("number", [2, np.int64(2), jnp.int32(2), np.array(2)])
def test_numbers_of_numpy_and_jax_are_numbers(number: Any) -> None:
    Range(ge=2, whole=True).check("x", number)
    with pytest.raises(UserError, match="x should be a whole number, at least 2, not 1"):
        Range(ge=2, whole=True).check("x", number - 1)
    with pytest.raises(UserError, match="a whole number"):
        Range(ge=2, whole=True).check("x", np.float32(2.5))


def test_a_number_that_is_traced_is_not_known_and_passes() -> None:
    """So an estimator can be mapped over its discount."""

    def returns(discount: jax.Array) -> jax.Array:
        gg.reinforce(discount)  # type: ignore[arg-type]
        return baselines.discounted_returns(jnp.ones((1, 3)), jnp.ones((1, 3), bool), discount)  # type: ignore[arg-type]

    found = jax.jit(jax.vmap(returns))(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(found[:, 0], [[1, 1, 1], [3, 2, 1]])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gg.ppo(ratio="text"), "ratio should be one of token, sequence, not 'text'"),  # type: ignore[arg-type]
        (lambda: gg.grpo(ratio="text"), "ratio should be one of token, sequence, not 'text'"),  # type: ignore[arg-type]
        (lambda: build_pair_loss("loss"), "the pair loss should be one of non_saturating, .* not 'loss'"),  # type: ignore[arg-type]
        (lambda: rewards.build_reward("pay", 1.0), "the reward should be one of sigmoid, .* not 'pay'"),  # type: ignore[arg-type]
    ],
)
def test_a_name_that_there_is_not_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()
