"""From each section of a configuration the estimator it names, with its options where they belong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from behaviour import of_estimator, same
from pydantic import TypeAdapter

from gptgan_jax import (
    Estimator,
    Pathwise,
    cot,
    dgsan,
    distill,
    feature_matching,
    grpo,
    guided,
    gumbel,
    jsdgan,
    learned_value,
    leave_one_out,
    maligan,
    moving_average,
    no_baseline,
    penalised,
    ppo,
    reinforce,
    rloo,
    rollout,
    self_critic,
    spin,
    weighted_likelihood,
)
from gptgan_jax.config.estimators import (
    CotConfig,
    CustomConfig,
    DgsanConfig,
    DistillConfig,
    EstimatorConfig,
    FeatureMatchingConfig,
    GrpoConfig,
    GumbelConfig,
    JsdganConfig,
    LeakganConfig,
    MaliganConfig,
    PpoConfig,
    ReinforceConfig,
    RlooConfig,
    RolloutConfig,
    SelfCriticConfig,
    SentiganConfig,
    SpinConfig,
    WeightedLikelihoodConfig,
    build_estimator,
)
from gptgan_jax.errors import UserError

STEPS = 40
BASELINES = {
    "moving_average": ({"baseline_decay": 0.3}, lambda: moving_average(0.3)),
    "learned": ({"value_learning_rate": 0.2}, lambda: learned_value(0.2)),
    "leave_one_out": ({}, leave_one_out),
    "none": ({}, no_baseline),
}
# Every option another than its default, but for the one baseline that is; no two alike.
OPTIONS: dict[str, tuple[Any, dict[str, Any], Estimator]] = {
    "rloo": (RlooConfig, {"samples": 3, "discount": 0.7}, rloo(samples=3, discount=0.7)),
    "ppo": (
        PpoConfig,
        {"discount": 0.7, "baseline": "none", "clip": 0.4, "epochs": 2, "minibatches": 3, "ratio": "sequence"},
        ppo(discount=0.7, baseline=no_baseline(), clip=0.4, epochs=2, minibatches=3, ratio="sequence"),
    ),
    "rollout": (
        RolloutConfig,
        {"rollouts": 3, "baseline": "learned", "value_learning_rate": 0.2},
        rollout(rollouts=3, baseline=learned_value(0.2)),
    ),
    "ppo_token": (PpoConfig, {"clip": 0.1}, ppo(clip=0.1)),
    "grpo": (
        GrpoConfig,
        {
            "samples": 3,
            "discount": 0.7,
            "deviation": False,
            "length_normalised": True,
            "clip": 0.4,
            "epochs": 2,
            "minibatches": 5,
            "ratio": "sequence",
        },
        grpo(
            samples=3,
            discount=0.7,
            deviation=False,
            length_normalised=True,
            clip=0.4,
            epochs=2,
            minibatches=5,
            ratio="sequence",
        ),
    ),
    "grpo_deviation": (GrpoConfig, {"samples": 2, "clip": 0.1}, grpo(samples=2, deviation=True, clip=0.1)),
    "maligan": (MaliganConfig, {"samples": 3, "baseline": 0.4}, maligan(samples=3, baseline=0.4)),
    "weighted_likelihood": (WeightedLikelihoodConfig, {"samples": 3}, weighted_likelihood(samples=3)),
    "gumbel": (
        GumbelConfig,
        {"straight_through": False, "temperature": 2.0, "final_temperature": 0.5, "draws": 3},
        gumbel(lambda step: 2.0 * 0.25 ** (step / STEPS), straight_through=False, draws=3),
    ),
    "sentigan": (SentiganConfig, {"rollouts": 3}, penalised(3)),
    "leakgan": (
        LeakganConfig,
        {"rollouts": 3, "intrinsic_share": 0.4, "rescale": 8.0, "baseline": "none"},
        guided(3, 0.4, 8.0, no_baseline()),
    ),
    "dgsan": (DgsanConfig, {"refresh_every": 3}, dgsan(3)),
    "jsdgan": (JsdganConfig, {"texts": 3, "normalised": False}, jsdgan(3, normalised=False)),
    "self_critic": (
        SelfCriticConfig,
        {"pair_loss": "hinge", "scale": 0.7, "refresh_every": 3},
        self_critic("hinge", scale=0.7, refresh_every=3),
    ),
    "cot": (CotConfig, {"future": True}, cot(future=True)),
    "spin": (SpinConfig, {"scale": 0.7, "refresh_every": 3}, spin(scale=0.7, refresh_every=3)),
    "distill": (DistillConfig, {"beta": 0.2, "on_policy": 0.7}, distill(beta=0.2, on_policy=0.7)),
    "feature_matching": (
        FeatureMatchingConfig,
        {
            "samples": 6,
            "depths": (0.4, 1.0),
            "whitening": "none",
            "diversity": 0.6,
            "length": 3,
            "context": 2,
            "stride": 4,
        },
        feature_matching(samples=6, depths=(0.4, 1.0), whitening="none", diversity=0.6, length=3, context=2, stride=4),
    ),
}
for _name, (_more, _build) in BASELINES.items():
    OPTIONS |= {
        f"reinforce_{_name}": (
            ReinforceConfig,
            {"discount": 0.7, "baseline": _name} | _more,
            reinforce(discount=0.7, baseline=_build()),
        ),
    }


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_configuration_builds_the_estimator_it_names_with_its_options(name: str) -> None:
    config, options, expected = OPTIONS[name]
    assert same(of_estimator(build_estimator(config(**options), STEPS)), of_estimator(expected))


@pytest.mark.cases(3)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_the_estimator(name: str) -> None:
    config, options, expected = OPTIONS[name]
    whole = of_estimator(expected)
    for option, chosen in options.items():
        if (option, chosen) == ("baseline", "moving_average"):  # the default
            continue
        fewer = {key: value for key, value in options.items() if key != option}
        assert not same(of_estimator(build_estimator(config(**fewer), STEPS)), whole), option


@pytest.mark.cases(5)
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ReinforceConfig(), reinforce()),
        (RolloutConfig(), rollout()),
        (RlooConfig(), rloo()),
        (PpoConfig(), ppo()),
        (GrpoConfig(), grpo()),
        (MaliganConfig(), maligan()),
        (WeightedLikelihoodConfig(), weighted_likelihood()),
        (SpinConfig(), spin()),
        (CotConfig(), cot()),
        (SelfCriticConfig(), self_critic()),
        (SentiganConfig(), penalised()),
        (LeakganConfig(), guided()),
        (DgsanConfig(), dgsan()),
        (JsdganConfig(), jsdgan()),
        (FeatureMatchingConfig(), feature_matching()),
        (DistillConfig(), distill()),
    ],
    ids=lambda x: getattr(x, "kind", ""),
)
def test_the_defaults_of_a_section_are_those_of_the_function(config: Any, expected: Estimator) -> None:
    assert same(of_estimator(build_estimator(config, STEPS)), of_estimator(expected))


@pytest.mark.parametrize("kind", [config.kind for config, _, _ in OPTIONS.values()])
def test_a_section_is_told_by_its_kind(kind: str) -> None:
    config = TypeAdapter(EstimatorConfig).validate_python({"kind": kind})
    assert config.kind == kind
    assert isinstance(build_estimator(config, STEPS), Estimator)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (ReinforceConfig, {"discount": 1.1}),
        (ReinforceConfig, {"discount": -0.1}),
        (ReinforceConfig, {"baseline_decay": 1.0}),
        (ReinforceConfig, {"value_learning_rate": 0.0}),
        (ReinforceConfig, {"baseline": "other"}),
        (ReinforceConfig, {"rollouts": 4}),
        (RolloutConfig, {"rollouts": 0}),
        (RolloutConfig, {"discount": 0.5}),
        (RlooConfig, {"samples": 1}),
        (RlooConfig, {"baseline": "none"}),
        (PpoConfig, {"clip": 0.0}),
        (PpoConfig, {"clip": 1.0}),
        (PpoConfig, {"epochs": 0}),
        (PpoConfig, {"minibatches": 0}),
        (PpoConfig, {"ratio": "text"}),
        (GrpoConfig, {"samples": 1}),
        (MaliganConfig, {"samples": 0}),
        (MaliganConfig, {"baseline": 1.5}),
        (WeightedLikelihoodConfig, {"samples": 0}),
        (GumbelConfig, {"temperature": 0.0}),
        (GumbelConfig, {"final_temperature": 0.0}),
        (GumbelConfig, {"draws": 0}),
        (SpinConfig, {"scale": 0.0}),
        (SpinConfig, {"refresh_every": 0}),
        (SelfCriticConfig, {"pair_loss": "wasserstein"}),
        (SelfCriticConfig, {"refresh_every": 0}),
        (DistillConfig, {"beta": 1.1}),
        (DistillConfig, {"on_policy": -0.1}),
        (FeatureMatchingConfig, {"samples": 2}),
        (FeatureMatchingConfig, {"depths": ()}),
        (FeatureMatchingConfig, {"depths": (0.5, 1.1)}),
        (FeatureMatchingConfig, {"length": 0}),
        (CustomConfig, {}),
    ],
)
def test_options_out_of_bounds_or_of_another_estimator_are_refused(config: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        config(**options)


@pytest.mark.parametrize("steps", [1, 40])
def test_the_final_temperature_is_reached_at_the_phases_end_exponentially(steps: int) -> None:
    estimator = build_estimator(GumbelConfig(temperature=2.0, final_temperature=0.02), steps)
    assert isinstance(estimator, Pathwise)
    state, found = estimator.init(4), []
    for _ in range(steps + 1):
        state, metrics = estimator.advance(state)
        found.append(float(metrics["relaxation_temperature"]))
    np.testing.assert_allclose(found, 2.0 * 0.01 ** (np.arange(steps + 1) / steps), rtol=1e-5)
    assert found[0] == pytest.approx(2.0)
    assert found[-1] == pytest.approx(0.02, rel=1e-5)


def test_a_phase_without_steps_has_a_temperature_too() -> None:
    estimator = build_estimator(GumbelConfig(temperature=2.0), 0)
    assert isinstance(estimator, Pathwise)
    assert float(estimator.advance(estimator.init(4))[1]["relaxation_temperature"]) == 2.0


# ---- of the user's own


MODULE = """
from gptgan_jax import rloo, spin, gumbel


