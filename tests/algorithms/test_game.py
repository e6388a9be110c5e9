"""A game is refused for the numbers and the choices that a configuration is refused for, each in one line."""

import ast
import inspect
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import VOCABULARY

import gptgan_jax as gg
from gptgan_jax.algorithms import compatibility, gan
from gptgan_jax.algorithms.compatibility import Choices
from gptgan_jax.algorithms.game import Demonstrations, Game
from gptgan_jax.algorithms.gan import Gan, gan_of
from gptgan_jax.config import AdversarialPhase, ObjectiveConfig
from gptgan_jax.errors import UserError
from gptgan_jax.objectives import discrimination, rewards
from gptgan_jax.objectives.classification import ClassificationConfig, matching_features, naming_label
from gptgan_jax.objectives.discrimination import DIFFERENCES_ONLY, PAIR_LOSSES, build_pair_loss, pair_loss_name
from gptgan_jax.objectives.rewards import RewardName, build_reward, reward_name
from gptgan_jax.schema.ranges import DEMONSTRATIONS, GAME, POLICY_GRADIENT

GENERATOR = gg.build_generator(gg.LstmConfig(embedding=4, hidden=4), VOCABULARY)
LINEAR = gg.LinearConfig(embedding=4)
DISCRIMINATOR = gg.build_discriminator(LINEAR, VOCABULARY)
TRANSFORMER: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "max_positions": 16}
FLASH = gg.TransformerDiscriminatorConfig(**TRANSFORMER, attention="flash", dtype="bfloat16")
DISCRIMINATORS: dict[str, gg.Discriminator] = {
    "linear": DISCRIMINATOR,
    "bounded": gg.build_discriminator(gg.LinearConfig(embedding=4, spectral_norm=True), VOCABULARY),
    "classes": gg.build_discriminator(LINEAR, VOCABULARY, classes=3),
    "transformer": gg.build_discriminator(gg.TransformerDiscriminatorConfig(**TRANSFORMER), VOCABULARY),
    "flash": gg.build_discriminator(FLASH, VOCABULARY),
    "representations": gg.build_discriminator(gg.CnnConfig(embedding=4, representations=2), VOCABULARY),
    "own": DISCRIMINATOR._replace(config=None),  # type: ignore[arg-type]
}
SURPRISAL = gg.build_discriminator(gg.TransformerDiscriminatorConfig(**TRANSFORMER, surprisal=9.0), VOCABULARY)
DISCRIMINATORS |= {
    "windows": gg.in_windows(DISCRIMINATOR, 2),
    "surprisal": SURPRISAL,
    "surprising windows": gg.in_windows(SURPRISAL, 2),
    "foreign": SURPRISAL._replace(next_logits=None),
}
CNN = gg.CnnConfig(embedding=4, widths=(1, 2), filters=2, dropout=0.0)
READER = gg.build_generator(gg.LeakganConfig(embedding=4, units=4, goal=2, leaked=CNN), VOCABULARY)
DISCRIMINATORS |= {"read": gg.build_discriminator(replace(CNN, dropout=0.3), VOCABULARY)}
DISCRIMINATORS |= {"wider": gg.build_discriminator(replace(CNN, filters=3), VOCABULARY)}
LEAKING: dict[str, Any] = {"generator": READER, "discriminator": "read", "estimator": gg.guided(2), "dense": False}
LESSON = Demonstrations(0.5, 1.0, 10)
PAID = (gg.TextReward("one", lambda written, batch: jnp.ones(written.mask.shape[0])),)


def gan_of_options(options: dict[str, Any]) -> Gan:
    options = dict(options)
    generator = options.pop("generator", GENERATOR)
    return gg.gan_from(generator, DISCRIMINATORS[options.pop("discriminator", "linear")], **options)


def refusal(options: dict[str, Any]) -> str | None:
    try:
        gan_of_options(options)
    except ValueError as error:
        return str(error)
    return None


