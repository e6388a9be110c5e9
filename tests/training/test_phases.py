"""From a configuration to what each phase plays: every key changes its own attributes of the Game, and no other.

A key that has no case, as a new one has not, fails.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
import pytest
from behaviour import COUNTS, of_estimator, of_pair_loss, of_reward, same

from gptgan_jax import PolicyGradient, Vocabulary, build_discriminator, build_generator
from gptgan_jax.algorithms.game import Game
from gptgan_jax.config import (
    PHASES,
    AdversarialPhase,
    Config,
    ContinuedPhase,
    LikelihoodPhase,
    ObjectiveConfig,
    Phase,
    WarmupPhase,
)
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.estimators import EstimatorConfig
from gptgan_jax.config.files import load_config
from gptgan_jax.objectives.classification import ClassificationConfig
from gptgan_jax.objectives.optimizers import OptimizerConfig
from gptgan_jax.objectives.rewards import constant_discount
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.text_rewards.config import unpaid
from gptgan_jax.training import phases
from gptgan_jax.training.phases import game_of, learning_rates

Keys = dict[str, Any]
Changes = set[tuple[Phase, str]]

NETWORK: Keys = {"kind": "transformer", "layers": 1, "width": 8, "heads": 2, "max_positions": 16}
OPTIMIZER: Keys = {
    "weight_decay": 0.1, "warmup_steps": 2, "schedule": "linear", "accumulate": 2, "frozen": ["*bias"],
}  # fmt: skip
# Values with which every key matters, and that go with each other one.
BASE: Keys = {
    "name": "x",
    "data": {"max_length": 5, "max_prompt_length": 2, "label": "tense", "label_prompts": True},
    "generator": NETWORK,
    "discriminator": NETWORK,
    "objective.reward": "logit",
    "objective.kl_weight": 0.1,
    "objective.kl_estimator": "low_variance",
    "objective.demonstration_share": 0.3,
    "objective.replay_size": 16,
    "likelihood": {"steps": 50, "batch_size": 4, "optimizer": OPTIMIZER},
    "continued.steps": 40,
    "warmup": {"steps": 30, "batch_size": 4, "optimizer": OPTIMIZER},
    "adversarial": {
        "steps": 20, "batch_size": 4, "generator_optimizer": OPTIMIZER, "discriminator_optimizer": OPTIMIZER,
    },
}  # fmt: skip
CLASSES: Keys = BASE | {"objective.classification.weight": 0.5, "objective.classification.labelled_share": 0.5}
WHOLE: Keys = {name: value for name, value in BASE.items() if not name.startswith("objective.")} | {
    "objective.dense": False, "objective.reward": "logit",
}  # fmt: skip


PAID: Keys = BASE | {
    "objective.replay_size": 32,
    "objective.rewards": [{"function": "length"}],
    "objective.estimator.kind": "grpo",
}


class Case(NamedTuple):
    """A key, another value of it, and what of which phases' games that changes."""

    changes: Keys
    fields: tuple[str, ...]
    phases: tuple[Phase, ...] = PHASES
    base: Keys = BASE

    @property
    def expected(self) -> Changes:
        return {(phase, field) for phase in self.phases for field in self.fields}


ADVERSARIAL: tuple[Phase, ...] = ("adversarial",)
NOTHING: tuple[str, ...] = ()

