"""Which checkpoints of a phase are kept: the latest few, its best generator and its best classifier."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from orbax.checkpoint.checkpoint_managers import preservation_policy

METRIC = "valid_nats_per_token"
CLASS_METRIC = "valid_class_error"
TASK_METRIC = "valid_task_error"
CHOICE_RANK = "choice_rank"


@dataclass(frozen=True)
class LeastOf(preservation_policy.PreservationPolicy):
    """Keeps the checkpoint with the lowest value of a function of its metrics, the earliest of equals; none if all
    values are infinite."""

    measure: Callable[[Any], float]

    def should_preserve(
        self,
        checkpoints: Sequence[preservation_policy.PolicyCheckpointInfo],
        *,
        context: preservation_policy.PreservationContext,
    ) -> Sequence[bool]:
        values = [self.measure(info.metrics) for info in checkpoints]
        least = min(values, default=math.inf)
        best = None if math.isinf(least) else values.index(least)
        return [i == best for i in range(len(checkpoints))]


def kept_checkpoints(keep: int) -> preservation_policy.PreservationPolicy:
    """The latest `keep`, the best generator, and the one with the lowest class error."""
    return preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(keep),
            LeastOf(rank_of),
            LeastOf(partial(value_of, name=CLASS_METRIC)),
        ]
    )


def metrics_of(
    valid_nats: float | None,
    class_error: float | None,
    task_error: float | None = None,
    choice_rank: float | None = None,
) -> dict[str, float] | None:
    """The metrics saved with a checkpoint; None if nothing was measured.

    NaN counts as not measured, as it would always compare as the lowest. A NaN task error is saved as infinite, since a
    checkpoint without that metric would be ranked by another.
    """
    if task_error is not None and math.isnan(task_error):
        task_error = math.inf
    values = {METRIC: valid_nats, CLASS_METRIC: class_error, TASK_METRIC: task_error, CHOICE_RANK: choice_rank}
    return {name: value for name, value in values.items() if value is not None and not math.isnan(value)} or None


def value_of(metrics: Any, name: str = METRIC) -> float:
    """A metric of a checkpoint; infinite if it was not measured."""
    return (metrics or {}).get(name, math.inf)


def rank_of(metrics: Any) -> float:
    """The value that ranks generators, lowest first: the metric of `evaluation.choose_by` if it was measured, else the
    task error, else the validation loss."""
    measured = (name for name in (CHOICE_RANK, TASK_METRIC) if name in (metrics or {}))
    return value_of(metrics, next(measured, METRIC))
