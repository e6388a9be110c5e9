"""A Python function of texts as a reward of the compiled step: each device calls it for its own rows.

The step hands over token ids as NumPy arrays and waits. A function must not compute with JAX on the devices that wait
for it: on CPU that can hang.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.sharding import AxisType, PartitionSpec

from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.text_rewards.calling import Call, Function, Texts, within
from gptgan_jax.text_rewards.workers import Workers
from gptgan_jax.types import Array, Batch, Sample

Decode = Callable[[list[int]], str]


class Lookup:
    """What a function is told of the rows of the data, by `Batch.rows`.

    Attributes:
        columns: other columns by their names, a value a document.
        prompts, references: of each document; None: what the batch has, decoded.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        prompts: Sequence[str] | None = None,
        references: Sequence[str] | None = None,
    ) -> None:
        self.columns, self.prompts, self.references = columns, prompts, references


class HostReward:
    """A reward (written, batch) -> float32 [R], or [R, T], of a Python function of texts.

    Where the function fails, the step either fails with it, or is given NaN and the reason is kept as `error`: then the
    step can be left out, and whoever looks there says so (`gptgan train`).
    """

    def __init__(
        self,
        call: Call,
        decode: Decode,
        lookup: Lookup | None = None,
        workers: int = 0,
        timeout: float | None = None,
        raises: bool = True,
    ) -> None:
        """See `host_reward`.

        Args:
            call: the function.
            decode: token ids -> text, without what is no text, such as the end of it.
            lookup: by rows of the data; None: batches have no rows.
            workers: processes; 0: in this one.
            timeout: seconds that the texts of one call may take; None: as many as they take.
            raises: whether the step fails where the function does.
        """
        call.check()
        self.call, self.decode, self.lookup = call, decode, lookup
        self.count, self.timeout, self.raises = workers, timeout, raises
        self.error: Exception | None = None
        self._takes = call.takes
        self._workers: Workers | None = None
        # Several devices of a process call at once, and a user's function need not stand that.
        self._lock = threading.Lock()

    def __call__(self, written: Sample, batch: Batch) -> Array:
        """Traced in a step: calls the function when the step runs."""
        arguments: dict[str, Array] = {"tokens": written.tokens, "mask": written.mask}
        if self.lookup is not None:
            if batch.rows is None:
                raise ValueError(f"reward {self.call.name} looks up columns, and the batch has no `rows`")
            arguments["rows"] = batch.rows
        if self._decodes("prompts"):
            arguments |= {"prompt": batch.prompt, "prompt_mask": batch.prompt_mask}
        if self._decodes("references"):
            arguments |= {"target": batch.target, "target_mask": batch.target_mask}
        return _on_each_device(self._values, self.call.per_token, arguments)

    def close(self) -> None:
        """Ends the processes that it started."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def values(self, texts: Texts) -> list[Any]:
        """The numbers of texts, in this process or in others.

        Raises:
            UserError: the function failed, took too long, or gave something else than finite numbers.
        """
        if not len(texts):
            return []
        if self.count:
            self._workers = self._workers or Workers(self.call, self.count)
            return self._workers(texts, self.timeout)
        return self.call(texts) if self.timeout is None else within(self.call, texts, self.timeout)

    def _decodes(self, what: str) -> bool:
        """Whether prompts or references are given, and as the batch has them."""
        return what in self._takes and getattr(self.lookup, what, None) is None

    def _values(self, arrays: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Writes the numbers of this device's rows to `out`, float32 [R] or [R, T]."""
        with self._lock:
            if self.error is not None:
                out[...] = np.nan
                return
            try:
                self._fill(out, self._texts(arrays))
            except Exception as error:
                # Any other is of the tokenizer, for instance.
                known = isinstance(error, UserError)
                told = error if known else UserError(f"reward {self.call.name}: {type(error).__name__}: {error}")
                if self.raises:
                    raise told from error
                self.error, out[...] = told, np.nan

    def _fill(self, out: np.ndarray, texts: Texts) -> None:
        values = self.values(texts)
        if self.call.per_token:
            out[...] = 0
            for row, numbers in zip(out, values, strict=True):
                row[: len(numbers)] = numbers
        else:
            out[...] = values

    def _texts(self, arrays: Mapping[str, np.ndarray]) -> Texts:
        tokens = _rows(arrays["tokens"], arrays["mask"])
        found: dict[str, Any] = {}
        if "tokens" in self._takes or self.call.per_token:
            found["tokens"] = tokens
        if "prompt" in arrays:
            found["prompts"] = [self.decode(ids) for ids in _rows(arrays["prompt"], arrays["prompt_mask"])]
        if "target" in arrays:
            found["references"] = [self.decode(ids) for ids in _rows(arrays["target"], arrays["target_mask"])]
        if self.lookup is not None:
            places = arrays["rows"].tolist()
            for name in ("prompts", "references"):
                values = getattr(self.lookup, name)
                if name in self._takes and values is not None:
                    found[name] = [values[i] for i in places]
            if "columns" in self._takes:
                columns = self.lookup.columns.items()
                found["columns"] = {name: [values[i] for i in places] for name, values in columns}
        elif "columns" in self._takes:
            found["columns"] = {}
        return Texts([self.decode(ids) for ids in tokens], **found)


