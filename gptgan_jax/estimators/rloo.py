"""RLOO (Kool et al. 2019; Ahmadian et al. 2024): the other texts of a prompt serve as the baseline."""

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import leave_one_out
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.gradients.policy_gradients import with_baseline
from gptgan_jax.schema.ranges import GROUP
from gptgan_jax.types import Number


@suggests_names
def rloo(samples: int = 4, discount: Number = 1.0) -> PolicyGradient:
    """REINFORCE leave-one-out: A_t = R_t - mean of the mean returns of the prompt's N - 1 other texts.

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free"; Ahmadian et al. 2024, arXiv:2402.14740.

    With discount = 1 the expected gradient is exact.

    Args:
        samples: texts per prompt, at least 2.
        discount: in [0, 1].

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> advantages, _, _ = gg.rloo(samples=2).advantages(None, experience)
        >>> advantages
        Array([[ 1.5,  0.5, -0.5],
               [ 0. , -1. ,  0. ]], dtype=float32)
    """
    GROUP.check("samples", samples)
    return with_baseline(discount, leave_one_out())._replace(samples=samples)
