"""Every combination of a config's choices trains, or is refused with the keys to change.

A choice is a value on each axis of `AXES`. What is allowed is said a second time here, in `RULES`, and compared with
what `Config` accepts: a rule that is lost there or too strict makes a difference. All combinations of estimator, loss,
reward and `dense` are then traced without being compiled. Of all axes together, rows are trained in which every two
choices that go together meet (`pairwise_rows`); these run operation by operation, for compiling each would take
minutes, with networks and sampler compiled once.
"""

import ast
import functools
import gc
import itertools
import random
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from helpers import batch_of, padded, random_params

from gptgan_jax import (
    Batch,
    Discriminator,
    GanState,
    Generator,
    Vocabulary,
    build_discriminator,
    build_generator,
)
from gptgan_jax.algorithms import texts as texts_of_a_step
from gptgan_jax.cli import main
from gptgan_jax.config import Config, compatibility, data_compatibility
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.files import load_config
from gptgan_jax.errors import UserError
from gptgan_jax.text_rewards.config import unpaid
from gptgan_jax.training.phases import build_gan

# ---- the axes

P, T, VOCABULARY = 2, 3, Vocabulary(5)
BASELINES = ("moving_average", "learned", "leave_one_out", "none")
# The options of each kind of estimator; the first of each is the usual one.
ESTIMATORS: dict[str, dict[str, tuple]] = {
    "reinforce": {"baseline": BASELINES, "discount": (1.0, 0.5)},
    "rollout": {"baseline": BASELINES},
    "sentigan": {},
    "leakgan": {"baseline": BASELINES},
    "rloo": {"samples": (2,), "discount": (1.0, 0.5)},
    "ppo": {"baseline": BASELINES, "ratio": ("token", "sequence"), "discount": (1.0, 0.5)},
    "grpo": {"samples": (2,), "deviation": (True, False), "ratio": ("token", "sequence"), "discount": (1.0, 0.5)},
    "maligan": {"samples": (1, 2)},
    "weighted_likelihood": {"samples": (1, 2)},
    "gumbel": {"relaxation": ("straight_through", "soft", "averaged")},
    "cot": {"future": (False, True)},
    "dgsan": {},
    "jsdgan": {},
    "self_critic": {},
    "spin": {},
    "feature_matching": {"samples": (3,), "whitening": ("real", "group", "none"), "length": (None, 2)},
    "distill": {"on_policy": (1.0, 0.5, 0.0)},
    "custom": {"factory": ("reinforce", "gumbel", "spin")},
}
OPTIONS = (
    "baseline", "discount", "samples", "ratio", "deviation", "relaxation", "future", "whitening", "length", "on_policy",
    "factory",
)  # fmt: skip
LOSSES = ("non_saturating", "hinge", "relativistic", "relativistic_tie", "wasserstein")
REWARDS = (
    "sigmoid", "logit", "log_sigmoid", "softplus", "penalty", "log_ratio", "pair_probability", "log_pair_probability",
    "ranked", "mmd", "formula",
    "constant", "random",
)  # fmt: skip
TRANSFORMER = {"kind": "transformer", "layers": 1, "width": 4, "heads": 1, "max_positions": 8}
LSTM = {"kind": "lstm", "embedding": 4, "hidden": 4}
GENERATORS: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "transformer_encoder_decoder": TRANSFORMER | {"encoder_layers": 1},
    "lstm": LSTM,
    "lstm_encoder_decoder": LSTM | {"encoder_layers": 1},
    "relational": {"kind": "relational", "embedding": 4, "heads": 2, "head_width": 2},
    "leakgan": {"kind": "leakgan", "embedding": 4, "units": 4, "goal": 2, "horizon": 2},
}
DISCRIMINATORS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "embedding": 4},
    "mlp": {"kind": "mlp", "embedding": 4, "hidden": 4, "layers": 1},
    "cnn": {"kind": "cnn", "embedding": 4, "widths": [1, 2], "filters": 2},
    "representations": {"kind": "cnn", "embedding": 4, "widths": [1, 2], "filters": 2, "representations": 2},
    "transformer": TRANSFORMER,
    "surprisal": TRANSFORMER | {"surprisal": 3.0},
}
# The first value of each regulariser is "without".
REGULARISERS: dict[str, tuple] = {
    "label_smoothing": (0.0, 0.1),
    "entropy_weight": (0.0, 0.1),
    "likelihood_weight": (0.0, 0.1),
    "kl": ("none", "exact", "low_variance", "reward"),
    "penalty": ("none", "r1_weight", "r2_weight", "gradient_penalty_weight"),
    "next_token_weight": (0.0, 0.5),
    "replay_size": (0, 8),
    "demonstration_share": (0.0, 0.5),
    "paid": ("nothing", "measured", "beside", "alone"),
    "mmd_weight": (0.0, 0.1),
    "window": (0, 2),
    "discriminator_updates": (1, 2),
    "ema_decay": (0.0, 0.9),
    "frozen": ("nothing", "generator", "discriminator"),
    "freeze_discriminator": (False, True),
}
LEAKING = {"generator": "leakgan", "discriminator": "cnn", "spectral_norm": False}
Choice = dict[str, Any]


def variants(kind: str) -> list[Choice]:
    """The estimators of a kind: every combination of its options, the others None."""
    of = ESTIMATORS[kind]
    return [
        {"estimator": kind, **dict.fromkeys(OPTIONS), **dict(zip(of, values, strict=True))}
        for values in itertools.product(*of.values())
    ]


def unusual(variant: Choice) -> int:
    """How many options of an estimator are not the first of their kind."""
    return sum(variant[name] != values[0] for name, values in ESTIMATORS[variant["estimator"]].items())


EVERY_ESTIMATOR = [variant for kind in ESTIMATORS for variant in variants(kind)]
# Those of the rows: one's own estimator is the same function as its kind, and averaged draws are only traced.
IN_ROWS = [v for v in EVERY_ESTIMATOR if v["factory"] in (None, "reinforce") and v["relaxation"] != "averaged"]
AXES: dict[str, tuple] = {
    "estimator": tuple(ESTIMATORS),
    **{option: tuple(dict.fromkeys(v[option] for v in IN_ROWS if v[option] is not None)) for option in OPTIONS},
    "pair_loss": LOSSES,
    "reward": REWARDS,
    "dense": (True, False),
    "generator": tuple(GENERATORS),
    "discriminator": tuple(DISCRIMINATORS),
    "spectral_norm": (False, True),
    "prompts": (False, True),
    **REGULARISERS,
}
OBJECTIVE = (
    "pair_loss", "reward", "dense", "label_smoothing", "entropy_weight", "likelihood_weight", "next_token_weight",
    "replay_size", "demonstration_share", "residual_candidates", "mmd_weight",
    "window",
)  # fmt: skip
ADVERSARIAL = ("discriminator_updates", "ema_decay", "freeze_discriminator")
USUAL: dict[str, Any] = {
    "dense": True, "generator": "lstm", "discriminator": "linear", "spectral_norm": False, "prompts": False,
    "batch_size": 4, "warmup_steps": 0, "minibatches": 1, "residual_candidates": 0, "prompt_column": None,
    "untied": None, "context": 0, "teacher": "hf:teacher", "mmd_weight": 0.0,
    "formula": "s", "window": 0,
    **{name: values[0] for name, values in REGULARISERS.items()},
}  # fmt: skip


