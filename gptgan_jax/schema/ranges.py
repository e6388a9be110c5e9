"""The allowed numbers of each parameter, defined once for the keys of a configuration and for the functional API."""

import math
import numbers
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from gptgan_jax.errors import UserError


class Range(NamedTuple):
    """The finite numbers between two bounds.

    Attributes:
        gt, ge: lower bound, exclusive or inclusive.
        lt, le: upper bound, exclusive or inclusive.
        whole: whether it must be a whole number.
    """

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    whole: bool = False

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by pydantic's names."""
        return {name: value for name, value in self._asdict().items() if name != "whole" and value is not None}

    def __str__(self) -> str:
        """The range in words: a whole number, at least 1."""
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        bounds = " and ".join(f"{words[name]} {value:g}" for name, value in self.bounds.items())
        return f"a whole number, {bounds}" if self.whole else bounds or "a finite number"

    def check(self, name: str, value: Any, static: bool = False) -> None:
        """Checks a number. A number that JAX is tracing is not known yet and passes.

        Args:
            name: its name in the message.
            value: a number, or a scalar array.
            static: whether shapes or loops depend on it, so that it must be known when a program is traced.

        Raises:
            UserError: it is out of range, NaN or infinite.
            TypeError: it is not a number, a static one is being traced, or a traced one is not a scalar.
        """
        if isinstance(value, jax.core.Tracer):
            if static:
                raise TypeError(f"{name} makes shapes, so it can't be traced (jit, vmap): give {self}, in Python")
            if value.ndim:
                raise TypeError(f"{name} should be one number, not an array of shape {list(value.shape)}")
            return
        if isinstance(value, jax.Array | np.ndarray | np.generic) and np.ndim(value) == 0:
            value = np.asarray(value).item()
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} should be {self}, not {value!r}")
        if not self._holds(value):
            finite = "" if math.isfinite(value) or self == ANY else " and finite"
            raise UserError(f"{name} should be {self}{finite}, not {value}")

    def _holds(self, value: Any) -> bool:
        return (
            math.isfinite(value)
            and (not self.whole or isinstance(value, numbers.Integral))
            and (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )


def is_on(weight: Any) -> bool:
    """Whether a weight is on: not 0, or being traced by JAX, as it may then be any number."""
    return isinstance(weight, jax.core.Tracer) or bool(weight)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises UserError if a name is not among the choices."""
    if value not in choices:
        raise UserError(f"{name} should be one of {', '.join(choices)}, not {value!r}")


ANY = Range()
POSITIVE = Range(gt=0)
WEIGHT = Range(ge=0)
SHARE = Range(ge=0, lt=1)
COUNT = Range(ge=1, whole=True)
COUNT_OR_ZERO = Range(ge=0, whole=True)

# ---- estimators: a key of objective.estimator and the argument of that name

DISCOUNT = Range(ge=0, le=1)
BASELINE_DECAY = SHARE
LEARNING_RATE = POSITIVE
CLIP = POSITIVE
"""A configuration also requires less than 1; in the functional API a number beyond all ratios turns clipping off."""
EPOCHS = MINIBATCHES = ROLLOUTS = SAMPLES = DRAWS = REFRESH_EVERY = WINDOW = COUNT
GROUP = Range(ge=2, whole=True)
"""Texts per prompt if each is compared with the others."""
WEIGHTS_BASELINE = Range(ge=0, le=1)
RELAXATION_TEMPERATURE = POSITIVE
SELF_PLAY_SCALE = POSITIVE
MATCHED_GROUP = Range(ge=3, whole=True)
"""Texts per prompt for feature matching: with only two, their similarity would cancel in the leave-one-out baseline."""
DEPTH = Range(gt=0, le=1)
DIVERSITY = WEIGHT
STRETCH = COUNT
CONTEXT = COUNT_OR_ZERO
DIVERGENCE = ON_POLICY = INTRINSIC_SHARE = Range(ge=0, le=1)
RESCALE = WEIGHT

# ---- losses and rewards

LABEL_SMOOTHING = Range(ge=0, lt=0.5)
SHARPNESS = BANDWIDTH = POSITIVE

# ---- the attributes of a Game, and the keys of objective, objective.classification and adversarial that set them

GAME: dict[str, Range] = {
    "temperature": POSITIVE,
    "entropy_weight": WEIGHT,
    "likelihood_weight": WEIGHT,
    "kl_weight": WEIGHT,
    "r1_weight": WEIGHT,
    "r2_weight": WEIGHT,
    "gradient_penalty_weight": WEIGHT,
    "next_token_weight": WEIGHT,
    "mmd_weight": WEIGHT,
    "class_weight": WEIGHT,
    "real_fake_weight": WEIGHT,
    "replay_size": COUNT_OR_ZERO,
    "replay_share": Range(gt=0, lt=1),
    "discriminator_updates": COUNT,
    "ema_decay": SHARE,
    "discriminator_reward_weight": WEIGHT,
    "resample_groups": COUNT_OR_ZERO,
}
REWARD_WEIGHT = ANY
"""Of a reward function; a negative weight rewards the opposite."""
POLICY_GRADIENT: dict[str, Range] = {
    "samples": COUNT,
    "rollouts": COUNT_OR_ZERO,
    "epochs": COUNT,
    "minibatches": COUNT,
}
DEMONSTRATIONS: dict[str, Range] = {"share": SHARE, "reward": ANY, "steps": COUNT}
