"""What of the players learns: gradients by that alone, updates of that alone, and one copy of all the rest.

A network with adapters (`layers.lora`) is mostly weights that stay as they are. A step hands those on as they came, so
that they need no gradient, no state of an optimiser and no second copy: generator, average, reference and a
discriminator on the generator's Transformer are then the same arrays. `Learning.only` and `Learning.frozen` take a
state apart into what learns and the arrays that stay, each of them once; `Learning.whole` puts it together.
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
    """The parameters of a state that stay as they are, each array once.

    Attributes:
        generator: the generator's.
        ema, reference, discriminator: what of the average, the reference and the discriminator is not the same array as
            the generator's of that path.
        teacher: the teacher's; None where there is none.
    """

    generator: Params
    ema: Params
    reference: Params
    discriminator: Params
    teacher: Params | None = None


class Learning(NamedTuple):
    """Which parameters learn.

    Attributes:
        generator, discriminator: whether the parameter at a path of that player does, such as trunk/embedding/table;
            None where all do.
    """

    generator: Learns | None = None
    discriminator: Learns | None = None

    @classmethod
    def of(cls, generator_config: Any, discriminator_config: Any) -> "Learning":
        """What learns in two networks, by their configurations; everything where they have no adapters."""
        return cls(_learns(generator_config), _learns(discriminator_config, NEW))

    @property
    def is_all(self) -> bool:
        """Whether nothing stays as it is."""
        return self.generator is None and self.discriminator is None

    def only(self, state: GanState) -> GanState:
        """The state without the parameters that stay as they are; of arrays, shape structs or shardings."""

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
        """The parameters that stay as they are."""
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
        """The state that `only` and `frozen` made two parts of."""
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
    """The parameters that learn, and those that stay as they are."""
    return (params, {}) if learns is None else parted(params, learns)


def gradient_of(
    loss: Callable[..., Any], params: Params, learns: Learns | None, *arguments: Any, has_aux: bool = False
) -> tuple[Any, Params]:
    """What a loss comes to (and what it returns besides), and its gradient by the parameters that learn.

    Args:
        loss: (params, *arguments) -> float32 [], or with `has_aux` (float32 [], anything).
        params: all parameters of a player.
        learns: which of them do.
    """
    learning, still = split(params, learns)

    def of_learning(learning: Params, *arguments: Any) -> Any:
        return loss(joined(learning, still), *arguments)

    return jax.value_and_grad(loss if learns is None else of_learning, has_aux=has_aux)(learning, *arguments)


def updated(
    optimizer: optax.GradientTransformation, player: Player, gradient: Params, learns: Learns | None = None
) -> Player:
    """The player after one update; its average is not touched, nor is what does not learn.

    Args:
        optimizer: of all parameters of the player.
        player: before.
        gradient: of those that learn.
        learns: which do.
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
    """`jax.tree.map(function, old, new)` over the parameters that learn; the others are the old ones, as they are."""
    (moving, still), (to, _) = split(old, learns), split(new, learns)
    return joined(jax.tree.map(function, moving, to), still)


def _learns(config: Any, new: Sequence[str] = ()) -> Learns | None:
    lora = getattr(config, "lora", None)
    return learns(lora, new) if lora is not None and lora.rank else None


def begun_with(start: Params, drawn: Params) -> Params:
    """A copy of the parameters that a player starts with, and of those drawn for it the adapters that these lack.

    Raises:
        UserError: they are not of its shapes.
    """

    def is_like(tree: Params) -> bool:
        return bool(jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, tree))

    copied = jax.tree.map(jnp.copy, start)  # a state is donated
    if is_like(drawn):
        return copied
    if not is_like(without_adapters(drawn)):
        raise UserError("start: these are not the parameters of this generator, with its adapters or without")
    return with_adapters(copied, drawn)