def choices(estimators: list[Choice]) -> list[Choice]:
    """Estimators x losses x rewards x dense; Wasserstein's critic is given what it needs, a mediator is a Transformer,
    and LeakGAN's estimator has its generator."""
    return [
        {
            **USUAL, **estimator, "pair_loss": loss, "reward": reward, "dense": dense,
            "spectral_norm": loss == LOSSES[-1], "discriminator": "transformer" if mediated(estimator) else "linear",
        }
        | (LEAKING | ({"penalty": "gradient_penalty_weight"} if loss == LOSSES[-1] else {}) if goals(estimator) else {})
        for estimator, loss, reward, dense in itertools.product(estimators, LOSSES, REWARDS, (True, False))
    ]  # fmt: skip


# ---- what is allowed


SELF_PLAY = ("spin", "dgsan", "jsdgan", "self_critic")


def self_play(c: Choice) -> bool:
    return c["estimator"] in SELF_PLAY or (c["estimator"] == "custom" and c["factory"] == "spin")


def mediated(c: Choice) -> bool:
    return c["estimator"] == "cot"


def matching(c: Choice) -> bool:
    return c["estimator"] == "feature_matching"


def surprised(c: Choice) -> bool:
    return c["discriminator"] == "surprisal" and not undiscriminated(c) and not mediated(c)


def judged(c: Choice) -> bool:
    """Whether a discriminator scores texts, as far as a config tells: what one's own estimator is, it does not."""
    return c["estimator"] == "custom" or not (undiscriminated(c) or mediated(c))


def undiscriminated(c: Choice) -> bool:
    return self_play(c) or matching(c) or distils(c)


def distils(c: Choice) -> bool:
    return c["estimator"] == "distill"


def pathwise(c: Choice) -> bool:
    return c["estimator"] == "gumbel" or (c["estimator"] == "custom" and c["factory"] == "gumbel")


def rollouts(c: Choice) -> bool:
    return c["estimator"] in ("rollout", "sentigan", "leakgan") or (
        c["estimator"] == "custom" and c["factory"] == "rollout"
    )


def goals(c: Choice) -> bool:
    return c["estimator"] == "leakgan"


def likelihood_of_written(c: Choice) -> bool:
    return c["estimator"] in ("maligan", "weighted_likelihood")


def texts(c: Choice) -> int:
    return c["batch_size"] * (c["samples"] or 1)


class Rule(NamedTuple):
    """What does not go together, why in plain words, and what the message must hold: keys, and what would be right."""

    why: str
    broken: Callable[[Choice], Any]
    says: tuple[str, ...]