OBJECTIVE: dict[str, Case] = {
    "pair_loss": Case({"pair_loss": "hinge"}, ("pair_loss",)),
    "label_smoothing": Case({"label_smoothing": 0.1}, ("pair_loss",)),
    "dense": Case({"dense": False}, ("dense",)),
    "reward": Case({"reward": "sigmoid"}, ("reward",)),
    "temperature": Case({"temperature": 0.7}, ("temperature",)),
    "entropy_weight": Case({"entropy_weight": 0.2}, ("entropy_weight",)),
    "likelihood_weight": Case({"likelihood_weight": 0.2}, ("likelihood_weight",), ADVERSARIAL),
    "kl_weight": Case({"kl_weight": 0.2}, ("kl_weight",), ADVERSARIAL),
    "kl_estimator": Case({"kl_estimator": "exact"}, ("kl_estimator",)),
    "r1_weight": Case({"r1_weight": 0.2}, ("r1_weight",)),
    "r2_weight": Case({"r2_weight": 0.2}, ("r2_weight",)),
    "gradient_penalty_weight": Case({"gradient_penalty_weight": 0.2}, ("gradient_penalty_weight",)),
    "next_token_weight": Case({"next_token_weight": 0.2}, ("next_token_weight",)),
    "reward_formula": Case(
        {"reward_formula": "2 * s"},
        ("reward",),
        base=BASE | {"objective.reward": "formula", "objective.reward_formula": "s"},
    ),
    "window": Case({"window": 2}, NOTHING),  # it is the discriminator's: see runs.trained
    "mmd_weight": Case({"mmd_weight": 0.2}, ("mmd_weight",), base=BASE | {"objective.reward": "mmd"}),
    "mmd_bandwidths": Case(
        {"mmd_bandwidths": [1.0, 2.0]}, ("mmd_bandwidths", "reward"), base=BASE | {"objective.reward": "mmd"}
    ),
    "replay_size": Case({"replay_size": 32}, ("replay_size",), ADVERSARIAL),
    "replay_share": Case({"replay_share": 0.2}, ("replay_share",)),
    "demonstration_share": Case({"demonstration_share": 0.2}, ("demonstrations",), ADVERSARIAL),
    "demonstration_reward": Case({"demonstration_reward": 0.2}, ("demonstrations",), ADVERSARIAL),
    "demonstration_steps": Case({"demonstration_steps": 7}, ("demonstrations",), ADVERSARIAL),
    "rewards": Case({"rewards": [{"function": "length", "weight": 0.5}]}, ("text_rewards",), ADVERSARIAL, PAID),
    "reward_scaling": Case({"reward_scaling": "group"}, ("reward_scaling",), ADVERSARIAL, PAID),
    "discriminator_reward_weight": Case(
        {"discriminator_reward_weight": 0.5}, ("discriminator_reward_weight",), ADVERSARIAL, PAID
    ),
    "resample_groups": Case({"resample_groups": 2}, ("resample_groups",), ADVERSARIAL, PAID),
    "residual_candidates": Case(
        {"residual_candidates": 3}, NOTHING, base=BASE | {"data": {"max_length": 5, "max_prompt_length": 2}}
    ),
}
CLASSIFICATION: dict[str, Case] = {
    "weight": Case({"weight": 0.7}, ("class_weight",), base=CLASSES),
    "real_fake_weight": Case({"real_fake_weight": 0.7}, ("real_fake_weight",), base=CLASSES),
    "labelled_share": Case({"labelled_share": 0.7}, NOTHING, base=CLASSES),
    "feature_matching_weight": Case({"feature_matching_weight": 0.7}, ("reward",), base=CLASSES),
    "label_reward_weight": Case({"label_reward_weight": 0.7}, ("reward",), base=CLASSES),
}
OPTIMIZERS: dict[str, Keys] = {
    "kind": {"kind": "sgd", "weight_decay": 0.0},
    "learning_rate": {"learning_rate": 0.02},
    "beta1": {"beta1": 0.5},
    "beta2": {"beta2": 0.5},
    "eps": {"eps": 0.1},
    "weight_decay": {"weight_decay": 0.2},
    "warmup_steps": {"warmup_steps": 1},
    "schedule": {"schedule": "cosine"},
    "final_fraction": {"final_fraction": 0.5},
    "clip_norm": {"clip_norm": 0.1},
    "accumulate": {"accumulate": 1},
    "frozen": {"frozen": ["*kernel"]},
}
LIKELIHOOD: dict[str, Case] = {
    "steps": Case({"steps": 60}, ("generator_optimizer",), ("likelihood",)),
    "batch_size": Case({"batch_size": 8}, NOTHING),
    "length_buckets": Case({"length_buckets": 2}, NOTHING),
    "packing": Case({"packing": "best_fit"}, NOTHING, base=BASE | {"data": {"max_length": 5, "max_prompt_length": 2}}),
}
CONTINUED: dict[str, Case] = {
    "steps": Case({"steps": 60}, ("generator_optimizer",), ("continued",)),
    "learning_rate": Case({"learning_rate": 0.02}, ("generator_optimizer",), ("continued",)),
}
WARMUP: dict[str, Case] = {
    "steps": Case({"steps": 60}, ("discriminator_optimizer",), ("warmup",)),
    "batch_size": Case({"batch_size": 8}, NOTHING),
}
BOTH_OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
ADVERSARIAL_PHASE: dict[str, Case] = {
    # As demonstration_steps is null, the demonstrations last for the whole phase.
    "steps": Case({"steps": 60}, (*BOTH_OPTIMIZERS, "demonstrations"), ADVERSARIAL),
    "batch_size": Case({"batch_size": 8}, NOTHING),
    "discriminator_updates": Case(
        {"discriminator_updates": 2}, ("discriminator_updates", "discriminator_optimizer"), ADVERSARIAL
    ),
    "ema_decay": Case({"ema_decay": 0.9}, ("ema_decay",), ADVERSARIAL),
    "freeze_discriminator": Case({"freeze_discriminator": True}, ("discriminator_optimizer",), ADVERSARIAL),
}
# Other values of the options of estimators, with what makes them matter.
ESTIMATOR: dict[str, Keys] = {
    "discount": {"discount": 0.5},
    "baseline": {"baseline": "none"},
    "baseline_decay": {"baseline_decay": 0.5},
    "value_learning_rate": {"value_learning_rate": 0.5},
    "rollouts": {"rollouts": 3},
    "samples": {"samples": 6},
    "clip": {"clip": 0.01},
    "epochs": {"epochs": 2},
    "minibatches": {"minibatches": 2},
    "ratio": {"ratio": "sequence"},
    "deviation": {"deviation": False},
    "length_normalised": {"length_normalised": True},
    "straight_through": {"straight_through": False},
    "temperature": {"temperature": 3.0},
    "final_temperature": {"final_temperature": 0.5},
    "draws": {"draws": 3},
    "scale": {"scale": 0.5},
    "refresh_every": {"refresh_every": 2},
    "pair_loss": {"pair_loss": "hinge"},
    "texts": {"texts": 50},
    "normalised": {"normalised": False},
    "future": {"future": True},
    "depths": {"depths": [0.5]},
    "whitening": {"whitening": "none"},
    "diversity": {"diversity": 0.5},
    "length": {"length": 2},
    "context": {"context": 1},
    "stride": {"stride": 1},
    "beta": {"beta": 0.25},
    "on_policy": {"on_policy": 0.5},
    "intrinsic_share": {"intrinsic_share": 0.25},
    "rescale": {"rescale": 4.0},
    "factory": {"factory": "gptgan_jax:rollout"},
    "options": {"options": {"discount": 0.5}},
}
NEEDED: dict[str, Keys] = {
    "maligan.baseline": {"objective.estimator.baseline": 0.5},
    "weighted_likelihood": {"objective.reward": "log_sigmoid"},
    "value_learning_rate": {"objective.estimator.baseline": "learned"},
    **{
        kind: {"warmup": {"steps": 0}}
        for kind in ("spin", "dgsan", "jsdgan", "self_critic", "feature_matching", "distill")
    },
    "sentigan": {"objective.reward": "penalty"},
    "leakgan": {
        "data": {"max_length": 5, "max_prompt_length": 2},
        "generator": {"kind": "leakgan", "embedding": 4, "units": 4, "goal": 2, "horizon": 2},
        "discriminator": {"kind": "cnn", "embedding": 4, "widths": [1, 2], "filters": 2},
    },
    "beta": {"objective.estimator.teacher": "hf:teacher"},
    "on_policy": {"objective.estimator.teacher": "hf:teacher"},
    "texts": {"objective.estimator.normalised": False},
    "context": {"objective.estimator.length": 2},
    "stride": {"objective.estimator.length": 2},
    "custom": {"objective.estimator.factory": "gptgan_jax:reinforce"},
    "options": {"objective.estimator.factory": "gptgan_jax:reinforce"},
}


