"""Wrappers around the pure steps: skip steps whose numbers are not finite (`skipping`), or find errors (`checked`)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from gptgan_jax.algorithms.gan import Gan, Metrics, Step
from gptgan_jax.algorithms.learning import Learning
from gptgan_jax.errors import suggests_names
from gptgan_jax.types import Array, Batch, GanState, Vocabulary

SKIPPED = "skipped"


@suggests_names
def skipping(gan: Gan) -> Gan:
    """The same loop, except that a step with non-finite numbers leaves the state unchanged.

    If any metric of a step (a loss, a gradient norm, a reward) or any number in its new state is NaN or infinite, the
    old state is kept bit for bit, except for `step`, which still advances so that the next step uses other random
    numbers, and `skipped`, which counts consecutive skipped steps.

    The steps' metrics also have "skipped", int32 []: 0 for a step that was made, otherwise the count with this one.

    Example:
        >>> state, metrics = gg.skipping(gan).likelihood_step(gan.init(key, batch), batch)
        >>> int(metrics["skipped"])
        0
    """
    return gan._replace(
        likelihood_step=_guarded(gan.likelihood_step, gan.learning),
        discriminator_step=_guarded(gan.discriminator_step, gan.learning),
        adversarial_step=_guarded(gan.adversarial_step, gan.learning),
    )


@suggests_names
def checked(step: Step, vocabulary: Vocabulary) -> Callable[[GanState, Batch], tuple[GanState, Metrics]]:
    """A compiled step that reports wrong values in its inputs and its computation; for debugging.

        step = gg.checked(gan.adversarial_step, vocabulary)
        state, metrics = step(state, batch)

    Shapes and types are checked whenever a step is traced. Values are not, as this takes time: a token id outside the
    vocabulary gives NaN, and a mask with holes gives a different text. This function finds both, and the operation that
    first produced a NaN. It donates nothing and must not be jitted again.

    Args:
        step: one of a `Gan`.
        vocabulary: of its networks.

    Returns:
        (state, batch) -> (state, metrics), which raises jax.experimental.checkify.JaxRuntimeError (a ValueError) with
        one line that says what is wrong.

    Example:
        >>> step = gg.checked(gan.likelihood_step, vocabulary)
        >>> state, metrics = step(state, batch)
        >>> sorted(metrics)
        ['gradient_norm', 'loss']
    """

    def looked_at(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        for name in ("prompt", "target"):
            ids, mask = getattr(batch, name), getattr(batch, f"{name}_mask")
            wrong = mask & ((ids < 0) | (ids >= vocabulary.size))
            checkify.check(
                ~wrong.any(),
                f"batch.{name} holds the token id {{wrong}}; the vocabulary's are 0 to {vocabulary.size - 1}",
                wrong=jnp.where(wrong, ids, 0).ravel()[jnp.argmax(wrong)],
            )
        rising = batch.target_mask[:, 1:] & ~batch.target_mask[:, :-1]
        checkify.check(~rising.any(), "batch.target_mask has a hole: a text's tokens stand at its row's beginning")
        falling = batch.prompt_mask[:, :-1] & ~batch.prompt_mask[:, 1:]
        checkify.check(~falling.any(), "batch.prompt_mask has a hole: a prompt's tokens stand at its row's end")
        return step(state, batch)

    compiled = jax.jit(checkify.checkify(looked_at, errors=checkify.user_checks | checkify.nan_checks))

    def run(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        error, (state, metrics) = compiled(state, batch)
        error.throw()
        return state, metrics

    return run


def all_finite(tree: Any) -> Array:
    """Whether all floating-point arrays of a tree are finite, bool []."""
    found = [jnp.isfinite(x).all() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack(found).all() if found else jnp.bool_(True)


def _guarded(step: Step, learning: Learning) -> Step:
    def guarded(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        if state.skipped is None:
            raise ValueError("the state counts no skipped steps; begin the phase: state = gan.begin(state)")
        after, metrics = step(state, batch)
        # One decision for all arrays, so that both networks stay in step. Frozen parameters are not checked: they are
        # large, and the step reads them, so its metrics would show a NaN in them.
        before, new = learning.only(state), learning.only(after)
        good = all_finite((metrics, new))
        skipped = jnp.where(good, 0, state.skipped + 1)
        kept = learning.whole(
            jax.tree.map(lambda new, old: jnp.where(good, new, old), new, before), learning.frozen(state)
        )
        return kept.replace(step=after.step, skipped=skipped), metrics | {SKIPPED: skipped}

    return guarded