# ---- numbers

NUMBERS = (-math.inf, -1, -1e-9, 0, 1e-9, 0.5, 0.999, 1, 2, 3, 7, 10**9, math.inf, math.nan)
KEYS: dict[str, tuple[Any, str]] = {
    **{name: (ObjectiveConfig, name) for name in GAME},
    "class_weight": (ClassificationConfig, "weight"),
    "real_fake_weight": (ClassificationConfig, "real_fake_weight"),
    "discriminator_updates": (AdversarialPhase, "discriminator_updates"),
    "ema_decay": (AdversarialPhase, "ema_decay"),
}


@pytest.mark.parametrize("name", GAME)
def test_a_game_takes_the_numbers_that_a_config_takes_and_no_others(name: str) -> None:
    section, key = KEYS[name]
    # What the attribute needs beside it.
    beside: dict[str, Any] = {"replay_share": {"replay_size": 4}}.get(name, {})
    beside |= {"discriminator": "classes"} if name == "class_weight" else {}
    beside |= {"discriminator": "transformer"} if name == "next_token_weight" else {}
    beside |= {"discriminator": "classes", "class_weight": 1.0} if name == "real_fake_weight" else {}
    beside |= MMD if name == "mmd_weight" else {}
    beside |= {"text_rewards": PAID} if name == "discriminator_reward_weight" else {}
    beside |= {"text_rewards": PAID, "estimator": gg.rloo(2)} if name == "resample_groups" else {}
    for number in NUMBERS:
        try:
            section(**{key: number})
            taken = True
        except UserError:
            taken = False
        says = refusal({**beside, name: number})
        assert (says is None) == taken, (number, says)
        assert says is None or re.fullmatch(rf"{name} should be {GAME[name]}( and finite)?, not {number}", says)


def test_every_number_of_a_game_has_a_range() -> None:
    numbers = {name for name, default in Game._field_defaults.items() if type(default) in (int, float)}
    assert numbers == GAME.keys()
    assert {name for name, kind in Demonstrations.__annotations__.items() if kind in (int, gg.Number)} == set(
        DEMONSTRATIONS
    )
    numbers = {name for name, default in gg.PolicyGradient._field_defaults.items() if type(default) is int}
    assert numbers == POLICY_GRADIENT.keys()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"demonstrations": Demonstrations(1.0, 1.0, 5)}, "demonstrations.share should be at least 0 and"),
        ({"demonstrations": Demonstrations(0.5, math.nan, 5)}, "demonstrations.reward should be a finite"),
        ({"demonstrations": Demonstrations(0.5, 1.0, 0)}, "demonstrations.steps should be a whole"),
        ({"estimator": gg.reinforce()._replace(samples=0)}, "estimator.samples should be a whole number"),
        ({"estimator": gg.ppo()._replace(epochs=1.5)}, "estimator.epochs should be a whole number"),
        ({"estimator": gg.ppo()._replace(rollouts=-1), "dense": False}, "estimator.rollouts should be a whole number"),
        ({"kl_estimator": "other"}, "kl_estimator should be one of exact, low_variance, reward, not 'other'"),
    ],
)  # fmt: skip
def test_the_numbers_of_its_parts_have_ranges_too(options: dict[str, Any], says: str) -> None:
    assert str(refusal(options)).startswith(says)


@pytest.mark.parametrize(
    "options", [{"entropy_weight": "0.1"}, {"ema_decay": None}, {"estimator": gg.reinforce}, {"temperature": True}]
)
def test_what_is_of_another_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="should be"):
        gan_of_options(options)


# ---- choices

