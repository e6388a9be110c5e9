"""Earlier name of `gptgan_jax.estimators.policy_gradients`, for estimators of users' own; to go in the next version."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from gptgan_jax.estimators import policy_gradients

    warnings.warn(f"{__name__} is gptgan_jax.estimators.policy_gradients now", DeprecationWarning, stacklevel=2)
    return getattr(policy_gradients, name)