# What these name is loaded when a run begins, and handed to `game_of`.
OF_THE_TEACHER = ("teacher", "teacher_checkpoint", "top_k_file")


def estimator_cases() -> Iterator[tuple[str, Case]]:
    for section in get_args(get_args(EstimatorConfig)[0]):
        kind = section.__dataclass_fields__["kind"].default
        for field in dataclasses.fields(section):
            if field.name == "kind" or field.name in OF_THE_TEACHER:
                continue
            change = ESTIMATOR[field.name]
            base = WHOLE | {"objective.estimator.kind": kind}
            for needed in (kind, field.name):
                base |= NEEDED.get(needed, {})
            if kind == "maligan" and field.name == "baseline":
                change = {"baseline": 0.5}
            # More updates from the same texts are more steps of the generator's optimiser.
            more = ("generator_optimizer",) if field.name in ("epochs", "minibatches") else ()
            yield (
                f"objective.estimator.{kind}.{field.name}",
                Case(
                    {f"objective.estimator.{name}": value for name, value in change.items()},
                    ("estimator", *more),
                    ADVERSARIAL,
                    base,
                ),
            )


def cases() -> Iterator[tuple[str, Case]]:
    """Every key of the sections that reach a game, and its case."""
    yield from of_section("objective", ObjectiveConfig, OBJECTIVE, ("estimator", "classification"))
    yield from of_section("objective.classification", ClassificationConfig, CLASSIFICATION)
    yield from estimator_cases()
    yield from of_section("likelihood", LikelihoodPhase, LIKELIHOOD, ("optimizer",))
    yield from of_section("continued", ContinuedPhase, CONTINUED)
    yield from of_section("warmup", WarmupPhase, WARMUP, ("optimizer",))
    yield from of_section("adversarial", AdversarialPhase, ADVERSARIAL_PHASE, BOTH_OPTIMIZERS)
    for section, player, of_phases in (
        ("likelihood.optimizer", "generator_optimizer", ("likelihood", "continued")),
        ("warmup.optimizer", "discriminator_optimizer", ("warmup",)),
        ("adversarial.generator_optimizer", "generator_optimizer", ADVERSARIAL),
        ("adversarial.discriminator_optimizer", "discriminator_optimizer", ADVERSARIAL),
    ):
        of = {name: Case(change, (player,), of_phases) for name, change in OPTIMIZERS.items()}  # type: ignore[arg-type]
        yield from of_section(section, OptimizerConfig, of)