SELF_PLAY = {"estimator": gg.spin()}
MEDIATED: dict[str, Any] = {"estimator": gg.cot(), "discriminator": "transformer"}
DISTILLING = {"estimator": gg.distill(), "teacher": GENERATOR}
MMD: dict[str, Any] = {"reward": rewards.mmd((1.0, 2.0)), "dense": False}
NOVELTY: dict[str, Any] = {"discriminator": "surprisal", "pair_loss": gg.wasserstein, "reward": rewards.logit}
WEIGHING: dict[str, Any] = {"estimator": gg.maligan(2), "reward": rewards.logit, "dense": False}
MATCHING_FEATURES = naming_label(matching_features(rewards.sigmoid, 0.1), 0.1)
MATCHING = {"estimator": gg.feature_matching(), "reward": rewards.logit, "dense": False}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (SELF_PLAY | {"pair_loss": gg.wasserstein, "reward": rewards.logit}, "pair_loss should be non_saturating"),
    (SELF_PLAY | {"discriminator_updates": 2}, "no discriminator: discriminator_updates should be 1"),
    (SELF_PLAY | {"r1_weight": 1.0}, "no discriminator: r1_weight should be 0"),
    (SELF_PLAY | {"replay_size": 4}, "no discriminator: replay_size should be 0"),
    (SELF_PLAY | {"class_weight": 1.0, "discriminator": "classes"}, "no discriminator: class_weight should be 0"),
    (SELF_PLAY | {"pair_loss": build_pair_loss("relativistic", 0.1)}, "no discriminator: label_smoothing should be 0"),
    (SELF_PLAY | {"reward": rewards.random}, "reward random would change nothing and is no control of it"),
    (SELF_PLAY | {"kl_weight": 0.1}, "self-play is held by its own reference: kl_weight should be 0"),
    (SELF_PLAY | {"demonstrations": LESSON}, "in every step: demonstrations should be None"),
    (SELF_PLAY | {"likelihood_weight": 0.1}, "from real text in every step: likelihood_weight should be 0"),
    (DISTILLING | {"r1_weight": 1.0}, "that distils has no discriminator: r1_weight should be 0"),
    (DISTILLING | {"reward": rewards.random}, "reward random would change nothing and is no control of it"),
    (DISTILLING | {"entropy_weight": 0.1}, "a teacher says how likely every token is: entropy_weight should be 0"),
    (DISTILLING | {"demonstrations": LESSON}, "by its on_policy: lower that, and set demonstrations to None"),
    (DISTILLING | {"text_rewards": PAID}, "learns from likelihoods and is paid nothing: leave text_rewards out"),
    (MATCHING | {"r1_weight": 1.0}, "that matches features has no discriminator: r1_weight should be 0"),
    (MATCHING | {"reward": rewards.sigmoid}, "pays for features as they are: set reward to logit, or to a control"),
    (MATCHING | {"demonstrations": LESSON}, "compares a prompt's texts with its real one; set demonstrations to None"),
    (MATCHING | {"text_rewards": PAID}, "is paid by features alone: leave text_rewards out"),
    (MATCHING | {"dense": True}, "scores whole texts; set dense to false"),
    ({"pair_loss": gg.hinge}, "reward sigmoid reads the score as log-odds; with pair_loss hinge it is a margin"),
    ({"reward": rewards.log_ratio, "dense": False}, "reward log_ratio is what a token adds, and with dense"),
    (
        {"pair_loss": gg.wasserstein, "reward": rewards.logit},
        "pair_loss wasserstein needs a discriminator of bounded slope: set gradient_penalty_weight (10 is usual) or",
    ),
    ({"pair_loss": gg.wasserstein, "reward": rewards.logit, "r1_weight": 1.0}, "of bounded slope"),
    ({"next_token_weight": 0.1}, "next_token_weight needs a Transformer discriminator"),
    ({"discriminator": "flash", "r2_weight": 1.0}, "r2_weight needs second derivatives"),
    ({"real_fake_weight": 0.0}, "class_weight and real_fake_weight are both 0: nothing would train the discriminator"),
    ({"class_weight": 1.0}, "class_weight needs a discriminator with classes: build_discriminator(..., classes=K)"),
    (
        {"class_weight": 1.0, "discriminator": "classes", "pair_loss": gg.relativistic},
        "class_weight gives the discriminator classes: their log-sum-exp is the log-odds of real text, set pair_loss",
    ),
    (
        {"class_weight": 1.0, "discriminator": "classes", "real_fake_weight": 0.0, "gradient_penalty_weight": 1.0},
        "real_fake_weight 0 learns from labels alone: set gradient_penalty_weight to 0",
    ),
    (
        {"reward": rewards.random, "demonstrations": LESSON},
        "reward random is a control only without demonstrations; set demonstrations to None",
    ),
    ({"discriminator": "representations"}, "discriminator.representations 2 judge whole texts: set dense to false"),
    ({"estimator": gg.cot()}, "in the discriminator's place: needs a Transformer discriminator"),
    (
        MEDIATED | {"pair_loss": gg.wasserstein, "reward": rewards.logit, "gradient_penalty_weight": 1.0},
        "set pair_loss to non_saturating",
    ),
    (MEDIATED | {"next_token_weight": 0.1}, "in the discriminator's place: set next_token_weight to 0"),
    (MEDIATED | {"replay_size": 4}, "in the discriminator's place: set replay_size to 0"),
    (MEDIATED | {"reward": rewards.random}, "random is no control of it; a frozen discriminator is"),
    (MEDIATED | {"demonstrations": LESSON}, "it has read the real texts already; set demonstrations to None"),
    (MEDIATED | {"text_rewards": PAID}, "nothing is paid; leave text_rewards out"),
    (
        MEDIATED | {"kl_weight": 0.1, "kl_estimator": "reward"},
        "in the discriminator's place: set kl_estimator to exact or low_variance",
    ),
    ({"estimator": gg.rollout(2)}, "estimator (PolicyGradient) scores whole texts; set dense to false"),
    ({"estimator": gg.maligan(2)}, "scores whole texts; set dense to false"),
    ({"estimator": gg.weighted_likelihood(2)}, "scores whole texts; set dense to false"),
    (
        {"estimator": gg.maligan(2), "dense": False},
        "estimator (PolicyGradient) weighs texts by D/(1 - D); set reward to logit",
    ),
    ({"estimator": gg.weighted_likelihood(2), "dense": False}, "weighs texts by D; set reward to log_sigmoid"),
    (WEIGHING | {"pair_loss": gg.hinge}, "needs D to be a probability: set pair_loss to non_saturating"),
    (WEIGHING | {"demonstrations": LESSON}, "weighs what the generator wrote against each other; set"),
    (WEIGHING | {"text_rewards": PAID}, "weighs texts by what the discriminator says of them: set each weight"),
    (SELF_PLAY | {"reward": rewards.constant(1.0)}, "reward constant would change nothing and is no control of it"),
    (
        {"pair_loss": gg.wasserstein, "reward": rewards.relative(rewards.sigmoid), "discriminator": "bounded"},
        "reward sigmoid reads the score as log-odds",
    ),
    ({"reward": rewards.relative(rewards.log_ratio), "dense": False}, "with dense false it equals logit; use that"),
    ({"reward": rewards.relative(rewards.formula("s - s_prev")), "dense": False}, "reads s alone, their score: set"),
    ({"estimator": gg.ppo(ratio="sequence")}, "scores whole texts; set dense to false"),
    ({"estimator": gg.grpo(ratio="sequence")}, "scores whole texts; set dense to false"),
    (
        {"estimator": gg.rollout(2), "dense": False, "kl_weight": 0.1, "kl_estimator": "reward"},
        "takes values of tokens, not rewards that add up; set kl_estimator to exact or low_variance",
    ),
    (MMD | {"estimator": gg.rollout(2)}, "use an estimator without rollouts, such as reinforce, in place of estimator"),
    (
        {"estimator": gg.rollout(2), "dense": False, "reward": MATCHING_FEATURES},
        "reward matching_features compares the texts of a step, and continuations of one text are alike: use an",
    ),
    (
        {"estimator": gg.penalised(2), "dense": False, "reward": rewards.constant(1.0)},
        "constant is no control of estimator (PolicyGradient), which weighs each token by its own probability",
    ),
    (
        {"estimator": gg.reinforce(0.5), "reward": rewards.constant(0.5), "dense": False},
        "reward constant with dense false or a window needs the estimator's discount 1: a discounted end",
    ),
    (
        {"estimator": gg.grpo(2, 0.5), "reward": rewards.relative(rewards.constant(0.5)), "discriminator": "windows"},
        "with dense false or a window needs the estimator's discount 1",
    ),
    (
        {"estimator": gg.ppo(0.5), "reward": rewards.constant(1.0)},
        "reward constant(1) is a control only with the estimator's discount 1, not 0.5",
    ),
    ({"estimator": gg.rloo(2), "reward": rewards.constant(0.5)}, "constant(0.5) is a control only with the"),
    (
        {"class_weight": 1.0, "discriminator": "classes", "reward": rewards.penalty},
        "reward penalty reads the class of a text, and a part of one has no class logits: set dense to false",
    ),
    ({"discriminator": "classes", "reward": rewards.relative(rewards.penalty)}, "no class logits: set dense to false"),
    (MMD | {"discriminator": "representations"}, "one set of features: set discriminator.representations to 1"),
    ({"reward": rewards.formula("s * mean"), "dense": False}, "of whole texts reads s alone, their score: set"),
    ({"discriminator": "windows", "estimator": gg.spin()}, "has no discriminator that judges; set it to 0"),
    ({"discriminator": "windows", "dense": False}, "they are scored at their ends, set dense to true"),
    ({"discriminator": "windows", "reward": rewards.log_ratio}, "reward log_ratio is of whole texts, choose another"),
    (
        {"discriminator": "windows", "reward": rewards.relative(rewards.formula("s - s_prev"))},
        "s_prev of reward formula is the score of another one, leave it out",
    ),
    ({"discriminator": "windows", "class_weight": 1.0}, "no class is told of one, set class_weight to 0"),
    (NOVELTY | {"pair_loss": gg.relativistic}, "which are no log-odds: set pair_loss to wasserstein or hinge"),
    (NOVELTY | {"estimator": gg.gumbel()}, "which no relaxed token has: use an estimator by policy gradients"),
    (NOVELTY | {"r2_weight": 0.1}, "of tokens and not of embeddings: set r2_weight to 0"),
    (NOVELTY | {"discriminator": "surprising windows"}, "a window's end has those of one token alone: set window to 0"),
    (NOVELTY | MMD, "and gives no features: choose another reward than mmd"),
    (NOVELTY | {"class_weight": 0.1}, "and has no head for classes: set class_weight to 0"),
    (NOVELTY | {"discriminator": "foreign"}, "which this network is not: it needs a Transformer"),
    ({"estimator": gg.guided(2), "dense": False}, "trains a manager's goals, which only a generator of kind"),
    (LEAKING | {"reward": rewards.random}, "is no control of estimator (PolicyGradient); a frozen discriminator is"),
    (LEAKING | {"discriminator": "linear"}, "generator leakgan reads a cnn's features: set discriminator to a cnn"),
    (LEAKING | {"discriminator": "wider"}, "generator.leaked should be the discriminator's network, without its"),
    (LEAKING | {"dense": True}, "scores whole texts; set dense to false"),
    ({"mmd_weight": 0.1}, "mmd_weight is for reward mmd: choose that, or set it to 0"),
    ({"estimator": gg.gumbel(), "demonstrations": LESSON}, "has no rewards to give demonstrations; set"),
    (SELF_PLAY | {"text_rewards": PAID}, "learns from likelihoods and is paid nothing: leave text_rewards out"),
    (
        {"estimator": gg.gumbel(), "text_rewards": PAID},
        "estimator (Pathwise) differentiates the discriminator, and a function of texts has no gradient: leave",
    ),
    ({"discriminator_reward_weight": 0.0}, "none with a weight: set discriminator_reward_weight to 1"),
    ({"reward_scaling": "batch"}, "none with a weight: reward_scaling batch has nothing to put on one scale"),
    ({"resample_groups": 1, "estimator": gg.rloo(2)}, "none with a weight: resample_groups looks at what they pay"),
    ({"resample_groups": 1, "text_rewards": PAID}, "estimator (PolicyGradient) writes one: use several samples"),
    (
        {"estimator": gg.gumbel(), "kl_weight": 0.1, "kl_estimator": "reward"},
        "estimator (Pathwise) has no rewards; set kl_estimator to exact or low_variance",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_choices_that_do_not_go_together_are_refused(options: dict[str, Any], says: str) -> None:
    found = refusal(options)
    assert found is not None
    assert says in found
    assert "\n" not in found


@pytest.mark.thorough
def test_every_rule_refuses_some_game() -> None:
    """Each `yield` of compatibility.py, its f-string made a pattern."""
    said = [refusal(options) or "" for options, _ in REFUSED]
    tree = ast.parse(Path(compatibility.__file__).read_text(encoding="utf-8"))
    patterns = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else None for part in node.value.values)
            patterns.append(".*".join("" if part is None else re.escape(part) for part in parts))
    assert len(patterns) >= 20
    assert [pattern for pattern in patterns if not any(re.search(pattern, one) for one in said)] == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pair_loss": gg.wasserstein, "reward": rewards.logit, "gradient_penalty_weight": 10.0},
        {"pair_loss": gg.wasserstein, "reward": rewards.logit, "discriminator": "bounded"},
        {"pair_loss": gg.wasserstein, "reward": rewards.logit, "discriminator": "own"},
        {"pair_loss": lambda *scores: gg.wasserstein(*scores), "reward": rewards.logit},  # who clips weights, say
        {"pair_loss": gg.hinge, "reward": rewards.logit},
        {"pair_loss": gg.hinge, "reward": lambda judgement, key: rewards.sigmoid(judgement, key)},
        {"pair_loss": build_pair_loss("relativistic", 0.1)},
        {"estimator": gg.maligan(2), "reward": rewards.logit, "dense": False},
        {"estimator": gg.ppo(ratio="sequence"), "dense": False},
        {"next_token_weight": 0.1, "discriminator": "transformer"},
        {"discriminator": "flash"},
        SELF_PLAY,
        MEDIATED,
        {"discriminator": "representations", "dense": False},
        MMD | {"mmd_weight": 0.1},
        {"discriminator": "windows"},
        {"discriminator": "windows", "estimator": gg.gumbel()},
        NOVELTY,
        NOVELTY | {"estimator": gg.rollout(2), "dense": False},
        {"reward": rewards.formula("tanh(s) - s_prev")},
        {"reward": rewards.formula("s - mean"), "discriminator": "windows"},
        {"reward": MATCHING_FEATURES, "dense": False},
        {"reward": rewards.random, "estimator": gg.penalised(2), "dense": False},
        {"reward": rewards.constant(0.5), "estimator": gg.reinforce(0.5)},
        {"reward": rewards.constant(1.0), "estimator": gg.grpo(2, ratio="sequence"), "dense": False},
        {"reward": rewards.constant(1.0), "estimator": gg.rollout(2), "dense": False},
        {"reward": rewards.constant(1.0), "discriminator": "windows"},
        {"reward": rewards.constant(jnp.float32(0.23)), "estimator": gg.reinforce(0.23)},
        {"class_weight": 1.0, "discriminator": "classes", "reward": rewards.penalty, "dense": False},
        {"reward": rewards.penalty},
        {"reward": rewards.formula("0.5 * s"), "dense": False},
        MMD | {"estimator": gg.gumbel(), "dense": True},
        DISTILLING | {"likelihood_weight": 0.1},
        MATCHING,
        LEAKING,
        LEAKING | {"discriminator": "own"},
        LEAKING | {"estimator": gg.rollout(2), "reward": rewards.constant(1.0)},
        MATCHING | {"reward": rewards.random, "likelihood_weight": 0.1, "kl_weight": 0.1},
    ],
)
def test_choices_that_go_together_are_not(options: dict[str, Any]) -> None:
    assert refusal(options) is None


