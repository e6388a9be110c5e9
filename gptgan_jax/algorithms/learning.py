"""Which parameters are trained: gradients and updates only for those, and a single copy of all frozen ones.

In a network with adapters (`layers.lora`) most weights are frozen. A step passes these on unchanged, so they need no
gradient, no optimiser state and no second copy: generator, average, reference and a discriminator on the generator's
Transformer share the same arrays. `Learning.only` and `Learning.frozen` split a state into the trained part and the
frozen arrays, each of them once; `Learning.whole` puts it together again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import learns, with_adapters, without_adapters
from gptgan_jax.models.shared_trunk import NEW
from gptgan_jax.models.trees import joined, parted, without
from gptgan_jax.types import GanState, Params, Player

Learns = Callable[[str], bool]


class Frozen(NamedTuple):
    """The frozen parameters of a state, each array once.

    Attributes:
        generator: the generator's.
        ema, reference, discriminator: those of the average, the reference and the discriminator that are not the same
            array as the generator's at that path.
        teacher: the teacher's; None without one.
    """

    generator: Params
    ema: Params
    reference: Params
    discriminator: Params
    teacher: Params | None = None


class Learning(NamedTuple):
    """Which parameters are trained.

    Attributes:
        generator, discriminator: whether the parameter at a path of that network is trained, such as
            trunk/embedding/table; None if all are.
    """

    generator: Learns | None = None
    discriminator: Learns | None = None

    @classmethod
    def of(cls, generator_config: Any, discriminator_config: Any) -> "Learning":
        """What is trained in two networks, by their configurations; everything if they have no adapters."""
        return cls(_learns(generator_config), _learns(discriminator_config, NEW))

    @property
    def is_all(self) -> bool:
        """Whether nothing is frozen."""
        return self.generator is None and self.discriminator is None

    def only(self, state: GanState) -> GanState:
        """The state without its frozen parameters; of arrays, shape structs or shardings."""

        def of_generator(params: Params | None) -> Params | None:
            return None if params is None else split(params, self.generator)[0]

        generator, discriminator = state.generator, state.discriminator
        return state.replace(
            generator=generator.replace(params=of_generator(generator.params), ema=of_generator(generator.ema)),
            discriminator=discriminator.replace(params=split(discriminator.params, self.discriminator)[0]),
            reference=of_generator(state.reference),
            teacher=None,
        )

    def frozen(self, state: GanState) -> Frozen:
        """The frozen parameters."""
        base = split(state.generator.params, self.generator)[1]

        def others(params: Params | None, learns: Learns | None) -> Params:
            return {} if params is None else without(split(params, learns)[1], base)

        return Frozen(
            base,
            others(state.generator.ema, self.generator),
            others(state.reference, self.generator),
            others(state.discriminator.params, self.discriminator),
            state.teacher,
        )

    def whole(self, only: GanState, frozen: Frozen) -> GanState:
        """The state from the two parts that `only` and `frozen` made of it."""
        only = only.replace(teacher=frozen.teacher)
        if self.is_all:
            return only
        base, generator, discriminator = frozen.generator, only.generator, only.discriminator
        of_discriminator = {} if self.discriminator is None else {"trunk": base.get("trunk", {})}
        of_discriminator = joined(frozen.discriminator, split(of_discriminator, self.discriminator)[1])

        def of_generator(params: Params | None, own: Params) -> Params | None:
            return None if params is None else joined(params, joined(own, base))

        return only.replace(
            generator=generator.replace(
                params=joined(generator.params, base), ema=of_generator(generator.ema, frozen.ema)
            ),
            discriminator=discriminator.replace(params=joined(discriminator.params, of_discriminator)),
            reference=of_generator(only.reference, frozen.reference),
        )


EVERYTHING = Learning()


def split(params: Params, learns: Learns | None) -> tuple[Params, Params]:
    """The trained parameters, and the frozen ones."""
    return (params, {}) if learns is None else parted(params, learns)


def gradient_of(
    loss: Callable[..., Any], params: Params, learns: Learns | None, *arguments: Any, has_aux: bool = False
) -> tuple[Any, Params]:
    """The value of a loss (with its auxiliary output), and its gradient by the trained parameters.

    Args:
        loss: (params, *arguments) -> float32 [], or with `has_aux` (float32 [], anything).
        params: all parameters of a network.
        learns: which of them are trained.
    """
    learning, still = split(params, learns)

    def of_learning(learning: Params, *arguments: Any) -> Any:
        return loss(joined(learning, still), *arguments)

    return jax.value_and_grad(loss if learns is None else of_learning, has_aux=has_aux)(learning, *arguments)


def updated(
    optimizer: optax.GradientTransformation, player: Player, gradient: Params, learns: Learns | None = None
) -> Player:
    """The player after one update; its average and its frozen parameters are unchanged.

    Args:
        optimizer: of all parameters of the player.
        player: before the update.
        gradient: of the trained parameters.
        learns: which parameters are trained.
    """
    if learns is None:
        updates, opt_state = optimizer.update(gradient, player.opt_state, player.params)
        return player.replace(params=optax.apply_updates(player.params, updates), opt_state=opt_state)
    learning, still = split(player.params, learns)
    everywhere = joined(gradient, jax.tree.map(jnp.zeros_like, still))
    updates, opt_state = optimizer.update(everywhere, player.opt_state, player.params)
    moved = optax.apply_updates(learning, split(updates, learns)[0])
    return player.replace(params=joined(moved, still), opt_state=opt_state)


def where_learning(function: Callable[[Any, Any], Any], learns: Learns | None, old: Params, new: Params) -> Params:
    """`jax.tree.map(function, old, new)` over the trained parameters; the others are the old ones, unchanged."""
    (moving, still), (to, _) = split(old, learns), split(new, learns)
    return joined(jax.tree.map(function, moving, to), still)


def _learns(config: Any, new: Sequence[str] = ()) -> Learns | None:
    lora = getattr(config, "lora", None)
    return learns(lora, new) if lora is not None and lora.rank else None


def begun_with(start: Params, drawn: Params) -> Params:
    """A copy of the given parameters to start from, with adapters from the random initialisation if they have none.

    Raises:
        UserError: their shapes do not fit.
    """

    def is_like(tree: Params) -> bool:
        return bool(jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, tree))

    copied = jax.tree.map(jnp.copy, start)  # copied because states are donated
    if is_like(drawn):
        return copied
    if not is_like(without_adapters(drawn)):
        raise UserError("start: these are not the parameters of this generator, with its adapters or without")
    return with_adapters(copied, drawn)