RULES = (
    Rule(
        "a margin is no log-odds: no probability can be read off it",
        lambda c: (
            c["pair_loss"] in ("hinge", "wasserstein")
            and c["reward"] not in ("logit", "ranked", "mmd", "formula", "constant", "random")
        ),
        ("objective.reward", "objective.pair_loss", "use reward logit or ranked"),
    ),
    Rule(
        "what a token adds is not asked where whole texts are judged",
        lambda c: c["reward"] == "log_ratio" and not c["dense"],
        ("objective.reward log_ratio", "dense false", "logit"),
    ),
    Rule(
        "parts of an embedding judge whole texts",
        lambda c: c["discriminator"] == "representations" and c["dense"],
        ("discriminator.representations", "set objective.dense to false"),
    ),
    Rule(
        "a formula stands where it is asked for",
        lambda c: c["formula"] is None if c["reward"] == "formula" else c["formula"] not in (None, "s"),
        ("objective.reward formula", "objective.reward_formula", "set both, or drop both"),
    ),
    Rule(
        "a whole text has one score",
        lambda c: c["reward"] == "formula" and c["formula"] not in ("s", None) and not c["dense"],
        ("objective.reward formula", "set objective.dense to true"),
    ),
    Rule(
        "a window's score stands at its end",
        lambda c: c["window"] and not c["dense"] and judged(c),
        ("objective.window", "set objective.dense to true"),
    ),
    Rule(
        "a window is no whole text",
        lambda c: c["window"] and c["reward"] in ("log_ratio", "mmd") and judged(c),
        ("objective.window", "is of whole texts, choose another"),
    ),
    Rule(
        "the token before a window is another window's",
        lambda c: c["window"] and c["reward"] == "formula" and "s_prev" in (c["formula"] or "") and judged(c),
        ("objective.window", "s_prev of objective.reward formula", "leave it out"),
    ),
    Rule(
        "no discriminator: no windows for it",
        lambda c: c["window"] and (undiscriminated(c) or mediated(c)),
        ("objective.window", "set it to 0"),
    ),
    Rule(
        "an energy is that of a whole text",
        lambda c: c["window"] and c["residual_candidates"] and not undiscriminated(c),
        ("objective.residual_candidates", "set objective.window to 0"),
    ),
    Rule(
        "scores that are fixed at each position alone are no energy of texts of any length",
        lambda c: (
            c["residual_candidates"] and c["pair_loss"] == "relativistic" and c["dense"] and not undiscriminated(c)
        ),
        ("objective.residual_candidates", "set objective.dense to false"),
    ),
    Rule(
        "a window's end has the nats of one token",
        lambda c: surprised(c) and c["window"],
        ("discriminator.surprisal", "set objective.window to 0"),
    ),
    Rule(
        "what weighs a token by its own probability learns from a constant",
        lambda c: c["estimator"] == "sentigan" and c["reward"] == "constant",
        ("objective.reward constant is no control", "set objective.reward to random"),
    ),
    # LeakGAN's generator reads the features of the discriminator.
    Rule(
        "only who has a manager has goals",
        lambda c: goals(c) and c["generator"] != "leakgan",
        ("objective.estimator leakgan", "only a generator of kind leakgan has"),
    ),
    Rule(
        "goals are among a cnn's features",
        lambda c: c["generator"] == "leakgan" and c["discriminator"] not in ("cnn", "representations"),
        ("generator leakgan reads a cnn's features", "set discriminator to a cnn"),
    ),
    Rule(
        "one set of features is read",
        lambda c: c["generator"] == "leakgan" and c["discriminator"] == "representations",
        ("generator: leaked", "set representations to 1"),
    ),
    Rule(
        "the weights are read as they are",
        lambda c: (
            c["generator"] == "leakgan" and c["discriminator"] in ("cnn", "representations") and c["spectral_norm"]
        ),
        ("generator: leaked", "set spectral_norm to false"),
    ),
    Rule(
        "who reads features learns from them, whatever is paid",
        lambda c: goals(c) and c["reward"] in ("constant", "random"),
        ("is no control of objective.estimator leakgan", "a frozen discriminator is"),
    ),
    Rule(
        "nats are no log-odds",
        lambda c: surprised(c) and c["pair_loss"] not in ("wasserstein", "hinge"),
        ("discriminator.surprisal", "set objective.pair_loss to wasserstein or hinge"),
    ),
    Rule(
        "a relaxed token has no surprisal",
        lambda c: surprised(c) and pathwise(c),
        ("discriminator.surprisal", "an estimator by policy gradients"),
    ),
    Rule(
        "nats are of tokens",
        lambda c: surprised(c) and c["penalty"] != "none",
        ("discriminator.surprisal", "to 0"),
    ),
    Rule(
        "a language model has no features of texts",
        lambda c: surprised(c) and c["reward"] == "mmd",
        ("discriminator.surprisal", "choose another objective.reward than mmd"),
    ),
    Rule(
        "a language model's output layer is its embeddings",
        lambda c: surprised(c) and c["untied"],
        ("discriminator.surprisal", "tied_embeddings to true"),
    ),
    Rule(
        "parts of an embedding have no features in common",
        lambda c: c["reward"] == "mmd" and c["discriminator"] == "representations",
        ("objective.reward mmd", "set discriminator.representations to 1"),
    ),
    Rule(
        "continuations of a text are no sample of all texts",
        lambda c: c["reward"] == "mmd" and rollouts(c),
        ("objective.reward mmd", "use an estimator without rollouts, such as reinforce"),
    ),
    Rule(
        "features are spread for who is paid by them",
        lambda c: c["mmd_weight"] and c["reward"] != "mmd",
        ("objective.mmd_weight", "is for objective.reward mmd"),
    ),
    Rule(
        "no discriminator: no features to spread",
        lambda c: (undiscriminated(c) or mediated(c)) and c["mmd_weight"],
        ("objective.mmd_weight",),
    ),
    Rule(
        "one text is like no other",
        lambda c: c["reward"] == "mmd" and texts(c) < 2 and not undiscriminated(c) and not mediated(c),
        ("objective.reward mmd", "adversarial.batch_size 2 or more"),
    ),
    Rule(
        "only labels that are probabilities can be smoothed",
        lambda c: c["label_smoothing"] and c["pair_loss"] not in ("non_saturating", "relativistic"),
        ("objective.label_smoothing", "use non_saturating or relativistic"),
    ),
    Rule(
        "only a Transformer predicts what comes next",
        lambda c: c["next_token_weight"] and c["discriminator"] not in ("transformer", "surprisal"),
        ("objective.next_token_weight", "discriminator.kind transformer", "set the weight to 0"),
    ),
    Rule(
        "it predicts by the embeddings that it reads with",
        lambda c: c["next_token_weight"] and c["discriminator"] == "transformer" and c["untied"] == "discriminator",
        ("objective.next_token_weight", "set discriminator.tied_embeddings to true"),
    ),
    Rule(
        "a generator's own output layer does not come with its Transformer",
        lambda c: c["next_token_weight"] and c["discriminator"] == "transformer" and c["untied"] == "generator",
        ("objective.next_token_weight", "set generator.tied_embeddings to true"),
    ),
    Rule(
        "Wasserstein's critic needs a bounded slope",
        lambda c: (
            c["pair_loss"] == "wasserstein"
            and c["penalty"] != "gradient_penalty_weight"
            and not c["spectral_norm"]
            and c["discriminator"] != "surprisal"
            and not undiscriminated(c)
        ),
        ("objective.pair_loss wasserstein", "objective.gradient_penalty_weight", "discriminator.spectral_norm true"),
    ),
    Rule(
        "a rollout is a whole text",
        lambda c: rollouts(c) and c["dense"],
        ("objective.estimator", "set objective.dense to false"),
    ),
    Rule(
        "the weight of a written text is one number",
        lambda c: likelihood_of_written(c) and c["dense"],
        ("objective.estimator", "set objective.dense to false"),
    ),
    Rule(
        "MaliGAN's weight D/(1 - D) is the exponential of the logit",
        lambda c: c["estimator"] == "maligan" and c["reward"] not in ("logit", "constant", "random"),
        ("objective.estimator maligan", "set objective.reward to logit"),
    ),
    Rule(
        "cooperative training's weight D is the exponential of log D",
        lambda c: c["estimator"] == "weighted_likelihood" and c["reward"] not in ("log_sigmoid", "constant", "random"),
        ("objective.estimator weighted_likelihood", "set objective.reward to log_sigmoid"),
    ),
    Rule(
        "D is a probability under cross-entropy alone",
        lambda c: likelihood_of_written(c) and c["pair_loss"] != "non_saturating",
        ("objective.estimator", "set objective.pair_loss to non_saturating"),
    ),
    Rule(
        "smoothed labels make D another probability",
        lambda c: likelihood_of_written(c) and c["label_smoothing"],
        ("objective.estimator", "label_smoothing to 0"),
    ),
    Rule(
        "a real text has no weight among the written ones",
        lambda c: likelihood_of_written(c) and c["demonstration_share"],
        ("objective.estimator", "demonstration_share to 0"),
    ),
    Rule(
        "what weighs texts by D has no place for other pay",
        lambda c: likelihood_of_written(c) and c["paid"] in ("beside", "alone"),
        ("objective.estimator", "weight of objective.rewards to 0"),
    ),
    Rule(
        "a function of texts has no gradient",
        lambda c: pathwise(c) and c["paid"] != "nothing",
        ("objective.estimator", "leave objective.rewards out"),
    ),
    Rule(
        "what learns from likelihoods is paid nothing",
        lambda c: self_play(c) and c["paid"] != "nothing",
        ("objective.estimator", "leave objective.rewards out"),
    ),
    Rule(
        "the ratio of a whole text weighs the pay of a whole text",
        lambda c: c["ratio"] == "sequence" and c["dense"],
        ("objective.estimator.ratio sequence", "objective.dense to false", "ratio token"),
    ),
    Rule(
        "a constant end that is discounted pays for short texts",
        lambda c: c["reward"] == "constant" and (not c["dense"] or c["window"]) and c["discount"] == 0.5,
        ("objective.reward constant", "dense false", "objective.estimator.discount 1"),
    ),
    Rule(
        "real texts that are paid more than written ones are no control",
        lambda c: c["reward"] in ("constant", "random") and c["demonstration_share"] and not self_play(c),
        ("objective.reward", "a control only without demonstrations", "demonstration_share to 0"),
    ),
    Rule(
        "what differentiates the judgement pays nothing, neither demonstrations",
        lambda c: pathwise(c) and c["demonstration_share"],
        ("objective", "demonstration_share to 0"),
    ),
    Rule(
        "nor for the nearness to a reference",
        lambda c: pathwise(c) and c["kl"] == "reward",
        ("objective", "kl_estimator to exact or low_variance"),
    ),
    Rule(
        "the values of rollouts are no rewards to take a penalty from",
        lambda c: rollouts(c) and c["kl"] == "reward",
        ("objective.estimator", "objective.kl_estimator to exact or low_variance"),
    ),
    # Feature matching pays for features, by a frozen copy of the generator.
    Rule(
        "features are paid as they are",
        lambda c: matching(c) and c["reward"] not in ("logit", "constant", "random"),
        ("objective.estimator feature_matching", "set objective.reward to logit"),
    ),
    Rule("features are of a text's end", lambda c: matching(c) and c["dense"], ("set objective.dense to false",)),
    Rule(
        "a real text is what the written ones are compared with",
        lambda c: matching(c) and c["demonstration_share"],
        ("objective.demonstration_share to 0", "objective.likelihood_weight"),
    ),
    Rule(
        "what features pay has no pay beside it",
        lambda c: matching(c) and c["paid"] != "nothing",
        ("is paid by features alone", "leave objective.rewards out"),
    ),
    Rule(
        "what is before a stretch is nothing to a whole text",
        lambda c: matching(c) and c["length"] is None and c["context"],
        ("set objective.estimator.length",),
    ),
    Rule(
        "a stretch is part of a text",
        lambda c: matching(c) and c["length"] is not None and c["context"] + c["length"] > T,
        ("does not fit into data.max_length", "or the context lower"),
    ),
    # Distillation has a teacher, which says all that there is to learn.
    Rule(
        "who distils has a teacher",
        lambda c: distils(c) and c["teacher"] is None,
        ("objective.estimator distill", "set objective.estimator.teacher"),
    ),
    Rule(
        "a teacher pays nothing",
        lambda c: distils(c) and c["paid"] != "nothing",
        ("objective.estimator distill", "leave objective.rewards out"),
    ),
    Rule(
        "there is no reward for a control to replace",
        lambda c: distils(c) and c["reward"] in ("constant", "random"),
        ("reward", "no control"),
    ),
    Rule(
        "a teacher is as good as a reference",
        lambda c: distils(c) and c["kl"] != "none",
        ("a teacher says how likely every token is", "objective.kl_weight should be 0"),
    ),
    Rule(
        "a teacher knows how sure to be",
        lambda c: distils(c) and c["entropy_weight"],
        ("a teacher says how likely every token is", "objective.entropy_weight should be 0"),
    ),
    Rule(
        "real texts come by a share of their own",
        lambda c: distils(c) and c["demonstration_share"],
        ("on_policy", "objective.demonstration_share to 0"),
    ),
    # Without a discriminator nothing is left of its side. Self-play has no rewards either, and its own reference.
    Rule(
        "no discriminator: no critic",
        lambda c: undiscriminated(c) and c["pair_loss"] == "wasserstein",
        ("objective.pair_loss should be non_saturating",),
    ),
    Rule(
        "no discriminator: no energy",
        lambda c: undiscriminated(c) and c["residual_candidates"],
        ("objective.residual_candidates should be 0",),
    ),
    Rule(
        "no discriminator: no warm-up", lambda c: undiscriminated(c) and c["warmup_steps"], ("set warmup.steps to 0",)
    ),
    Rule(
        "no discriminator: no updates of it",
        lambda c: undiscriminated(c) and c["discriminator_updates"] > 1,
        ("adversarial.discriminator_updates should be 1",),
    ),
    Rule(
        "no discriminator: none to freeze",
        lambda c: undiscriminated(c) and c["freeze_discriminator"],
        ("adversarial.freeze_discriminator should be false",),
    ),
    Rule(
        "no discriminator: no replay for it",
        lambda c: undiscriminated(c) and c["replay_size"],
        ("objective.replay_size should be 0",),
    ),
    *(
        Rule(
            f"no discriminator: no {name} of it",
            lambda c, name=name: undiscriminated(c) and c["penalty"] == name,  # type: ignore[misc]
            (f"objective.{name} should be 0",),
        )
        for name in ("r1_weight", "r2_weight", "gradient_penalty_weight")
    ),
    Rule(
        "no discriminator: nothing that predicts",
        lambda c: undiscriminated(c) and c["next_token_weight"],
        ("objective.next_token_weight should be 0",),
    ),
    Rule(
        "no discriminator: no labels",
        lambda c: undiscriminated(c) and c["label_smoothing"],
        ("objective.label_smoothing should be 0",),
    ),
    Rule(
        "no discriminator: no control of its reward",
        lambda c: self_play(c) and c["reward"] in ("constant", "random"),
        ("reward", "no control"),
    ),
    Rule("its own reference", lambda c: self_play(c) and c["kl"] != "none", ("objective.kl_weight should be 0",)),
    Rule(
        "its own reference, against entropy too",
        lambda c: self_play(c) and c["entropy_weight"],
        ("objective.entropy_weight should be 0",),
    ),
    Rule(
        "real text in every step",
        lambda c: self_play(c) and c["demonstration_share"],
        ("objective.demonstration_share should be 0",),
    ),
    # A mediator is a language model, which scores and pays nothing.
    Rule(
        "a mediator predicts the next token",
        lambda c: mediated(c) and (c["discriminator"] not in ("transformer", "surprisal") or c["untied"]),
        ("objective.estimator cot has a mediator", "discriminator"),
    ),
    *(
        Rule(
            f"a mediator has no {value or name}",
            lambda c, name=name, value=value: (  # type: ignore[misc]
                mediated(c) and (c[name] == value if value is not None else c[name])
            ),
            ("objective.estimator cot has a mediator", says),
        )
        for name, value, says in (
            ("pair_loss", "wasserstein", "set objective.pair_loss to non_saturating"),
            ("label_smoothing", None, "set objective.label_smoothing to 0"),
            ("next_token_weight", None, "set objective.next_token_weight to 0"),
            ("replay_size", None, "set objective.replay_size to 0"),
            ("penalty", "r1_weight", "set objective.r1_weight to 0"),
            ("penalty", "r2_weight", "set objective.r2_weight to 0"),
            ("penalty", "gradient_penalty_weight", "set objective.gradient_penalty_weight to 0"),
            ("reward", "constant", "no control of it"),
            ("reward", "random", "no control of it"),
            ("demonstration_share", None, "demonstration_share to 0"),
            ("kl", "reward", "set objective.kl_estimator to exact or low_variance"),
        )
    ),
    Rule(
        "a mediator pays nothing",
        lambda c: mediated(c) and c["paid"] != "nothing",
        ("objective.estimator cot has a mediator", "leave objective.rewards out"),
    ),
    Rule(
        "a mediator is no energy",
        lambda c: mediated(c) and c["residual_candidates"],
        ("a mediator scores no text", "objective.residual_candidates should be 0"),
    ),
    Rule(
        "its likelihood is in every step",
        lambda c: self_play(c) and c["likelihood_weight"],
        ("objective.likelihood_weight should be 0",),
    ),
    # The discriminator as the energy of a residual model.
    Rule(
        "an energy is that of a discriminator against the generator after likelihood training",
        lambda c: c["residual_candidates"] and not c["warmup_steps"] and not undiscriminated(c),
        ("objective.residual_candidates", "set warmup.steps"),
    ),
    Rule(
        "an energy is a logit of unsmoothed labels",
        lambda c: (
            c["residual_candidates"]
            and (c["pair_loss"] not in ("non_saturating", "relativistic") or c["label_smoothing"])
        ),
        ("objective.residual_candidates", "non_saturating or relativistic", "label_smoothing to 0"),
    ),
    Rule(
        "an energy is no noise",
        lambda c: c["residual_candidates"] and c["reward"] == "random",
        ("objective.residual_candidates", "constant reward"),
    ),
    Rule(
        "an energy is normalised over all texts, not those of a prompt",
        lambda c: c["residual_candidates"] and c["prompt_column"],
        ("objective.residual_candidates", "without prompts"),
    ),
    # Sizes.
    Rule(
        "a replay holds a step's texts",
        lambda c: 0 < c["replay_size"] < texts(c),
        ("objective.replay_size", "make it larger, or 0"),
    ),
    Rule(
        "minibatches are alike",
        lambda c: texts(c) % c["minibatches"],
        ("objective.estimator", "minibatches", "does not divide"),
    ),
    Rule(
        "one text has no others",
        lambda c: c["baseline"] == "leave_one_out" and texts(c) < 2,
        ("objective.estimator.baseline leave_one_out", "adversarial.batch_size 2 or more"),
    ),
    Rule(
        "one text has none to be weighed against",
        lambda c: likelihood_of_written(c) and texts(c) < 2,
        ("objective.estimator", "weighs texts against each other", "adversarial.batch_size 2 or more"),
    ),
)


