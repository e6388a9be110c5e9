"""Steps whose numbers go wrong are left out: a wrapper around the pure steps that stays inside jit."""

from typing import Any

import jax
import jax.numpy as jnp

from gptgan_jax.algorithms.gan import Gan, Metrics, Step
from gptgan_jax.algorithms.learning import Learning
from gptgan_jax.types import Array, Batch, GanState

SKIPPED = "skipped"


def skipping(gan: Gan) -> Gan:
    """The same loop, but a step that would spoil the state leaves it as it was.

    Where any metric of a step (a loss, a gradient's norm, a reward) or any number of the state that it makes is NaN or
    infinite, the new state is the old one bit for bit, but for `step`, which goes on, so that the next step draws other
    random numbers, and `skipped`, which counts how many steps in a row were left out.

    The steps' metrics have "skipped" besides, int32 []: 0 for a step that was made, else the count with this one.
    """
    return gan._replace(
        likelihood_step=_guarded(gan.likelihood_step, gan.learning),
        discriminator_step=_guarded(gan.discriminator_step, gan.learning),
        adversarial_step=_guarded(gan.adversarial_step, gan.learning),
    )


def all_finite(tree: Any) -> Array:
    """Whether no floating-point array of a tree holds NaN or an infinity, bool []."""
    found = [jnp.isfinite(x).all() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack(found).all() if found else jnp.bool_(True)


def _guarded(step: Step, learning: Learning) -> Step:
    def guarded(state: GanState, batch: Batch) -> tuple[GanState, Metrics]:
        assert state.skipped is not None
        after, metrics = step(state, batch)
        # One answer for all arrays, so that the two players can't come apart. What stays as it is needs no look: it is
        # as large as all the rest, and was read by the step, whose metrics would tell.
        before, new = learning.only(state), learning.only(after)
        good = all_finite((metrics, new))
        skipped = jnp.where(good, 0, state.skipped + 1)
        kept = learning.whole(
            jax.tree.map(lambda new, old: jnp.where(good, new, old), new, before), learning.frozen(state)
        )
        return kept.replace(step=after.step, skipped=skipped), metrics | {SKIPPED: skipped}

    return guarded
