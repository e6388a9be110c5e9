"""SeqGAN (Yu et al. 2017): tokens are paid what the texts that go on from them are worth; see `algorithms.seqgan`."""

from gptgan_jax.gradients.baselines import Baseline, moving_average
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.gradients.policy_gradients import with_baseline
from gptgan_jax.schema.ranges import ROLLOUTS


def rollout(rollouts: int = 16, baseline: Baseline | None = None) -> PolicyGradient:
    """SeqGAN (Yu et al. 2017, arXiv:1609.05473): a token is worth the mean score of texts that go on from it.

    A_t = 1/M sum_m D(y_<=t, continuation m) - baseline, with M = `rollouts`; A_T = D(y) - baseline.

    The value of each token is estimated by `rollouts` continuations that the generator writes; that of the last one is
    the judgement of the text itself. The expected gradient is that of the expected judgement, exactly.

    Args:
        rollouts: continuations of each prefix, at least 1.
        baseline: default: `moving_average()`.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> gg.rollout(rollouts=16).rollouts
        16
    """
    ROLLOUTS.check("rollouts", rollouts)
    return with_baseline(0.0, baseline or moving_average())._replace(rollouts=rollouts)
