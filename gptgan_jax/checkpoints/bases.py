"""The base network that a run adapts: saved once, in `start` next to the checkpoints, and not in each of them.

If only adapters are trained, everything else is constant, and would make a checkpoint a hundred times as large. So a
checkpoint leaves it out and names its base by a digest of the base's checksums. Readers of the checkpoint take the rest
from the base, and refuse a base that is missing, damaged or different.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from gptgan_jax.checkpoints.atomic_save import METADATA_FILE
from gptgan_jax.checkpoints.checksums import CHECKSUMS_FILE, damage, write_checksums
from gptgan_jax.distributed.hosts import found_by_first, wait_for_all
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import is_given
from gptgan_jax.models.trees import flat, joined, nested, without
from gptgan_jax.types import GanState, Params

BASE = "base"
"""The key for the digest of the base in a checkpoint's own metadata."""

NETWORKS = ("generator/params/", "generator/ema/", "reference/", "discriminator/params/")
"""The places of a base's parameters in a state."""


class WrongBase(UserError):
    """The base is missing, damaged or different: no checkpoint that leaves it out can be read."""


class Base:
    """The parameters in a folder `start`; each is read once, on first use.

    Attributes:
        folder: that holds them.
        held: the parameters read so far, as nested dicts.
    """

    def __init__(self, folder: epath.Path, alone: bool = True) -> None:
        """`alone`: whether this process reads without the other processes of the run."""
        self.folder, self.alone = folder, alone
        self.held: Params = {}

    @functools.cached_property
    def digest(self) -> str | None:
        """The digest of its files, by their checksums; None without checksums, as in earlier versions."""
        try:
            content = (self.folder / CHECKSUMS_FILE).read_bytes()
        except FileNotFoundError:
            return None
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    def seal(self) -> None:
        """Adds checksums to a base of an earlier version, so that checkpoints can name it; called by all processes."""
        if jax.process_index() == 0 and self.folder.is_dir() and not (self.folder / CHECKSUMS_FILE).exists():
            write_checksums(self.folder, (METADATA_FILE,))
        wait_for_all("base sealed")
        self.__dict__.pop("digest", None)

    def params(self, target: Params) -> Params:
        """Some of its parameters; repeated requests return the same arrays.

        Args:
            target: arrays or shape structs with the structure and shardings of the result.

        Raises:
            WrongBase: it is missing or damaged.
        """
        if wanted := without(target, self.held, lambda mine, other: True):
            self.held = joined(self._read(wanted), self.held)
        held = flat(self.held)
        return nested({path: held[path] for path in flat(target)})

    def _read(self, wanted: Params) -> Params:
        try:
            if self.digest is not None and (problem := found_by_first(lambda: damage(self.folder), self.alone)):
                raise ValueError(problem)
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), wanted)
            restore = ocp.checkpoint_utils.construct_restore_args(shapes)
            arguments = ocp.args.PyTreeRestore(item=shapes, restore_args=restore, partial_restore=True)
            with ocp.PyTreeCheckpointer() as checkpointer:
                return checkpointer.restore(self.folder, args=arguments)
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise WrongBase(
                f"{self.folder}, which this run starts from, can't be read ({reason}); choose another --name"
            ) from error

    # ---- checkpoints without it

    def left_out(self, state: GanState) -> tuple[GanState, dict[str, str]]:
        """The state without the arrays that were read from here, and the metadata to save with it."""
        if not self.held or self.digest is None:
            return state, {}
        return _with_networks(state, lambda params: without(params, self.held)), {BASE: self.digest}

    def completing(
        self, left_out: Mapping[str, Any], digest: str | None, checkpoint: epath.Path
    ) -> dict[str, jax.Array]:
        """The arrays of a state that a checkpoint leaves out.

        Args:
            left_out: arrays or shape structs with the sharding of each, by their paths in the state.
            digest: of the base that the checkpoint names; None if it names none.
            checkpoint: its folder.

        Raises:
            WrongBase: this base is missing, damaged or not the one that is named.
            ValueError: something that is left out belongs to no base.
        """
        found, here = {}, {}
        for path, x in left_out.items():
            network = next((prefix for prefix in NETWORKS if path.startswith(prefix)), None)
            if network is not None and is_given(path):
                # Checkpoints of earlier versions have the generator's adapters in the discriminator's weights.
                found[path] = jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding)
            elif network is None or digest is None:
                raise ValueError(f"it has no {path}")
            else:
                here[path] = path.removeprefix(network)
        if here:
            self._check(digest, checkpoint)
            held = flat(self.params(nested({name: left_out[path] for path, name in here.items()})))
            found |= {path: held[name] for path, name in here.items()}
        return found

    def _check(self, digest: str | None, checkpoint: epath.Path) -> None:
        if not self.folder.is_dir():
            raise WrongBase(
                f"{self.folder} is missing: checkpoint {checkpoint} holds only the trained parameters, and needs the "
                "rest from there; copy it from where the run was trained"
            )
        if digest != self.digest:
            raise WrongBase(
                f"{self.folder} is not the base that checkpoint {checkpoint} was trained on; copy that one from "
                "where the run was trained"
            )


def _with_networks(state: GanState, function: Callable[[Params], Params]) -> GanState:
    """The state with each network's parameters replaced by another tree."""

    def of(params: Params | None) -> Params | None:
        return None if params is None else function(params)

    generator, discriminator = state.generator, state.discriminator
    return state.replace(
        generator=generator.replace(params=of(generator.params), ema=of(generator.ema)),
        discriminator=discriminator.replace(params=of(discriminator.params)),
        reference=of(state.reference),
    )
