"""Which checkpoints of a phase stay: the latest, the best generator, the best classifier."""

from types import SimpleNamespace

import pytest
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gptgan_jax.checkpoints.retention import kept_checkpoints, metrics_of, rank_of, value_of

NATS = [3.0, 1.0, 2.0, 4.0, 5.0]
ERRORS = [0.3, 0.4, 0.1, 0.1, 0.2]


def kept(nats: list[float | None], errors: list[float | None], keep: int = 1) -> list[int]:
    infos = [
        SimpleNamespace(step=i, time=None, metrics=metrics_of(*pair))
        for i, pair in enumerate(zip(nats, errors, strict=True))
    ]
    flags = kept_checkpoints(keep).should_preserve(infos, context=preservation_policy.PreservationContext())
    return [i for i, flag in enumerate(flags) if flag]


@pytest.mark.parametrize(
    ("nats", "errors", "stay"),
    [
        (NATS, [None] * 5, [1, 4]),
        ([None] * 5, ERRORS, [2, 4]),
        (NATS, ERRORS, [1, 2, 4]),
        ([None] * 5, [None] * 5, [4]),
    ],
    ids=["a generator", "a classifier", "both", "neither"],
)
def test_the_best_of_each_and_the_latest_stay(nats, errors, stay) -> None:
    assert kept(nats, errors) == stay


def test_what_was_not_measured_is_never_best() -> None:
    assert value_of(None) == value_of({"valid_class_error": 0.1}) == float("inf")
    assert metrics_of(None, None) is None
    assert metrics_of(None, 0.0) == {"valid_class_error": 0.0}


def test_answers_that_could_not_be_measured_are_worse_than_any_that_were() -> None:
    unknown, poor = metrics_of(0.2, None, float("nan")), metrics_of(2.0, None, 0.9)
    assert rank_of(poor) < rank_of(unknown)


def kept_by_rank(*ranks: float | None) -> list[int]:
    infos = [
        SimpleNamespace(step=i, time=None, metrics=metrics_of(1.0 - 0.1 * i, None, None, rank))
        for i, rank in enumerate(ranks)
    ]
    flags = kept_checkpoints(1).should_preserve(infos, context=preservation_policy.PreservationContext())
    return [i for i, flag in enumerate(flags) if flag]


def test_the_best_by_another_figure_stays_whatever_its_likelihood_and_the_first_of_equals() -> None:
    inf = float("inf")
    assert kept_by_rank(-0.2, -0.5, -0.5, -0.1, -0.3) == [1, 4]
    assert kept_by_rank(inf, 3.0, inf, 3.0, inf) == [1, 4]  # NaN is never best
    assert kept_by_rank(inf, inf, inf) == [2]