def broken(choice: Choice) -> list[Rule]:
    """The rules that a choice breaks; where the choice is not complete, those that it breaks whatever comes."""

    def breaks(rule: Rule) -> bool:
        try:
            return bool(rule.broken(choice))
        except KeyError:  # asks for what is not chosen yet
            return False

    return [rule for rule in RULES if breaks(rule)]


# Choices that no axis has, or that matter to a rule alone.
SPECIAL: list[Choice] = [
    *(
        {**USUAL, **EVERY_ESTIMATOR[0], "pair_loss": "wasserstein", "reward": "logit", "penalty": penalty}
        for penalty in REGULARISERS["penalty"]
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "warmup_steps": 2}
        for v in (*variants("spin"), *variants("custom"))
    ),
    *(
        {**USUAL, **variants("custom")[0], "factory": name, "pair_loss": LOSSES[0], "reward": "logit", "dense": dense}
        for name in ("reinforce", "rollout")
        for dense in (True, False)
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "dense": False, **sizes,
         **(LEAKING if goals(v) else {})}
        for v in EVERY_ESTIMATOR
        for sizes in (
            {"replay_size": 3}, {"replay_size": 4}, {"replay_size": 7}, {"replay_size": 8}, {"batch_size": 1},
        )
        if v["estimator"] not in ("maligan", "weighted_likelihood", "cot", "custom", *SELF_PLAY)
        and v["estimator"] not in ("feature_matching", "distill")
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "dense": False, "minibatches": minibatches}
        for v in [*variants("ppo"), *variants("grpo")]
        for minibatches in (2, 3)
    ),
    *(
        {
            **USUAL, **EVERY_ESTIMATOR[0], "pair_loss": loss, "reward": reward, "label_smoothing": smoothing,
            "prompt_column": prompts, "residual_candidates": 4, "warmup_steps": steps,
        }
        for loss, reward, steps, prompts, smoothing in itertools.product(
            LOSSES[:4], ("logit", "constant", "random"), (2, 0), (None, "asked"), (0.0, 0.1)
        )
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": reward, "dense": False, "batch_size": size}
        for kind, reward in (("maligan", "logit"), ("weighted_likelihood", "log_sigmoid"))
        for v in variants(kind)
        for size in (1, 2)
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "discriminator": d, "next_token_weight": weight}
        for v in (*variants("spin"), *EVERY_ESTIMATOR[:1])
        for d in DISCRIMINATORS
        for weight in (0.0, 0.5)
    ),
    *(
        {
            **USUAL, **EVERY_ESTIMATOR[0], "pair_loss": LOSSES[0], "reward": "logit", "generator": "transformer",
            "discriminator": "transformer", "next_token_weight": weight, "untied": untied,
        }
        for weight in (0.0, 0.5)
        for untied in (None, "discriminator", "generator")
    ),
    *(
        {
            **USUAL, **variants("cot")[0], "pair_loss": LOSSES[0], "reward": "logit", "discriminator": d,
            "residual_candidates": candidates, "warmup_steps": 2,
        }
        for d in DISCRIMINATORS
        for candidates in (0, 4)
    ),
    *(
        {**USUAL, **EVERY_ESTIMATOR[0], "pair_loss": LOSSES[0], "reward": "logit", "dense": dense,
         "discriminator": "representations"}
        for dense in (True, False)
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": reward, "dense": False, "mmd_weight": weight, "batch_size": b}
        for v in (variants("reinforce")[0], variants("gumbel")[0], variants("spin")[0])
        for reward, weight, b in (("mmd", 0.1, 4), ("logit", 0.1, 4), ("mmd", 0.0, 1), ("mmd", 0.0, 2))
    ),
    *(
        {**USUAL, **variants("reinforce")[0], "pair_loss": LOSSES[0], "reward": "mmd", "dense": False,
         "discriminator": d}
        for d in DISCRIMINATORS
    ),
    *(
        {**USUAL, **variants("spin")[0], "pair_loss": loss, "reward": "logit", "residual_candidates": candidates}
        for loss in LOSSES
        for candidates in (0, 4)
    ),
    {**USUAL, **variants("distill")[0], "pair_loss": LOSSES[0], "reward": "logit", "teacher": None},
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "dense": False, "generator": g, "discriminator": d,
         "spectral_norm": norm}
        for v in (variants("leakgan")[0], variants("reinforce")[0], variants("spin")[0])
        for g in ("lstm", "leakgan")
        for d in DISCRIMINATORS
        for norm in (False, True)
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": reward, "dense": dense, "window": 2, **more}
        for v in (*variants("reinforce"), variants("gumbel")[0], variants("cot")[0], variants("spin")[0])
        for reward in ("logit", "log_ratio", "mmd", "constant")
        for dense in (True, False)
        for more in ({}, {"residual_candidates": 4, "warmup_steps": 2})
    ),
    *(
        {**USUAL, **variants("reinforce")[0], "pair_loss": loss, "reward": "logit", "dense": dense,
         "residual_candidates": 4, "warmup_steps": 2}
        for loss in LOSSES
        for dense in (True, False)
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "formula", "formula": formula, "window": window}
        for v in (variants("reinforce")[0], variants("cot")[0])
        for formula in ("s - s_prev", "s - mean")
        for window in (0, 2)
    ),
    *(
        {**USUAL, **v, "pair_loss": loss, "reward": reward, "discriminator": "surprisal", "dense": dense, **more}
        for v in (variants("reinforce")[0], variants("rollout")[0], variants("gumbel")[0], variants("cot")[0])
        for loss in ("non_saturating", "hinge", "wasserstein")
        for reward in ("logit", "mmd")
        for dense in (True, False)
        for more in (
            {}, {"penalty": "r1_weight"}, {"untied": "discriminator"}, {"next_token_weight": 0.1}, {"window": 2}
        )
    ),
    *(
        {**USUAL, **variants("reinforce")[0], "pair_loss": LOSSES[0], "reward": r, "dense": dense, "formula": formula}
        for r in ("formula", "logit")
        for dense in (True, False)
        for formula in (None, "s", "s * mean")
    ),
    *(
        {**USUAL, **v, "pair_loss": LOSSES[0], "reward": "logit", "dense": False, "context": context}
        for v in variants("feature_matching")
        for context in (0, 1, 2)
    ),
]  # fmt: skip
OWN_SIZES: list[Choice] = [
    {**USUAL, **variants("custom")[0], "pair_loss": LOSSES[0], "reward": "logit", **own}
    for own in (
        {"factory": "ppo", "minibatches": 2},
        {"factory": "ppo", "minibatches": 3},
        {"factory": "rloo", "samples": 2, "replay_size": 8},
        {"factory": "rloo", "samples": 2, "replay_size": 4},
    )
]
REGULARISED: list[Choice] = [
    {**choice, name: value}
    for choice in choices([v for v in EVERY_ESTIMATOR if unusual(v) == 0 or v["estimator"] == "custom"])
    if choice["reward"] in ("logit", "log_sigmoid", "constant") and choice["pair_loss"] in LOSSES[::2]
    for name, values in REGULARISERS.items()
    for value in values[1:]
]