def test_the_rules_know_losses_and_rewards_by_their_functions() -> None:
    for name, loss in PAIR_LOSSES.items():
        assert pair_loss_name(loss) == (name, 0.0)
    for name in discrimination.SMOOTHABLE:
        assert pair_loss_name(build_pair_loss(name, 0.2)) == (name, 0.2)
    own = lambda *scores: jnp.float32(0)  # noqa: E731
    assert pair_loss_name(own) == (None, 0.0)
    for reward in get_args(RewardName):
        assert reward_name(build_reward(reward, 1.0)) == reward
        assert reward_name(rewards.relative(build_reward(reward, 1.0))) == reward
    assert reward_name(rewards.relative(lambda judgement, key: judgement.fake)) is None
    assert PAIR_LOSSES.keys() >= DIFFERENCES_ONLY


def test_the_rules_look_at_attributes_of_a_game_by_their_names() -> None:
    own = {
        "estimator_name",
        "label_smoothing",
        "bounded_slope",
        "has_second_derivatives",
        "no_next_token",
        "has_classes",
        "representations",
        "surprisal",
        "window",
        "reads_prefixes",
        "discount",
        "constant_discount",
        "matches_features",
        "paying_rewards",
        "no_features",
        "has_goals",
    }
    assert set(Choices._fields) - own - {"key", "no_demonstrations"} <= set(Game._fields)


