"""A Python function of texts as a reward in the compiled step: each device calls it for its own rows.

The step passes token ids as NumPy arrays and waits. The function must not compute with JAX on the devices that wait for
it: on a CPU that can hang.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.sharding import AxisType, PartitionSpec

from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.text_rewards.calling import Call, Function, Texts, Timed
from gptgan_jax.text_rewards.workers import Workers
from gptgan_jax.types import Array, Batch, Sample

Decode = Callable[[list[int]], str]


class TextOfRow(Protocol):
    """Texts by row number: a list, or an object that computes them on access."""

    def __getitem__(self, row: int, /) -> str: ...


class Lookup:
    """Columns of the data that a function can use, indexed by `Batch.rows`.

    Attributes:
        columns: other columns by name, one value per document.
        prompts, references: of each document; None: decoded from the batch.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        prompts: TextOfRow | None = None,
        references: TextOfRow | None = None,
    ) -> None:
        self.columns, self.prompts, self.references = columns, prompts, references


class HostReward:
    """A reward (written, batch) -> float32 [R], or [R, T], by a Python function of texts.

    If the function fails, the step either fails too, or gets NaN while the reason is kept as `error`: the step can then
    be skipped, and the caller can report the reason (as `gptgan train` does).
    """

    def __init__(
        self,
        call: Call,
        decode: Decode,
        lookup: Lookup | None = None,
        workers: int = 0,
        timeout: float | None = None,
        raises: bool = True,
        decode_prompt: Decode | None = None,
    ) -> None:
        """See `host_reward`.

        Args:
            call: the function.
            decode: token ids -> text, without special tokens such as the end of the text.
            lookup: by rows of the data; None: batches have no rows.
            workers: number of processes; 0: computed in this process.
            timeout: time limit in seconds for the texts of one call; None: no limit.
            raises: whether the step fails if the function does.
            decode_prompt: the same for a prompt, if it is different.
        """
        call.check()
        self.call, self.decode, self.lookup = call, decode, lookup
        self.decode_prompt = decode_prompt or decode
        self.count, self.timeout, self.raises = workers, timeout, raises
        self.error: Exception | None = None
        self._takes = call.takes
        self._workers: Workers | None = None
        self._here = call if timeout is None else Timed(call, timeout)
        # Several devices of a process call at once, and a user's function need not be thread-safe.
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
        """Ends its worker processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def values(self, texts: Texts) -> list[Any]:
        """The function's values for texts, computed in this process or in workers.

        Raises:
            UserError: the function failed, took too long, or returned something other than finite numbers.
        """
        if not len(texts):
            return []
        if self.count:
            self._workers = self._workers or Workers(self.call, self.count)
            return self._workers(texts, self.timeout)
        return self._here(texts)

    def _decodes(self, what: str) -> bool:
        """Whether prompts or references are passed and are decoded from the batch."""
        return what in self._takes and getattr(self.lookup, what, None) is None

    def _values(self, arrays: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Writes the values of this device's rows to `out`, float32 [R] or [R, T]."""
        with self._lock:
            if self.error is not None:
                out[...] = np.nan
                return
            try:
                self._fill(out, self._texts(arrays))
            except Exception as error:
                # Any other error comes from elsewhere, such as the tokenizer.
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
            found["prompts"] = [self.decode_prompt(ids) for ids in _rows(arrays["prompt"], arrays["prompt_mask"])]
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
    decode_prompt: Decode | None = None,
) -> HostReward:
    """A reward from a Python function of texts, as `TextReward.function`.

        TextReward("short", host_reward(short, tokenizer.decode), weight=0.1)

    Args:
        function: takes a list of texts and returns a number for each. It also gets those of the following that are
            among its parameters, each a list with one entry per text: prompts, references (the real texts), tokens
            (lists of token ids). It must be pure, so depend on its arguments only, and must not use JAX.
        decode: token ids -> text.
        name: for messages; default: the function's name.
        options: other arguments of the function.
        per_token: it returns a list for each text, one number per token.
        workers: processes that share the texts; the function must then be in a module. 0: this process.
        timeout: time limit for a call in seconds; None: no limit.
        decode_prompt: token ids of a prompt -> text. None: `decode`, or if that is a tokenizer's method, its version
            that doesn't stop at an end of text, as there may be one inside a prompt.

    Raises:
        ValueError: options that the function does not take. In a step: the function failed, took too long or returned
            something other than finite numbers; JAX wraps this in an error of its own, as its last line.

    Example:
        >>> def length(texts):
        ...     return [float(len(text)) for text in texts]
        >>> reward = gg.TextReward("length", gg.host_reward(length, lambda ids: "ab" * len(ids)))
        >>> jax.jit(reward.measured)(written, batch)
        Array([6., 4.], dtype=float32)
    """
    called = name or str(getattr(function, "__name__", type(function).__name__))
    call = Call(called, function, dict(options or {}), per_token)
    # `Tokenizer.decode` stops at the first end of text, which may begin a prompt, or end one of its turns.
    decode_prompt = decode_prompt or getattr(getattr(decode, "__self__", None), "decode_prompt", None)
    return HostReward(call, decode, None, workers, timeout, decode_prompt=decode_prompt)


def _rows(ids: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """The token ids inside the mask, row by row."""
    return [row[there].tolist() for row, there in zip(ids, mask, strict=True)]


def _on_each_device(
    host: Callable[[Mapping[str, np.ndarray], np.ndarray], None], per_token: bool, arguments: dict[str, Array]
) -> Array:
    """Calls a host function for arrays [R, ...]; on a mesh of several devices, for each device's own rows."""

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

        # On a CPU `pure_callback` moves its arguments in the threads that wait for it: several devices would hang.
        return jax.lax.platform_dependent(
            arguments, cpu=buffer_callback(in_place, result, vmap_method="sequential"), default=elsewhere
        )

    axes = _axes_of_rows(len(arguments["tokens"]))
    if not axes:
        return called(arguments)
    split = PartitionSpec(axes)
    return jax.shard_map(called, in_specs=(split,), out_specs=split, check_vma=False)(arguments)


def _axes_of_rows(rows: int) -> tuple[str, ...]:
    """The mesh axes of the current step over which rows are split evenly; none inside `shard_map`.

    All axes if possible, as devices that share a text would otherwise each call the function for it.
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