# ---- from a choice to a config


def as_keys(c: Choice) -> dict[str, Any]:
    """The keys of a config that make a choice, by their dotted names."""
    options = {name: c[name] for name in OPTIONS if c[name] is not None and name not in ("relaxation", "factory")}
    if c["estimator"] in ("ppo", "grpo") or c["minibatches"] > 1:
        options |= {"epochs": 1, "minibatches": c["minibatches"]}
    if c["estimator"] in ("rollout", "sentigan", "leakgan"):
        options["rollouts"] = 2
    if c["estimator"] == "distill":
        options["teacher"] = c["teacher"]
    if c["context"]:
        options["context"] = c["context"]
    if c["estimator"] == "custom":
        options = {"factory": f"gptgan_jax:{c['factory']}", "options": options}
    elif c["relaxation"]:
        options = {"straight_through": c["relaxation"] != "soft", "draws": 2 if c["relaxation"] == "averaged" else 1}
    weights = {"measured": 0.0, "beside": 0.5, "alone": 1.0}
    paid: dict[str, Any] = {}
    if c["paid"] != "nothing":
        paid["rewards"] = [{"function": "length", "weight": weights[c["paid"]]}]
    if c["paid"] == "alone":
        paid |= {"discriminator_reward_weight": 0.0, "reward_scaling": "group"}
    formula = {} if c["formula"] is None or c["reward"] != "formula" else {"reward_formula": c["formula"]}
    if c["formula"] not in (None, "s"):
        formula = {"reward_formula": c["formula"]}
    kl = {} if c["kl"] == "none" else {"kl_weight": 0.1, "kl_estimator": c["kl"]}
    penalty = {} if c["penalty"] == "none" else {c["penalty"]: 0.5}
    hub = {"kind": "hf", "path": "some/set", "prompt_column": c["prompt_column"]} if c["prompt_column"] else {}
    untied = {"tied_embeddings": False}
    from_generator = {"from_generator": True} if c["untied"] == "generator" else {}
    sections: dict[str, dict[str, Any]] = {
        "data": {"max_length": T, "max_prompt_length": P} | hub,
        "generator": GENERATORS[c["generator"]] | (untied if c["untied"] == "generator" else {}),
        "discriminator": DISCRIMINATORS[c["discriminator"]]
        | {"spectral_norm": c["spectral_norm"]}
        | from_generator
        | (untied if c["untied"] == "discriminator" else {}),
        "objective": {name: c[name] for name in OBJECTIVE} | kl | penalty | paid | formula,
        "objective.estimator": {"kind": c["estimator"]} | options,
        "warmup": {"steps": c["warmup_steps"], "batch_size": c["batch_size"]},
        "adversarial": {"batch_size": c["batch_size"]} | {name: c[name] for name in ADVERSARIAL},
    }
    for player in ("generator", "discriminator"):
        frozen = {"frozen": ["*embedding*"]} if c["frozen"] == player else {}
        sections[f"adversarial.{player}_optimizer"] = {"kind": "sgd", "learning_rate": 0.1, "clip_norm": None} | frozen
    return {f"{section}.{name}": value for section, keys in sections.items() for name, value in keys.items()}