def test_gan_from_names_every_attribute_of_a_game_with_its_default() -> None:
    parameters = inspect.signature(gg.gan_from).parameters
    assert tuple(parameters) == (*Game._fields, "start")  # what `init` begins with is no part of the game
    for name, default in Game._field_defaults.items():
        assert parameters[name].default is default or parameters[name].default == default, name
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", Game._fields[2:])
def test_gan_from_hands_every_argument_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan, "gan_of", lambda game: game)
    given: Any = object()
    game: Any = gg.gan_from(GENERATOR, DISCRIMINATOR, **{name: given})
    assert {field for field in Game._fields if getattr(game, field) is given} == {name}


def test_a_gan_of_a_game_is_that_of_its_options() -> None:
    options: dict[str, Any] = {"estimator": gg.grpo(2), "entropy_weight": 0.1, "generator_optimizer": optax.sgd(0.1)}
    batch = gg.unconditional_batch(jnp.ones((2, 3), jnp.int32) * 4, VOCABULARY)
    made = [gg.gan_from(GENERATOR, DISCRIMINATOR, **options), gan_of(Game(GENERATOR, DISCRIMINATOR, **options))]
    states = [one.init(jax.random.key(0), batch) for one in made]
    programs = [str(jax.make_jaxpr(g.adversarial_step)(s, batch)) for g, s in zip(made, states, strict=True)]
    assert re.sub("0x[0-9a-f]+", "", programs[0]) == re.sub("0x[0-9a-f]+", "", programs[1])
    with pytest.raises(ValueError, match="ema_decay should be at least 0 and below 1, not 2"):
        gan_of(Game(GENERATOR, DISCRIMINATOR, ema_decay=2))


def test_features_need_a_generator_whose_layers_have_names() -> None:
    with pytest.raises(UserError, match="this generator names none: give it `depths`"):
        gg.gan_from(GENERATOR._replace(depths=None), DISCRIMINATOR, **MATCHING)
