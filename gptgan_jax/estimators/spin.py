"""No discriminator, only the generator's own probabilities: SPIN, DGSAN, JSDGAN, and pair losses on log-ratios."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.gradients.families import Metrics, SelfPlay
from gptgan_jax.objectives.discrimination import PAIR_LOSSES
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import COUNT, REFRESH_EVERY, SELF_PLAY_SCALE, check_choice
from gptgan_jax.types import Array, Number

OwnLoss = Literal["relativistic", "non_saturating", "hinge"]


@suggests_names
def spin(scale: Number = 0.1, refresh_every: int = 100) -> SelfPlay:
    """Self-play fine-tuning (Chen et al. 2024, arXiv:2401.01335).

    The loss is the mean of softplus(-scale ((log p - log q)(real) - (log p - log q)(generated))), where q is the
    reference, which generated the texts. Its minimum moves from q towards the data, to q(x) (data(x)/q(x))^(1/scale)
    up to normalisation.

    Args:
        scale: the paper's lambda, above 0.
        refresh_every: steps of an iteration, after which the generator becomes its own reference.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> loss, metrics = gg.spin(scale=1.0).loss(*jnp.zeros((4, 2)))
        >>> round(float(loss), 4)  # log 2, where the generator is still its reference
        0.6931
    """
    SELF_PLAY_SCALE.check("scale", scale)
    REFRESH_EVERY.check("refresh_every", refresh_every)

    def loss(real: Array, reference_real: Array, written: Array, reference_written: Array) -> tuple[Array, Metrics]:
        _check("spin", real, reference_real, written, reference_written)
        margin = (real - reference_real) - (written - reference_written)
        metrics = {"margin": margin.mean(), "preferred_real": (margin > 0).mean(dtype=jnp.float32)}
        return jax.nn.softplus(-scale * margin).mean(), metrics

    def refresh(step: Array) -> tuple[Array, Array]:
        return step + 1, step % refresh_every == 0

    return SelfPlay(lambda width: jnp.int32(0), loss, refresh)


@suggests_names
def dgsan(refresh_every: int = 100) -> SelfPlay:
    """Discrete generative self-adversarial network (Montahaei et al. 2019, arXiv:1908.09127).

        D = p / (p + q)              the optimal discriminator between texts from p and from the reference q
        loss = mean over real texts of -log D + mean over texts from q of -log(1 - D)

    The generator p is trained through D and then becomes the next reference. Without restrictions on p the minimum is
    the data distribution itself, after one iteration; at the start of an iteration the gradient is half that of
    likelihood training. `spin` with scale 1 is similar, but with real and generated texts in pairs.

    Args:
        refresh_every: steps of an iteration, after which the generator becomes its own reference.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> loss, metrics = gg.dgsan().loss(*jnp.zeros((4, 2)))
        >>> round(float(loss), 4)  # 2 log 2, where the generator is still its reference
        1.3863
    """
    REFRESH_EVERY.check("refresh_every", refresh_every)

    def loss(real: Array, reference_real: Array, written: Array, reference_written: Array) -> tuple[Array, Metrics]:
        _check("dgsan", real, reference_real, written, reference_written)
        of_real, of_written = real - reference_real, written - reference_written
        metrics = {"margin": of_real.mean() - of_written.mean()}
        return jax.nn.softplus(-of_real).mean() + jax.nn.softplus(of_written).mean(), metrics

    def refresh(step: Array) -> tuple[Array, Array]:
        return step + 1, step % refresh_every == 0

    return SelfPlay(lambda width: jnp.int32(0), loss, refresh)


@suggests_names
def self_critic(pair_loss: OwnLoss = "relativistic", scale: Number = 0.1, refresh_every: int | None = None) -> SelfPlay:
    """The generator's own log-ratio as the critic, as in DPO (Rafailov et al. 2023, arXiv:2305.18290).

        critic(y) = scale log p(y) / q(y)        with q the reference, which generated the texts
        loss = pair loss of the critic's scores of real and of generated texts

    With the `relativistic` loss and a fixed reference it is DPO, with real texts preferred to the reference's own; with
    a reference that is refreshed it is `spin`. With `non_saturating` and scale 1 it is `dgsan`. With `hinge`, texts
    whose score is beyond the margin have no gradient.

    Args:
        pair_loss: loss on the scores: relativistic, non_saturating or hinge. A Wasserstein loss would have no minimum,
            as log-probabilities are unbounded.
        scale: DPO's beta, above 0.
        refresh_every: steps after which the generator becomes its own reference; None: never.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> loss, metrics = gg.self_critic("hinge").loss(*jnp.zeros((4, 2)))
        >>> float(loss)  # 1 for the real and 1 for the written text, where the generator is still its reference
        2.0
    """
    check_choice("pair_loss", pair_loss, get_args(OwnLoss))
    SELF_PLAY_SCALE.check("scale", scale)
    if refresh_every is not None:
        REFRESH_EVERY.check("refresh_every", refresh_every)

    def loss(real: Array, reference_real: Array, written: Array, reference_written: Array) -> tuple[Array, Metrics]:
        _check("self_critic", real, reference_real, written, reference_written)
        scores = scale * (real - reference_real)[:, None], scale * (written - reference_written)[:, None]
        everything = jnp.ones_like(scores[0], dtype=bool)
        margin = (scores[0] - scores[1]) / scale
        metrics = {"margin": margin.mean(), "preferred_real": (margin > 0).mean(dtype=jnp.float32)}
        return PAIR_LOSSES[pair_loss](scores[0], everything, scores[1], everything), metrics

    def refresh(step: Array) -> tuple[Array, Array]:
        return step + 1, jnp.bool_(False) if refresh_every is None else step % refresh_every == 0

    return SelfPlay(lambda width: jnp.int32(0), loss, refresh)


@suggests_names
def jsdgan(texts: int = 10_000, normalised: bool = True) -> SelfPlay:
    """The Jensen-Shannon divergence of p and the training texts (JSDGAN: Li et al. 2019, AISTATS, PMLR 89).

    Each training text has the probability d = 1 / N, and all other texts have none. The optimal discriminator is known,
    d / (d + p), and the gradient of the divergence is an expectation over real texts only,

        1/2 E_real w grad log p,      w = p / d log(p / (d + p))  <= 0

    For texts of more than a few tokens p / d is practically 0, and so is w. The implementation in TextGAN-PyTorch
    rescales: its `normalised` p is (p - least) / (largest - least) over the batch, and d is one over the batch size.
    That is likelihood training on the texts of a batch that are already likely, and not the divergence's gradient.

    Args:
        texts: N, at least 1; no effect if `normalised`.
        normalised: rescale as TextGAN-PyTorch does.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> loss, metrics = gg.jsdgan(texts=2, normalised=False).loss(*jnp.full((4, 2), jnp.log(0.5)))
        >>> round(float(metrics["weight"]), 4)  # w = -log 2, where p is d
        -0.6931
    """
    COUNT.check("texts", texts)

    def loss(real: Array, reference_real: Array, written: Array, reference_written: Array) -> tuple[Array, Metrics]:
        _check("jsdgan", real, reference_real, written, reference_written)
        log_p, count = jax.lax.stop_gradient(real), float(texts)
        if normalised:
            likely, count = jnp.exp(log_p - log_p.max()), float(real.shape[0])
            share = (likely - likely.min()) / jnp.maximum(1 - likely.min(), 1e-30)
            log_p = jnp.log(jnp.maximum(share, 1e-30))
        ratio = log_p + jnp.log(count)
        weights = -jnp.exp(ratio) * jax.nn.softplus(-ratio)
        return (weights * real).mean() / 2, {"weight": weights.mean()}

    return SelfPlay(lambda width: None, loss, lambda state: (state, jnp.bool_(False)), writes=False)


def _check(name: str, *log_probs: Array) -> None:
    names = "real", "reference_real", "written", "reference_written"
    check_arrays(name, **{which: (x, "float [B]") for which, x in zip(names, log_probs, strict=True)})
