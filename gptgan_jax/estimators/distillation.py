"""GKD (Agarwal et al. 2024): the generator learns a teacher's next-token distributions, on texts of its own."""

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Distillation
from gptgan_jax.schema.ranges import DIVERGENCE, ON_POLICY


@suggests_names
def distill(beta: float = 0.5, on_policy: float = 1.0) -> Distillation:
    """Generalised knowledge distillation (Agarwal et al. 2024, arXiv:2306.13649): sum_t D_beta(teacher, student)(y_<t).

    D_beta is the generalised Jensen-Shannon divergence, beta KL(P || M) + (1 - beta) KL(Q || M) of the teacher's P and
    the student's Q with M = beta P + (1 - beta) Q; at its ends, as the paper has it, KL(P || Q) and KL(Q || P).

    The texts are the student's own or real ones. How its tokens change the prefixes after them is left out, as in the
    paper: on its own texts the expected gradient is that of the divergence at prefixes that are held fixed, a bias. On
    real texts it is exact.

    Args:
        beta: 0 is KL(teacher || student), 1 is KL(student || teacher).
        on_policy: the paper's lambda: share of the texts that the student writes; the others are those of the batch.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> gg.distill(beta=0.1).beta  # near KL(teacher || student)
        0.1
    """
    DIVERGENCE.check("beta", beta, static=True)
    ON_POLICY.check("on_policy", on_policy, static=True)
    return Distillation(lambda width: None, beta, on_policy)
