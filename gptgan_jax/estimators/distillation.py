"""GKD (Agarwal et al. 2024): the generator learns a teacher's next-token distributions on its own texts."""

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Distillation
from gptgan_jax.schema.ranges import DIVERGENCE, ON_POLICY


@suggests_names
def distill(beta: float = 0.5, on_policy: float = 1.0) -> Distillation:
    """Generalised knowledge distillation (Agarwal et al. 2024, arXiv:2306.13649): sum_t D_beta(teacher, student)(y_<t).

    D_beta is the generalised Jensen-Shannon divergence, beta KL(P || M) + (1 - beta) KL(Q || M), of the teacher's P and
    the student's Q with M = beta P + (1 - beta) Q; at beta 0 and 1 it is, as in the paper, KL(P || Q) and KL(Q || P).

    The texts are the student's own or real ones. As in the paper, the gradient ignores how the student's tokens change
    later prefixes: on its own texts it is the gradient of the divergence at fixed prefixes, which is a bias. On real
    texts it is exact.

    The teacher itself is not needed with `on_policy` 0 and batches that hold its K most likely tokens at each token of
    real text (`Batch.top_k`). D_beta is then over K + 1 events, one for all other tokens together, and is at most the
    divergence over all tokens.

    Args:
        beta: 0 is KL(teacher || student), 1 is KL(student || teacher).
        on_policy: the paper's lambda: share of the texts that the student generates; the others are the batch's.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> gg.distill(beta=0.1).beta  # near KL(teacher || student)
        0.1
    """
    DIVERGENCE.check("beta", beta, static=True)
    ON_POLICY.check("on_policy", on_policy, static=True)
    return Distillation(lambda width: None, beta, on_policy)
