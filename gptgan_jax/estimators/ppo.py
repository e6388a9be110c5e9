"""PPO (Schulman et al. 2017): several updates from the texts of a step, with clipped probability ratios."""

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import Baseline, moving_average
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.gradients.policy_gradients import Ratio, clipped_surrogate, with_baseline
from gptgan_jax.schema.ranges import EPOCHS, MINIBATCHES
from gptgan_jax.types import Number


@suggests_names
def ppo(
    discount: Number = 1.0,
    baseline: Baseline | None = None,
    clip: Number = 0.2,
    epochs: int = 4,
    minibatches: int = 1,
    ratio: Ratio = "token",
) -> PolicyGradient:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): several updates from the texts of a step.

    A_t = R_t - baseline, as in `reinforce`, and the loss is `clipped_surrogate`. The first update's gradient is
    REINFORCE's; later ones weight the texts by probability ratios.

    Args:
        discount: in [0, 1].
        baseline: default: `moving_average()`.
        clip, ratio: see `clipped_surrogate`.
        epochs: passes over the texts.
        minibatches: updates per pass; must divide the number of texts of a step.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> estimator = gg.ppo(clip=0.2, epochs=4)
        >>> float(estimator.loss(written.log_probs, experience, jnp.ones((2, 3))))  # ratios are 1: 5 tokens in 2 texts
        -2.5
        >>> estimator.epochs
        4
    """
    EPOCHS.check("epochs", epochs)
    MINIBATCHES.check("minibatches", minibatches)
    estimator = with_baseline(discount, baseline or moving_average())
    return estimator._replace(
        loss=clipped_surrogate(clip, ratio), epochs=epochs, minibatches=minibatches, whole_texts=ratio == "sequence"
    )
