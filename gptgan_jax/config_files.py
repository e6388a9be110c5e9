"""Earlier name of `gptgan_jax.config.files`; to go in the next version."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from gptgan_jax.config import files

    warnings.warn(f"{__name__} is gptgan_jax.config.files now", DeprecationWarning, stacklevel=2)
    return getattr(files, name)