def as_tree(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Nested, as a YAML file has them."""
    tree: dict[str, Any] = {}
    for dotted, value in keys.items():
        *sections, name = dotted.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return tree


def as_config(choice: Choice) -> Config:
    return config_from(as_tree(as_keys(choice)) | {"name": "x"})


def refusal(choice: Choice) -> str | None:
    """What a config with the choice is refused with."""
    try:
        as_config(choice)
    except UserError as error:
        return str(error)
    return None


def shown(choice: Choice) -> str:
    return ", ".join(f"{k}={v}" for k, v in choice.items() if v is not None and USUAL.get(k) != v)


def disagreement(choice: Choice) -> str | None:
    """How the rules and `Config` differ on a choice."""
    rules, says = broken(choice), refusal(choice)
    if says is None:
        return f"accepted, but {rules[0].why}: {shown(choice)}" if rules else None
    if not rules:
        return f"refused for no reason: {shown(choice)}: {says}"
    if "\n" in says or not any(all(part in says for part in rule.says) for rule in rules):
        return f"refused without its reason ({rules[0].why}): {shown(choice)}: {says}"
    return None


# ---- (a) what is allowed and what is refused


@pytest.mark.always
def test_every_combination_of_estimator_loss_reward_and_dense_is_accepted_or_refused_as_the_rules_say() -> None:
    assert [text for choice in choices(EVERY_ESTIMATOR) if (text := disagreement(choice))] == []


@pytest.mark.thorough
def test_so_is_each_with_a_regulariser() -> None:
    assert [text for choice in REGULARISED if (text := disagreement(choice))] == []


def test_so_are_sizes_and_estimators_of_ones_own() -> None:
    assert [text for choice in SPECIAL if (text := disagreement(choice))] == []


def test_an_estimator_of_ones_own_is_held_to_the_sizes_that_it_asks_for() -> None:
    """Minibatches that do not divide the texts would end in a traceback."""
    assert [text for choice in OWN_SIZES if (text := disagreement(choice))] == []


def alone() -> dict[str, Choice]:
    """For each rule a choice that it alone refuses, by the rule's reason."""
    found: dict[str, Choice] = {}
    for choice in itertools.chain(SPECIAL, choices(EVERY_ESTIMATOR), REGULARISED):
        if len(rules := broken(choice)) == 1:
            found.setdefault(rules[0].why, choice)
    return found


@pytest.mark.exhaustive
def test_each_rule_refuses_something_that_no_other_does() -> None:
    assert [rule.why for rule in RULES if rule.why not in alone()] == []


CONFIG_RULES = compatibility, data_compatibility
BAD_INPUT = Path(__file__).parent / "end_to_end" / "test_bad_input.py"


@pytest.mark.thorough
def test_no_refusal_of_the_config_is_without_a_choice_that_meets_it() -> None:
    """Each `yield` of the config's rules, its f-string made a pattern; a row of bad input may meet it too.

    Those of algorithms/compatibility.py: tests/algorithms/test_game.py.
    """
    said = {says for choice in (*SPECIAL, *choices(EVERY_ESTIMATOR), *REGULARISED) if (says := refusal(choice))}
    expected = [line.rpartition("|")[2].strip() for line in BAD_INPUT.read_text(encoding="utf-8").splitlines()]

    def parts_of(node: ast.expr) -> list[str]:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        return [str(part.value) if isinstance(part, ast.Constant) else "" for part in parts]

    def met(parts: list[str]) -> bool:
        pattern = ".*".join(re.escape(part) for part in parts)
        # Rows have parts of what is said, with the names filled in.
        pairs = ((text, part) for text in expected for part in parts if min(len(text), len(part)) > 12)
        return any(re.search(pattern, says) for says in said) or any(a in b or b in a for a, b in pairs)

    trees = [ast.parse(Path(str(rules.__file__)).read_text(encoding="utf-8")) for rules in CONFIG_RULES]
    nodes = itertools.chain.from_iterable(ast.walk(tree) for tree in trees)
    refusals = [parts_of(node.value) for node in nodes if isinstance(node, ast.Yield) and node.value]
    assert len(refusals) >= 28
    unmet = [parts for parts in refusals if not met(parts)]
    assert unmet == []


def on_the_command_line(choice: Choice, folder: Path) -> tuple[Path, list[str]]:
    """A file with what has no override, and the overrides."""
    keys = as_keys(choice)
    in_file = {name: value for name, value in keys.items() if isinstance(value, dict)}
    in_file |= {name: value for name, value in keys.items() if name.startswith("objective.estimator.") and in_file}
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(as_tree(in_file)), encoding="utf-8")
    rest = {name: value for name, value in keys.items() if name not in in_file}
    return path, [
        part for name, value in rest.items() for part in (f"--{name}", yaml.safe_dump(value, width=999).split("\n")[0])
    ]


