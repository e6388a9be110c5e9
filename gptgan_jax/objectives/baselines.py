"""Earlier name of `gptgan_jax.estimators.baselines`, for estimators of users' own; to go in the next version."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from gptgan_jax.estimators import baselines

    warnings.warn(f"{__name__} is gptgan_jax.estimators.baselines now", DeprecationWarning, stacklevel=2)
    return getattr(baselines, name)