def mine(samples, discount=1.0):
    return rloo(samples, discount)


def play():
    return spin()


def relaxed():
    return gumbel()


def failing():
    raise RuntimeError("no such thing")


def number():
    return 7


not_a_function = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "an_estimator_of_mine"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "broken_estimator.py").write_text("import a_module_that_is_nowhere\n")
    (tmp_path / "misspelt_estimator.py").write_text("def mine(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_factory_of_the_users_builds_the_estimator_with_its_options(module: str) -> None:
    config = CustomConfig(factory=f"{module}:mine", options={"samples": 3, "discount": 0.7})
    assert same(of_estimator(build_estimator(config, STEPS)), of_estimator(rloo(3, 0.7)))
    assert same(of_estimator(build_estimator(CustomConfig(factory=f"{module}:play"), STEPS)), of_estimator(spin()))
    assert same(of_estimator(build_estimator(CustomConfig(factory=f"{module}:relaxed"), STEPS)), of_estimator(gumbel()))


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("no_module_of_mine:mine", {}, "no_module_of_mine:mine.*importable.*No module named"),
        ("an_estimator_of_mine:yours", {}, "yours.*importable.*no attribute 'yours'"),
        ("an_estimator_of_mine", {}, "should be module:function"),
        (":mine", {}, "should be module:function"),
        ("", {}, "should be module:function"),
        ("broken_estimator:mine", {}, "importable.*a_module_that_is_nowhere"),
        ("misspelt_estimator:mine", {}, "misspelt_estimator:mine.*importable.*syntax"),
        (".relative:mine", {}, "should be module:function"),
        ("an_estimator_of_mine:mine", {}, "failed: .*samples"),
        ("an_estimator_of_mine:mine", {"samples": 2, "other": 1}, "failed: .*other"),
        ("an_estimator_of_mine:failing", {}, "an_estimator_of_mine:failing.*failed: no such thing"),
        ("an_estimator_of_mine:not_a_function", {}, "failed: .*not callable"),
        (
            "an_estimator_of_mine:number",
            {},
            "returned int; an estimator is a PolicyGradient, Pathwise, Mediated, SelfPlay or Distillation",
        ),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_factory_that_will_not_do_is_refused_by_name(factory: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_estimator(CustomConfig(factory=factory, options=options), STEPS)


def test_a_section_with_options_has_a_hash_like_all_others() -> None:
    """Runs are grouped by their configurations; options are a dict, which has none of its own."""
    one, same, other = (CustomConfig(factory="a:b", options={"c": [value]}) for value in (1, 1, 2))
    assert hash(one) == hash(same)
    assert {one: 1} == {same: 1}
    assert one != other