@pytest.mark.cases(6)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.why.replace(" ", "-"))
def test_each_refusal_is_one_line_that_names_the_keys_to_change(rule: Rule, tmp_path: Path) -> None:
    path, overrides = on_the_command_line(alone()[rule.why], tmp_path)
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    says = str(caught.value)
    assert says.startswith(f"{path}: ")
    assert "\n" not in says
    assert [part for part in rule.says if part not in says] == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("--objective.pair_loss hinge", "objective.reward sigmoid reads the score as log-odds"),
        ("--objective.estimator.kind rollout", "objective.estimator rollout scores whole texts; set objective.dense"),
        ("--objective.estimator.kind maligan --objective.dense false", "set objective.reward to logit"),
        ("--objective.estimator.kind spin", "an estimator by self-play has no discriminator: set warmup.steps to 0"),
        ("--objective.replay_size 9", "objective.replay_size 9 holds less than the 64 texts of a step"),
        (
            "--objective.estimator.kind custom --objective.estimator.factory gptgan_jax:gumbel "
            "--objective.demonstration_share .5",
            "objective.estimator gptgan_jax:gumbel has no rewards",
        ),
    ],
)
def test_the_command_line_refuses_with_status_2_and_writes_nothing(
    overrides: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "x.yaml").write_text(f"runs_folder: {tmp_path}/runs\n", encoding="utf-8")
    assert main(["train", str(tmp_path / "x.yaml"), *shlex.split(overrides)]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert len(errors.splitlines()) == 1
    assert says in errors
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


# ---- (b) what is allowed trains


@functools.cache
def generator_of(section: Any) -> Generator:
    """The generator of a section, its functions compiled once for all choices."""
    g = build_generator(section, VOCABULARY)
    prefill = jax.jit(g.prefill, static_argnums=3)
    decode, logits, hidden = (jax.jit(function) for function in (g.decode, g.logits, g.hidden))
    return g._replace(init=any_params(g.init, 1), prefill=prefill, decode=decode, logits=logits, hidden=hidden)


@functools.cache
def discriminator_of(section: Any) -> Discriminator:
    """The same of a discriminator."""
    d = build_discriminator(section, VOCABULARY)
    scores, embed, judge = (jax.jit(function) for function in (d.scores, d.embed, d.judge))
    return d._replace(init=any_params(d.init, 2), scores=scores, embed=embed, judge=judge)


def any_params(init: Any, seed: int) -> Any:
    """In place of an `init`, which would have to be compiled."""
    shapes = jax.eval_shape(init, jax.random.key(0), batch_for(USUAL))
    return lambda key, batch: random_params(shapes, seed)


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """No search for garbage: it would go through the objects of all traced programs again and again."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def traced_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler, which does not depend on the objective, is traced once."""
    monkeypatch.setattr(
        texts_of_a_step,
        "sample",
        jax.jit(texts_of_a_step.sample, static_argnums=(0, 5), static_argnames=("rows", "samples")),
    )


@pytest.fixture
def loops_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops outside of compiled functions go step by step; JAX would compile each anew whenever it comes to it."""
    scan, while_loop = jax.lax.scan, jax.lax.while_loop

    def traced(*values: Any) -> bool:
        return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(values))

    def scan_in_python(f: Any, carry: Any, xs: Any, reverse: bool = False, **options: Any) -> Any:
        if traced(carry, xs):
            return scan(f, carry, xs, reverse=reverse, **options)
        indices = range(len(jax.tree.leaves(xs)[0]))
        ys = {}
        for i in reversed(indices) if reverse else indices:
            carry, ys[i] = f(carry, jax.tree.map(lambda x, i=i: x[i], xs))
        return carry, jax.tree.map(lambda *parts: jnp.stack(parts), *(ys[i] for i in indices))

    def while_in_python(goes_on: Any, f: Any, carry: Any) -> Any:
        if traced(carry):
            return while_loop(goes_on, f, carry)
        while goes_on(carry):
            carry = f(carry)
        return carry

    monkeypatch.setattr(jax.lax, "scan", scan_in_python)
    monkeypatch.setattr(jax.lax, "while_loop", while_in_python)


def batch_for(choice: Choice) -> Batch:
    """Texts of one to three tokens for each update of the discriminator; with prompts, or with BOS and padding.

    Two where the generator writes two each, else four: one shape the less to compile.
    """
    count = choice["discriminator_updates"] * (2 if choice.get("samples") == 2 else 4)
    prompts = (2, 1, 2, 1) if choice["prompts"] else (1, 1, 1, 1)
    batch = batch_of((prompts * 2)[:count], ((2, 3, 1, 3) * 2)[:count], T, VOCABULARY)
    if choice["prompts"]:
        return batch
    return padded(batch.replace(prompt=jnp.full_like(batch.prompt, VOCABULARY.bos_id)), left=P - 1, filler=3)


def gan_for(choice: Choice) -> Any:
    config = as_config(choice)
    players = generator_of(config.generator), discriminator_of(config.discriminator)
    teacher = players[0] if distils(choice) else None
    gan = build_gan(config, "adversarial", *players, functions=unpaid(config.objective.rewards), teacher=teacher)
    return gan if teacher is None else gan._replace(init=lambda *given: taught(gan.init(*given)))


def taught(state: GanState) -> GanState:
    return state.replace(teacher=state.generator.params)


@pytest.mark.exhaustive
def test_an_allowed_combination_of_estimator_loss_reward_and_dense_can_be_traced(
    no_garbage: None, traced_sampler: None
) -> None:
    """A step gives a state of the same arrays, or it would be compiled anew at every step, and scalars.

    Every fifth combination goes through the losses and rewards of all estimators; all of them take minutes.
    """
    # Options one at a time, the baselines of REINFORCE; one's own estimator is here the same function as its kind.
    estimators = [
        v
        for v in EVERY_ESTIMATOR
        if unusual(v) == 0
        or (
            unusual(v) == 1
            and v["discount"] != 0.5
            and (v["estimator"] == "reinforce" or v["baseline"] in (None, BASELINES[0]))
        )
        if v["estimator"] != "custom"
    ]
    allowed = [choice for choice in choices(estimators) if not broken(choice)]
    batch = batch_for(USUAL)
    assert len(allowed) > 800
    for choice in allowed[::5]:
        gan = gan_for(choice)
        state = jax.eval_shape(gan.init, jax.random.key(0), batch)
        after, metrics = jax.eval_shape(gan.adversarial_step, state, batch)
        assert jax.tree.map(kind_of, after) == jax.tree.map(kind_of, state), shown(choice)
        assert {(m.shape, str(m.dtype)) for m in metrics.values()} == {((), "float32")}, shown(choice)


def meetings(row: Choice) -> set[tuple]:
    """Every two choices of a row, but for options that its estimator does not have."""
    chosen = [(axis, row[axis]) for axis in AXES if axis in row and row[axis] is not None]
    return set(itertools.combinations(chosen, 2))


def allowed_values(row: Choice, axis: str) -> list[Any]:
    """What an axis can be, given the rest of the row."""
    if axis == "estimator" or axis in OPTIONS:
        fitting = [v for v in IN_ROWS if all(row.get(name, value) == value for name, value in v.items())]
        values = tuple(dict.fromkeys(v[axis] for v in fitting))
    else:
        values = AXES[axis]
    return [value for value in values if not broken(row | {axis: value})]


def completed(row: Choice, missing: Collection[tuple], order: list[str]) -> Choice | None:
    """The row with all axes chosen in this order, each to hold the most missing meetings; None where nothing fits."""
    rest = [axis for axis in order if axis not in row]
    if not rest:
        return row
    values = allowed_values(row, rest[0])
    chosen = [(axis, value) for axis, value in row.items() if axis in AXES]

    def worth(value: Any) -> int:
        new = (rest[0], value)
        return sum((other, new) in missing or (new, other) in missing for other in chosen)

    for value in sorted(values, key=worth, reverse=True):
        if (found := completed(row | {rest[0]: value}, missing, order)) is not None:
            return found
    return None


@functools.cache
def pairwise_rows() -> tuple[list[Choice], set[tuple]]:
    """Rows in which every two choices meet that can, and the pairs that cannot."""
    rng, rows, impossible = random.Random(0), [], set()
    # The axes that rules tie to each other come first, so that what cannot be is seen early.
    tied = ["pair_loss", "reward", "dense", "spectral_norm", "penalty", "label_smoothing"]
    tied += ["generator", "discriminator", "window", "mmd_weight"]
    free = [axis for axis in AXES if axis not in ("estimator", *OPTIONS, *tied)]
    pairs = [
        pair
        for a, b in itertools.combinations(AXES, 2)
        for pair in itertools.product([(a, v) for v in AXES[a]], [(b, v) for v in AXES[b]])
    ]
    sizes = {name: value for name, value in USUAL.items() if name not in AXES}
    # Those of the largest axes first: the others find a place beside them.
    missing = dict.fromkeys(sorted(pairs, key=lambda pair: -len(AXES[pair[0][0]]) * len(AXES[pair[1][0]])))
    for pair in list(missing):
        if pair not in missing:
            continue
        found = []
        for _ in range(2):
            order = ["estimator", *OPTIONS, *rng.sample(tied, len(tied)), *rng.sample(free, len(free))]
            row = completed(sizes | dict(pair), missing.keys(), order)
            if row is None:
                impossible.add(pair)
                break
            found.append(row)
        else:
            best = max(found, key=lambda row: len(meetings(row) & missing.keys()))
            rows.append(best)
            for met in meetings(best):
                missing.pop(met, None)
            missing.pop(pair, None)
    return rows, impossible


@pytest.mark.thorough
def test_the_rows_hold_every_two_choices_that_can_meet() -> None:
    """What no row holds is what no allowed row can: it is refused whatever else is chosen."""
    rows, impossible = pairwise_rows()
    assert [shown(row) for row in rows if broken(row)] == []
    met = set().union(*(meetings(row) for row in rows))
    assert not met & impossible
    for a, b in itertools.combinations(AXES, 2):
        for pair in itertools.product([(a, v) for v in AXES[a]], [(b, v) for v in AXES[b]]):
            assert pair in met or pair in impossible


@pytest.mark.thorough
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_the_rows_train(every: int, no_garbage: None, loops_in_python: None) -> None:
    """Two steps: the state stays as it is made and finite, who is frozen stays, and a metric is a finite number."""
    for row in pairwise_rows()[0][::every]:
        gan, batch = gan_for(row), batch_for(row)
        before = state = gan.init(jax.random.key(1), batch)
        for _ in range(2):
            state, metrics = gan.adversarial_step(state, batch)
        assert jax.tree.map(kind_of, state) == jax.tree.map(kind_of, before), shown(row)
        numbers = jax.tree.leaves((state.replace(key=None), metrics))
        assert all(np.isfinite(x).all() for x in numbers), shown(row)
        assert int(state.step) == 2
        assert_frozen(row, before, state)


def kind_of(x: jax.Array) -> tuple:
    return x.shape, str(x.dtype)


def assert_frozen(row: Choice, before: GanState, after: GanState) -> None:
    """Embeddings, or all of the discriminator, stay where the row says so; else the discriminator's embeddings move."""
    for player in ("generator", "discriminator"):
        old, new = (getattr(state, player).params for state in (before, after))
        moved = {
            jax.tree_util.keystr(path): bool((x != y).any())
            for (path, x), y in zip(jax.tree.leaves_with_path(old), jax.tree.leaves(new), strict=True)
        }
        embeddings = {path for path in moved if "embedding" in path and "leaked" not in path}
        assert embeddings
        if player == "discriminator" and (row["freeze_discriminator"] or undiscriminated(row)):
            assert not any(moved.values()), shown(row)
        elif row["frozen"] == player:
            assert not any(moved[path] for path in embeddings), shown(row)
        elif player == "discriminator":
            assert all(moved[path] for path in embeddings), shown(row)
