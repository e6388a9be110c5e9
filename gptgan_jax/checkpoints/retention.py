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
    """Keeps the checkpoint of which a function of the metrics is least, the earliest of equals; none where all are
    infinite."""

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
    """The latest `keep`, the best generator, and the one of least class error."""
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
    """What is saved beside a checkpoint: what was measured; None where nothing was.

    NaN counts as not measured: compared with others it would stay the least.
    """
    values = {METRIC: valid_nats, CLASS_METRIC: class_error, TASK_METRIC: task_error, CHOICE_RANK: choice_rank}
    return {name: value for name, value in values.items() if value is not None and not math.isnan(value)} or None


def value_of(metrics: Any, name: str = METRIC) -> float:
    """A metric of a checkpoint; infinite where it was not measured."""
    return (metrics or {}).get(name, math.inf)


def rank_of(metrics: Any) -> float:
    """What generators are ranked by, the least first: the figure of `evaluation.choose_by` where it was measured, or
    their answers, or else likelihood."""
    measured = (name for name in (CHOICE_RANK, TASK_METRIC) if name in (metrics or {}))
    return value_of(metrics, next(measured, METRIC))