@suggests_names
def host_reward(
    function: Function,
    decode: Decode,
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    per_token: bool = False,
    workers: int = 0,
    timeout: float | None = None,
) -> HostReward:
    """A reward of a Python function of texts, as `TextReward.function`.

        TextReward("short", host_reward(short, tokenizer.decode), weight=0.1)

    Args:
        function: takes a list of texts and gives a number for each. What it names of the following it is given too:
            prompts, references (the real texts), tokens (lists of token ids), a list with an entry a text. It must be
            pure: what it gives depends on its arguments alone. And it must not use JAX.
        decode: token ids -> text.
        name: what messages call it; default: the function's name.
        options: other arguments of the function.
        per_token: it gives a list for each text, a number a token.
        workers: processes that share the texts; the function must be of a module then. 0: this process.
        timeout: seconds that a call may take; None: any number.

    Raises:
        ValueError: options that the function does not take. In a step: the function failed, was late or gave something
            else than finite numbers; JAX wraps it in an error of its own, whose last line it is.

    Example:
        >>> def length(texts):
        ...     return [float(len(text)) for text in texts]
        >>> reward = gg.TextReward("length", gg.host_reward(length, lambda ids: "ab" * len(ids)))
        >>> jax.jit(reward.measured)(written, batch)
        Array([6., 4.], dtype=float32)
    """
    called = name or str(getattr(function, "__name__", type(function).__name__))
    return HostReward(Call(called, function, dict(options or {}), per_token), decode, None, workers, timeout)


def _rows(ids: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """The ids that count, row by row."""
    return [row[there].tolist() for row, there in zip(ids, mask, strict=True)]


def _on_each_device(
    host: Callable[[Mapping[str, np.ndarray], np.ndarray], None], per_token: bool, arguments: dict[str, Array]
) -> Array:
    """Calls a host function for arrays [R, ...], on several devices of a mesh for each one's own rows."""

    def called(arguments: dict[str, Array]) -> Array:
        tokens = arguments["tokens"]
        result = jax.ShapeDtypeStruct(tokens.shape if per_token else tokens.shape[:1], jnp.float32)

        def in_place(_: Any, out: Any, given: dict[str, Any]) -> None:
            host({name: np.asarray(array) for name, array in given.items()}, np.asarray(out))

        def copied(given: dict[str, Array]) -> np.ndarray:
            out = np.zeros(result.shape, np.float32)
            host({name: np.asarray(array) for name, array in given.items()}, out)
            return out

        def elsewhere(arguments: dict[str, Array]) -> Array:
            return jax.pure_callback(copied, result, arguments, vmap_method="sequential")

        # On CPU `pure_callback` moves its arguments by the threads that wait for it: several devices would hang.
        return jax.lax.platform_dependent(
            arguments, cpu=buffer_callback(in_place, result, vmap_method="sequential"), default=elsewhere
        )

    axes = _axes_of_rows(len(arguments["tokens"]))
    if not axes:
        return called(arguments)
    split = PartitionSpec(axes)
    return jax.shard_map(called, in_specs=(split,), out_specs=split, check_vma=False)(arguments)


def _axes_of_rows(rows: int) -> tuple[str, ...]:
    """The axes of the mesh that a step is compiled for over which rows are split evenly; none inside of `shard_map`.

    All of them where that goes: devices that share a text would call the function for it once each.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or any(kind == AxisType.Manual for kind in mesh.axis_types):
        return ()
    for count in range(len(mesh.axis_names), 0, -1):
        axes = mesh.axis_names[:count]
        devices = int(np.prod([mesh.shape[name] for name in axes]))
        if rows % devices == 0:
            return axes
    return ()
