"""Alarms: each sounds on its own condition, on the mean of the last five lines, and not otherwise."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import gptgan_jax as gg
from gptgan_jax.training.alarms import WINDOW, adversarial_alarms, likelihood_alarms

HEALTHY = {
    "discriminator_accuracy": 0.75,
    "entropy": 2.0,
    "kl": 0.2,
    "length": 9.0,
    "real_length": 10.0,
    "repetition": 0.15,
    "real_repetition": 0.1,
}


def lines(count: int = WINDOW, **fields: Any) -> list[dict[str, Any]]:
    """A healthy first line and then as many lines with other values."""
    return [dict(HEALTHY)] + [HEALTHY | fields] * count


def test_a_healthy_run_raises_none() -> None:
    assert adversarial_alarms(lines(20)) == {}


SICK = [
    ("accuracy near 1", {"discriminator_accuracy": 0.98}, "learning rate"),
    ("accuracy near 1/2", {"discriminator_accuracy": 0.48}, "warmup.steps"),
    ("accuracy near 1/2", {"discriminator_accuracy": 0.52}, "warmup.steps"),
    ("accuracy near 1/2", {"discriminator_accuracy": 0.1}, "warmup.steps"),
    ("accuracy near 1/2", {"prompt_accuracy": 0.5}, "warmup.steps"),  # though answers of all prompts are told apart
    ("entropy", {"entropy": 1.1}, "entropy_weight"),
    ("length", {"length": 7.4}, "kl_weight"),
    ("length", {"length": 13.4}, "kl_weight"),
    ("kl", {"kl": 1.1}, "kl_weight"),
    ("repetition", {"repetition": 0.21}, "entropy_weight"),
    ("repetition", {"real_repetition": 0.0, "repetition": 0.11}, "kl_weight"),
]


@pytest.mark.parametrize(("name", "fields", "advice"), SICK)
def test_each_sounds_alone_on_its_condition_and_says_what_to_turn(
    name: str, fields: dict[str, Any], advice: str
) -> None:
    found = adversarial_alarms(lines(**fields))
    assert set(found) == {name}
    assert advice in found[name]


@pytest.mark.parametrize(
    "fields",
    [
        {"discriminator_accuracy": 0.94},
        {"discriminator_accuracy": 0.56},
        {"discriminator_accuracy": 0.5, "prompt_accuracy": 0.7},
        {"entropy": 1.3},
        {"length": 7.6},
        {"length": 13.2},
        {"kl": 0.9},
        {"repetition": 0.19},
        {"repetition": 0.9, "real_repetition": 0.81},
    ],
)
def test_none_sounds_just_short_of_its_condition(fields: dict[str, Any]) -> None:
    assert adversarial_alarms(lines(**fields)) == {}


def test_the_metrics_of_a_loop_of_ones_own_may_be_arrays() -> None:
    plain = lines(kl=1.5, discriminator_accuracy=0.97)
    arrays = [jax.tree.map(jnp.float32, line) for line in plain]
    assert gg.adversarial_alarms(arrays) == gg.adversarial_alarms(plain)
    assert set(gg.adversarial_alarms(arrays)) == {"kl", "accuracy near 1"}


def test_none_sounds_before_the_fifth_line() -> None:
    sick = HEALTHY | {"discriminator_accuracy": 1.0, "kl": 9.0, "length": 1.0}
    for count in range(WINDOW):
        assert adversarial_alarms([sick] * count) == {}
    assert set(adversarial_alarms([sick] * WINDOW)) == {"accuracy near 1", "kl", "length"}


def test_only_the_last_five_lines_are_judged_by_their_mean() -> None:
    assert adversarial_alarms(lines(WINDOW, kl=9.0) + [HEALTHY] * WINDOW) == {}
    assert set(adversarial_alarms([HEALTHY] * 20 + [HEALTHY | {"kl": 5.1}])) == {"kl"}
    assert adversarial_alarms([HEALTHY] * 20 + [HEALTHY | {"kl": 4.0}]) == {}


def test_entropy_is_judged_against_the_first_line() -> None:
    slow_fall = [HEALTHY | {"entropy": 2.0 - 0.05 * i} for i in range(20)]
    assert set(adversarial_alarms(slow_fall)) == {"entropy"}
    assert adversarial_alarms(slow_fall[5:]) == {}


def test_a_metric_that_is_missing_or_none_raises_none() -> None:
    assert adversarial_alarms([{"loss": 1.0}] * 6) == {}
    assert adversarial_alarms([HEALTHY | {"kl": None}] * 6) == {}
    assert adversarial_alarms([HEALTHY | {"kl": 9.0}] * 4 + [{"entropy": 2.0}]) == {}


def validations(*nats: float, error: float = 0.01, losses: tuple[float, ...] = ()) -> list[dict[str, Any]]:
    """As many validations of a likelihood phase, each after steps with these losses."""
    return [
        line
        for i, value in enumerate(nats)
        for line in [
            *({"step": 10 * i + j, "loss": loss} for j, loss in enumerate(losses)),
            {"step": 10 * (i + 1), "valid_nats_per_token": value, "valid_standard_error": error},
        ]
    ]


def test_overfitting_is_a_rise_above_the_best_by_more_than_its_error() -> None:
    assert likelihood_alarms(validations(4.0, 3.0, 3.02)) == {}
    assert likelihood_alarms(validations(4.0)) == {}
    assert likelihood_alarms([]) == {}
    assert likelihood_alarms(validations(4.0, 3.0, 3.2, error=0.1)) == {}
    found = likelihood_alarms(validations(4.0, 3.0, 3.2))
    assert set(found) == {"overfitting"}
    assert "from 3.000 at step 20" in found["overfitting"]
    assert "generator.dropout" in found["overfitting"]


def test_a_gap_is_training_text_that_is_much_easier_than_validation_text() -> None:
    known = likelihood_alarms(validations(4.0, losses=(2.0, 2.1, 1.9)))
    assert set(known) == {"gap"}
    assert "costs 2.000 nats/token, validation text 4.000" in known["gap"]
    assert "generator.dropout" in known["gap"]
    assert likelihood_alarms(validations(4.0, losses=(3.1, 3.2))) == {}  # a quarter or less
    assert likelihood_alarms(validations(4.0, losses=(2.0, 2.1, 1.9), error=0.7)) == {}  # within three errors
    assert likelihood_alarms(validations(4.0, losses=(0.1, 4.4, 1.0, 4.6, 0.1))) == {}  # of both
    assert likelihood_alarms(validations(4.0, losses=(2.0,))) == {}  # of one batch
    assert likelihood_alarms(validations(0.2, losses=(0.11, 0.11), error=0.001)) == {}  # where all text is easy


def test_a_gap_is_read_off_the_losses_since_the_validation_before() -> None:
    fitted, new = validations(4.0, losses=(2.0, 2.1, 1.9)), validations(4.0, losses=(3.9, 4.1))
    assert likelihood_alarms(fitted + new) == {}
    assert set(likelihood_alarms(new + fitted)) == {"gap"}
    assert likelihood_alarms(new + fitted[:-1]) == {}
