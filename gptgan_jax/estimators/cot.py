"""CoT (Lu et al. 2018): the generator is trained towards a mediator, a language model of real and generated text."""

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.baselines import discounted_returns
from gptgan_jax.gradients.families import Mediated, Metrics
from gptgan_jax.objectives.likelihood import kl_divergence, token_log_probs
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array


@suggests_names
def cot(future: bool = False) -> Mediated:
    """Cooperative training (Lu et al. 2018, arXiv:1804.03782), with the generator G and the mediator M.

        M minimises -1/2 E_real log M(y) - 1/2 E_G log M(y)        optimum (P + G) / 2, with P the data
        G minimises E_G sum_t KL(G(. | y_<t) || M(. | y_<t))

    With the optimal M the second is KL(G || (P + G) / 2), and its gradient, with M fixed, is twice that of the
    Jensen-Shannon divergence of P and G. Every KL is summed over the vocabulary, so the only noise is in the prefixes.

    The paper's gradient ignores how a token changes the prefixes after it, which is a bias. With `future` the KL at
    later prefixes is added through the token's log-probability, and the gradient is exact.

    Args:
        future: add that term.

    Example:
        >>> certain, uniform = 100.0 * jax.nn.one_hot(batch.target, 8), jnp.zeros((2, 3, 8))
        >>> loss, metrics = gg.cot().loss(certain, uniform, batch.target, batch.target_mask)
        >>> round(float(loss), 4)  # log 8 for each of 5 tokens in 2 texts
        5.1986
    """

    def loss(logits: Array, mediator: Array, tokens: Array, mask: Array) -> tuple[Array, Metrics]:
        check_arrays(
            "cot",
            logits=(logits, "float [R, T, V]"),
            mediator=(mediator, "float [R, T, V]"),
            tokens=(tokens, "int [R, T]"),
            mask=(mask, "bool [R, T]"),
        )
        kl = jnp.where(mask, kl_divergence(logits, mediator), 0.0)
        total, rows = kl.sum(), mask.shape[0]
        if future:
            # The KL at the token itself depends on the prefix only: including it would just add noise.
            later = jax.lax.stop_gradient(discounted_returns(kl, mask, 1.0) - kl)
            charged = (later * token_log_probs(logits, tokens)).sum()
            total += charged - jax.lax.stop_gradient(charged)
        return total / rows, {"mediator_kl": jax.lax.stop_gradient(kl.sum() / jnp.maximum(mask.sum(), 1))}

    return Mediated(lambda width: None, loss)
