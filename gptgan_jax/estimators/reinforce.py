"""REINFORCE (Williams 1992): the return of each token minus a baseline."""

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import Baseline, moving_average
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.gradients.policy_gradients import with_baseline
from gptgan_jax.types import Number


@suggests_names
def reinforce(discount: Number = 1.0, baseline: Baseline | None = None) -> PolicyGradient:
    """REINFORCE (Williams 1992, doi:10.1007/BF00992696): A_t = R_t - baseline, loss -1/R sum A_t log p(y_t | y_<t).

    With discount = 1 the expected gradient is exactly that of the expected sum of rewards. With discount < 1 later
    rewards count less, as in ScratchGAN (d'Autume et al. 2019, arXiv:1905.09922) with .23: more bias for less variance.

    Args:
        discount: in [0, 1].
        baseline: default: `moving_average()`.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> estimator = gg.reinforce(discount=0.5, baseline=gg.no_baseline())
        >>> advantages, _, _ = estimator.advantages(None, experience)
        >>> advantages
        Array([[1.75, 1.5 , 1.  ],
               [1.5 , 1.  , 0.  ]], dtype=float32)
    """
    return with_baseline(discount, baseline or moving_average())