def of_section(
    section: str, kind: type, known: Mapping[str, Case], sections: tuple[str, ...] = ()
) -> Iterator[tuple[str, Case]]:
    for field in dataclasses.fields(kind):
        if field.name not in sections:
            case = known[field.name]
            yield (
                f"{section}.{field.name}",
                case._replace(changes={f"{section}.{name}": value for name, value in case.changes.items()}),
            )


# ---- what a game is


def as_tree(keys: Keys) -> Keys:
    """Nested, as a YAML file has it; a later key wins."""
    tree: Keys = {}
    for dotted, value in keys.items():
        *sections, name = dotted.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        if isinstance(value, dict) and name != "options":
            node[name] = as_tree(node.get(name, {}) | value)
        else:
            node[name] = value
    return tree


class BuiltOptimizer(NamedTuple):
    """Optax's pair of functions, with what it was built from."""

    init: Any
    update: Any
    built_from: tuple[Any, ...]


@pytest.fixture(autouse=True)
def optimizers_that_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an optimiser does with each key: tests/objectives/test_optimizers.py."""
    built = phases.build_optimizer

    def build(config: OptimizerConfig, steps: int, learns: Callable[[str], bool] | None = None) -> Any:
        paths = None if learns is None else [learns(path) for path in ("a/lora_a", "a/kernel", "head/kernel")]
        optimizer = built(config, steps, learns)
        return BuiltOptimizer(optimizer.init, optimizer.update, (config, steps, paths))

    monkeypatch.setattr(phases, "build_optimizer", build)


def of_optimizer(optimizer: Any) -> Any:
    if isinstance(optimizer, BuiltOptimizer):
        return optimizer.built_from
    params = jnp.ones(2)
    updates, state = optimizer.update(params, optimizer.init(params), params)
    return ("identity" if updates.any() else "zero", len(state))


def what_it_does(game: Game, phase: Phase) -> dict[str, Any]:
    """By attribute, something that is equal where the attributes do the same."""
    found: dict[str, Any] = {name: getattr(game, name) for name in game._fields}
    found |= {name: of_optimizer(found[name]) for name in BOTH_OPTIMIZERS}
    found["pair_loss"], found["reward"] = of_pair_loss(game.pair_loss), of_reward(game.reward)
    found["text_rewards"] = [
        (reward.name, reward.weight, reward.schedule and float(reward.schedule(jnp.int32(3))))
        for reward in game.text_rewards
    ]
    if phase == "adversarial":
        found["estimator"] = of_estimator(game.estimator)
    else:
        # No generator learns from it; how many texts it writes for a prompt, the discriminator sees.
        found["estimator"] = found["estimator"].samples if isinstance(game.estimator, PolicyGradient) else None
    # The network is the configuration's own, not that of the objective.
    del found["generator"], found["discriminator"]
    return found


VOCABULARY = Vocabulary(9)


@cache
def networks(generator: Any, discriminator: Any, classes: int) -> tuple[Any, Any]:
    return build_generator(generator, VOCABULARY), build_discriminator(discriminator, VOCABULARY, classes)


def games(config: Config) -> dict[Phase, dict[str, Any]]:
    players = networks(config.generator, config.discriminator, 2 if config.classifies else 0)
    functions = unpaid(config.objective.rewards)
    return {phase: what_it_does(game_of(config, phase, *players, functions=functions), phase) for phase in PHASES}


KNOWN: list[tuple[Config, dict[Phase, dict[str, Any]]]] = []


def games_of(keys: Keys) -> dict[Phase, dict[str, Any]]:
    """Those of a base are made once."""
    config = config_from(as_tree(keys))
    for other, made in KNOWN:
        if other == config:
            return made
    KNOWN.append((config, games(config)))
    return KNOWN[-1][1]


def changed(before: Keys, after: Keys) -> Changes:
    old, new = games_of(before), games(config_from(as_tree(after)))
    return {
        (phase, field)
        for phase in PHASES
        for field in old[phase].keys() | new[phase].keys()
        if not same(old[phase][field], new[phase][field])
    }


# ---- every key


@pytest.mark.cases(5)
@pytest.mark.parametrize(("key", "case"), cases(), ids=lambda part: part if isinstance(part, str) else "")
def test_a_key_changes_its_own_attributes_and_no_other(key: str, case: Case) -> None:
    after = case.base | case.changes
    expected = case.expected
    if ".estimator." in key and key.endswith(".samples"):
        # The discriminator warms up on as many texts a prompt as it will read.
        expected |= {(phase, "estimator") for phase in PHASES}
    assert changed(case.base, after) == expected


def test_a_key_without_a_case_fails() -> None:
    @dataclasses.dataclass
    class Longer:
        pair_loss: str
        new: float

    with pytest.raises(KeyError, match="new"):
        list(of_section("objective", Longer, OBJECTIVE))


def test_a_loss_of_differences_makes_the_reward_relative() -> None:
    changes = changed(BASE, BASE | {"objective.pair_loss": "relativistic"})
    assert changes == {(phase, field) for phase in PHASES for field in ("pair_loss", "reward")}


def test_the_constant_reward_takes_the_estimators_discount() -> None:
    base = BASE | {"objective.reward": "constant", "objective.demonstration_share": 0.0}
    changes = changed(base, base | {"objective.estimator.discount": 0.5})
    assert changes == {*((phase, "reward") for phase in PHASES), ("adversarial", "estimator")}


def test_adapters_alone_learn_where_there_are_some() -> None:
    base = BASE | {"init_from": "runs/other"}
    for player, optimizer, of_phases in (
        ("generator", "generator_optimizer", ("likelihood", "continued", "adversarial")),
        ("discriminator", "discriminator_optimizer", ("warmup", "adversarial")),
    ):
        after = base | {f"{player}.lora.rank": 2}
        if player == "discriminator":
            base, after = (keys | {"discriminator.from_generator": True} for keys in (base, after))
        assert changed(base, after) == {(phase, optimizer) for phase in of_phases}


def test_a_rewards_schedule_is_that_of_its_section() -> None:
    rewards = [{"function": "length", "schedule": {"start": 1.0, "end": 0.0, "steps": 6}}]
    assert changed(PAID, PAID | {"objective.rewards": rewards}) == {("adversarial", "text_rewards")}
    assert games(config_from(as_tree(PAID | {"objective.rewards": rewards})))["adversarial"]["text_rewards"] == [
        ("length", 1.0, 0.5)
    ]


# ---- what a phase's optimisers are built from


def built(phase: Phase, keys: Keys) -> tuple[Any, Any]:
    config = config_from(as_tree(keys))
    game = game_of(config, phase, *networks(config.generator, config.discriminator, 0))
    return of_optimizer(game.generator_optimizer), of_optimizer(game.discriminator_optimizer)


def test_each_phase_has_its_own_optimisers_over_its_own_steps() -> None:
    keys = BASE | {
        "likelihood.optimizer.learning_rate": 0.01,
        "warmup.optimizer.learning_rate": 0.02,
        "adversarial.generator_optimizer.learning_rate": 0.03,
        "adversarial.discriminator_optimizer.learning_rate": 0.04,
    }
    whose = OptimizerConfig(**OPTIMIZER | {"frozen": ("*bias",)})
    nothing = ("identity", 0)

    def at(rate: float, steps: int) -> tuple[Any, ...]:
        return dataclasses.replace(whose, learning_rate=rate), steps, None

    assert built("likelihood", keys) == (at(0.01, 50), nothing)
    # At its own rate, 0.3 times the likelihood phase's unless it is given.
    assert built("continued", keys) == (at(0.3 * 0.01, 40), nothing)
    assert built("continued", keys | {"continued.learning_rate": 0.5}) == (at(0.5, 40), nothing)
    assert built("warmup", keys) == (nothing, at(0.02, 30))
    assert built("adversarial", keys) == (at(0.03, 20), at(0.04, 20))


def test_the_warm_up_of_continued_training_is_a_tenth_of_it_at_most() -> None:
    keys = BASE | {"likelihood.optimizer.warmup_steps": 20, "likelihood.optimizer.accumulate": 1}
    config, _, _ = built("continued", keys)[0]
    assert config.warmup_steps == 4


def test_an_optimiser_makes_as_many_steps_as_there_are_updates() -> None:
    keys = WHOLE | {
        "objective.estimator": {"kind": "ppo", "epochs": 3, "minibatches": 2},
        "adversarial.discriminator_updates": 5,
    }
    generator, discriminator = built("adversarial", keys)
    assert (generator[1], discriminator[1]) == (20 * 3 * 2, 20 * 5)


def test_a_frozen_discriminator_is_not_updated() -> None:
    assert built("adversarial", BASE | {"adversarial.freeze_discriminator": True})[1] == ("zero", 0)


@pytest.mark.parametrize("preset", ["dgsan", "jsdgan", "self_critic", "ebft", "gkd"])
def test_a_discriminator_that_no_step_trains_has_no_optimiser(preset: str) -> None:
    config = load_config(Path(phases.__file__).parents[1] / "configs" / f"{preset}.yaml")
    assert phases.optimizers_of(config, "adversarial")[1] is None
    assert set(learning_rates(config, "adversarial", 0)) == {"learning_rate"}


def test_an_estimator_counts_for_the_warm_up_as_far_as_it_says_how_many_texts_there_are() -> None:
    config = config_from(as_tree(WHOLE | {"objective.estimator": {"kind": "grpo", "samples": 3, "epochs": 2}}))
    game = game_of(config, "warmup", *networks(config.generator, config.discriminator, 0))
    assert isinstance(game.estimator, PolicyGradient)
    assert game.estimator.samples == 3
    assert game.estimator.init(8) is None, "its state is not carried"
    assert len(COUNTS) == len([x for x in PolicyGradient._field_defaults.values() if isinstance(x, int)])


def test_a_phase_without_steps_has_a_game_too() -> None:
    """A run builds all of them."""
    config = config_from(as_tree(WHOLE | {"warmup": {"steps": 0}, "likelihood.steps": 0, "continued.steps": 0}))
    for phase in PHASES:
        game = game_of(config, phase, *networks(config.generator, config.discriminator, 0))
        assert isinstance(game.generator_optimizer.init, Callable)  # type: ignore[arg-type]
        assert optax.GradientTransformation(game.generator_optimizer.init, game.generator_optimizer.update)


def updates_of(keys: Keys) -> Any:
    """All updates of an optimiser over 30 steps, in which gradients grow."""
    optimizer = phases.build_optimizer(OptimizerConfig(**OPTIMIZER | keys), 30)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}

    def step(state: Any, scale: jax.Array) -> tuple[Any, Any]:
        gradient = jax.tree.map(lambda x: scale * jnp.arange(1.0, 1 + x.size).reshape(x.shape), params)
        updates, state = optimizer.update(gradient, state, params)
        return state, updates

    return jax.jit(lambda: jax.lax.scan(step, optimizer.init(params), jnp.linspace(0, 0.3, 30))[1])()


@pytest.mark.cases(2)
@pytest.mark.parametrize("key", OPTIMIZERS)
def test_each_key_of_an_optimiser_changes_its_updates(key: str) -> None:
    before = {"frozen": ()} if key == "frozen" else {}
    assert same(updates_of(before), updates_of(before))
    assert not same(updates_of(before), updates_of(before | OPTIMIZERS[key]))


@pytest.mark.parametrize("phase", PHASES)
def test_a_constant_reward_has_the_discount_that_ones_own_estimator_says(phase: Phase) -> None:
    estimator = {"kind": "custom", "factory": "gptgan_jax:reinforce", "options": {"discount": 0.5}}
    config = config_from({"name": "x", "objective": {"reward": "constant", "estimator": estimator}})
    game = game_of(config, phase, *build_networks(config, Vocabulary(9)))
    assert constant_discount(game.reward) == 0.5
    game.check()
