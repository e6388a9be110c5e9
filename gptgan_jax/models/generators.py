"""Generators: networks that give the next token's logits, as a tuple of pure functions.

Sampler, objectives and training steps use a generator only through this tuple.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import jax.numpy as jnp
from flax import linen as nn
from pydantic import Field

from gptgan_jax.distributed.partitioning import gathered
from gptgan_jax.errors import suggests_names
from gptgan_jax.layers.dense import DEPTHS, DTYPES, OutputHead
from gptgan_jax.layers.initializers import initial_params
from gptgan_jax.layers.lora import only_learning
from gptgan_jax.models.cache import Cache, RecurrentCache
from gptgan_jax.models.leakgan import LeakganConfig, LeakganNetwork, with_features_of
from gptgan_jax.models.lstm import LstmConfig, LstmNetwork
from gptgan_jax.models.relational import RelationalConfig, RelationalNetwork
from gptgan_jax.models.transformer import Trunk
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.types import Array, Batch, Guidance, Packed, Params, PyTree, Vocabulary, as_tuple

RecurrentConfig = LstmConfig | RelationalConfig | LeakganConfig
GeneratorConfig = Annotated[TransformerConfig | RecurrentConfig, Field(discriminator="kind")]
RECURRENT = {LstmConfig: LstmNetwork, RelationalConfig: RelationalNetwork, LeakganConfig: LeakganNetwork}


class Logits(Protocol):
    """(params, batch, dropout_key) -> float32 [B, T, V]: entry t has the logits of target token t, given the prompt and
    the target tokens before t. Dropout is applied if a key is given."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Array: ...


class WeightedNats(Protocol):
    """(params, batch, weights float32 [B, T], dropout_key) -> float32 []: the sum over target tokens of weight times
    negative log-likelihood in nats. Only its first derivative is supported."""

    def __call__(self, params: Params, batch: Batch, weights: Array, dropout_key: Array | None = None) -> Array: ...


class GeneratorProtocol(Protocol):
    """What a generator must have, as described in `Generator`; your own class need not be that tuple.

    Optional parts of a `Generator` (max_length, config, weighted_nats, ...) are used if the object has them.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**generator._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(own, discriminator, **optimizers)
    """

    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def init(self) -> Callable[[Array, Batch], Params]: ...
    @property
    def logits(self) -> Logits: ...
    @property
    def hidden(self) -> Callable[[Params, Batch], Array]: ...
    @property
    def prefill(self) -> Callable[[Params, Array, Array, int], tuple[Array, PyTree]]: ...
    @property
    def decode(self) -> Callable[[Params, PyTree, Array], tuple[Array, PyTree]]: ...
    @property
    def repeat(self) -> Callable[[PyTree, int], PyTree]: ...


@suggests_names
class Generator(NamedTuple):
    """A text generator.

    Attributes:
        vocabulary: its token ids.
        init: (key, batch) -> params.
        logits: teacher-forced logits of a whole batch; see `Logits`.
        hidden: (params, batch) -> float [B, T, D], the hidden states from which those logits are computed.
        prefill: (params, prompt, prompt_mask, length) -> (logits float32 [B, V] of the first target token, cache with
            room for `length` target tokens).
        decode: (params, cache, tokens int32 [B]) -> (logits float32 [B, V] of the next token, cache).
        repeat: (cache, count) -> the cache with each row repeated `count` times, copies next to each other.
        max_length: the longest prompt plus target in tokens; None if there is no limit.
        config: what it was built from; None for your own.
        weighted_nats: the loss of likelihood training, without all logits in memory at once; None: it is computed from
            `logits`. Set it to None if you replace `logits`.
        for_writing: params -> the same, laid out for reading them once per token; see `partitioning.gathered`. Called
            once when sampling, before the loop over tokens.
        resized: (cache, by) -> the cache with room for `by` more tokens, or fewer if `by` is negative; None if the cost
            of a step does not depend on the room.
        branch: (params, prompt, prompt_mask, length, count) -> as `prefill`, logits [B, V] and a cache of B * count
            rows: `count` texts, neighbours, continue each prompt, which is read once. `logits`, `hidden` and `guidance`
            then also take batches with one prompt per `count` rows of targets. None: each row needs its own prompt.
        depths: (params, batch) -> float [B, L, D], the output of each of the L layers at the last token of each text;
            None if the network has no such layers.
        output: params -> (kernel [D, V], bias [V] or None) of the output layer: logits are hidden @ kernel + bias. None
            if logits are computed in another way.
        leak: (params, discriminator's params) -> params that read that discriminator's features; called whenever either
            player has learned. None if the generator reads none.
        guidance: (params, batch) -> `Guidance` of the batch's texts; None if the generator follows no goals.

    Example:
        >>> generator.logits(params, batch).shape
        (2, 3, 8)
        >>> logits, cache = generator.prefill(params, batch.prompt, batch.prompt_mask, 3)
        >>> logits.shape
        (2, 8)
    """

    vocabulary: Vocabulary
    init: Callable[[Array, Batch], Params]
    logits: Logits
    hidden: Callable[[Params, Batch], Array]
    prefill: Callable[[Params, Array, Array, int], tuple[Array, PyTree]]
    decode: Callable[[Params, PyTree, Array], tuple[Array, PyTree]]
    repeat: Callable[[PyTree, int], PyTree]
    max_length: int | None = None
    config: GeneratorConfig | None = None
    weighted_nats: WeightedNats | None = None
    for_writing: Callable[[Params], Params] = lambda params: params
    resized: Callable[[PyTree, int], PyTree] | None = None
    branch: Callable[[Params, Array, Array, int, int], tuple[Array, PyTree]] | None = None
    depths: Callable[[Params, Batch], Array] | None = None
    output: Callable[[Params], tuple[Array, Array | None]] | None = None
    leak: Callable[[Params, Params], Params] | None = None
    guidance: Callable[[Params, Batch], Guidance] | None = None


@suggests_names
def generator_of(player: Generator | GeneratorProtocol) -> Generator:
    """An object's functions as a `Generator`; anything else is returned as it is, for `Game.check` to report.

    Example:
        >>> from types import SimpleNamespace
        >>> gg.generator_of(SimpleNamespace(**generator._asdict())) == generator
        True
    """
    return player if isinstance(player, Generator) else as_tuple(Generator, player)


@suggests_names
def build_generator(config: GeneratorConfig, vocabulary: Vocabulary) -> Generator:
    """The generator that a configuration describes: a GPT, an LSTM language model, a relational memory or LeakGAN's.

    With `encoder_layers` > 0 an encoder reads the prompt, otherwise the decoder.

    Raises:
        TypeError: the configuration is not one of a generator.
        ValueError: a special id is not in the vocabulary.

    Example:
        >>> network = gg.build_generator(gg.LstmConfig(embedding=4, hidden=4), vocabulary)
        >>> network.vocabulary.size, network.max_length
        (8, None)
    """
    vocabulary.check()
    if not isinstance(config, TransformerConfig | RecurrentConfig):
        name = getattr(config, "__name__", type(config).__name__)
        kinds = "a TransformerConfig, an LstmConfig, a RelationalConfig or a LeakganConfig"
        raise TypeError(f"config should be {kinds}, not {name}")
    if isinstance(config, RecurrentConfig):
        return _generator(_RecurrentGenerator(config, vocabulary), config, vocabulary, None)
    return _generator(_TransformerGenerator(config, vocabulary), config, vocabulary, config.max_positions)


def _generator(module: Any, config: GeneratorConfig, vocabulary: Vocabulary, max_length: int | None) -> Generator:
    def init(key: Array, batch: Batch) -> Params:
        return initial_params(module, key, batch.prompt, batch.prompt_mask, batch.target)

    def logits(params: Params, batch: Batch, dropout_key: Array | None = None) -> Array:
        _check_length(batch.prompt.shape[1], batch.target.shape[1])
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        arguments = (batch.prompt, batch.prompt_mask, batch.target, batch.packed)
        return module.apply({"params": only_learning(params, config.lora)}, *arguments, rngs=rngs)

    def weighted_nats(params: Params, batch: Batch, weights: Array, dropout_key: Array | None = None) -> Array:
        _check_length(batch.prompt.shape[1], batch.target.shape[1])
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        arguments = batch.prompt, batch.prompt_mask, batch.target, weights, batch.packed
        learning = {"params": only_learning(params, config.lora)}
        nats: Any = module.apply(learning, *arguments, method="weighted_nats", rngs=rngs)
        return nats

    def hidden(params: Params, batch: Batch) -> Array:
        _check_length(batch.prompt.shape[1], batch.target.shape[1])
        arguments = (batch.prompt, batch.prompt_mask, batch.target, batch.packed)
        states: Any = module.apply({"params": params}, *arguments, method="hidden")
        return states

    def prefill(params: Params, prompt: Array, prompt_mask: Array, length: int) -> tuple[Array, PyTree]:
        _check_length(prompt.shape[1], length)
        return module.apply({"params": params}, prompt, prompt_mask, length, method="prefill")

    def branch(params: Params, prompt: Array, prompt_mask: Array, length: int, count: int) -> tuple[Array, PyTree]:
        _check_length(prompt.shape[1], length)
        return module.apply({"params": params}, prompt, prompt_mask, length, count, method="branch")

    def decode(params: Params, cache: PyTree, tokens: Array) -> tuple[Array, PyTree]:
        return module.apply({"params": params}, cache, tokens, method="decode")

    def depths(params: Params, batch: Batch) -> Array:
        _check_length(batch.prompt.shape[1], batch.target.shape[1])
        arguments = batch.prompt, batch.prompt_mask, batch.target
        _, found = module.apply({"params": params}, *arguments, method="read", mutable=[DEPTHS])
        states = module.layer_states(found[DEPTHS])
        # If a text has no tokens, this is the last token of the prompt.
        last = states.shape[2] - batch.target.shape[1] - 1 + batch.target_mask.sum(axis=1)
        return jnp.take_along_axis(states, last[None, :, None, None], axis=2)[:, :, 0].swapaxes(0, 1)

    def output(params: Params) -> tuple[Array, Array | None]:
        head: Any = module.apply({"params": params}, method="output")
        return head

    def guidance(params: Params, batch: Batch) -> Guidance:
        arguments = batch.prompt, batch.prompt_mask, batch.target, batch.target_mask
        found: Any = module.apply({"params": params}, *arguments, method="guidance")
        return found

    def repeat(cache: PyTree, count: int) -> PyTree:
        return cache.repeat(count)

    def resized(cache: PyTree, by: int) -> PyTree:
        return cache.resized(by)

    def for_writing(params: Params) -> Params:
        return gathered(params, DTYPES[config.dtype])

    def _check_length(prompt: int, target: int) -> None:
        if max_length is not None and prompt + target > max_length:
            needed = f"max_positions >= {prompt + target}, not {max_length}"
            raise ValueError(f"prompt of {prompt} and target of {target} tokens need {needed}")

    more = (
        weighted_nats,
        for_writing,
        None if isinstance(config, RecurrentConfig) else resized,
        None if getattr(config, "reach", None) else branch,
        depths,
        output,
        *((with_features_of, guidance) if isinstance(config, LeakganConfig) else ()),
    )
    return Generator(vocabulary, init, logits, hidden, prefill, decode, repeat, max_length, config, *more)


class _TransformerGenerator(nn.Module):
    config: TransformerConfig
    vocabulary: Vocabulary

    def setup(self) -> None:
        self.trunk = Trunk(self.config, self.vocabulary.size)
        if not self.config.tied_embeddings:
            self.head = OutputHead(self.vocabulary.size, dtype=self.config.dtype)

    def __call__(self, prompt: Array, prompt_mask: Array, target: Array, packed: Packed | None = None) -> Array:
        return self._logits(self.hidden(prompt, prompt_mask, target, packed))

    def weighted_nats(
        self, prompt: Array, prompt_mask: Array, target: Array, weights: Array, packed: Packed | None = None
    ) -> Array:
        head = self.trunk.embedding if self.config.tied_embeddings else self.head
        return head.weighted_nats(self.hidden(prompt, prompt_mask, target, packed), target, weights)

    def hidden(self, prompt: Array, prompt_mask: Array, target: Array, packed: Packed | None = None) -> Array:
        if packed is not None:
            if self.config.encoder_layers:
                raise ValueError("packed rows have no prompts for an encoder")
            return self.trunk(packed.inputs, packed.segments)
        count = target.shape[0] // prompt.shape[0]
        if count > 1 and not self.config.encoder_layers:
            states, prompts = self.trunk.read_prompts(self.trunk.embedding(prompt), prompt_mask)
            first, read = jnp.repeat(states[:, -1:], count, axis=0), target[:, :-1]
            if not read.shape[1]:
                return first
            after = self.trunk.read_on(self.trunk.embedding(read), jnp.ones_like(read, dtype=bool), prompts)
            return jnp.concatenate([first, after], axis=1)
        prefix, prefix_mask, context, context_mask = self._prefix(prompt, prompt_mask)
        # Texts that answer the same prompt share the encoder's output, but each has its own prefix.
        prefix, prefix_mask = (x if count == 1 else jnp.repeat(x, count, axis=0) for x in (prefix, prefix_mask))
        inputs = jnp.concatenate([prefix, target[:, :-1]], axis=1)
        # Padding after EOS need not be masked: it is in the future of every token that counts.
        mask = jnp.concatenate([prefix_mask, jnp.ones_like(target[:, :-1], dtype=bool)], axis=1)
        return self.trunk(inputs, mask, context, context_mask)[:, prefix.shape[1] - 1 :]

    def prefill(self, prompt: Array, prompt_mask: Array, length: int) -> tuple[Array, Cache]:
        prefix, prefix_mask, context, context_mask = self._prefix(prompt, prompt_mask)
        slots = prefix.shape[1] + length - 1
        hidden, cache = self.trunk.prefill(prefix, prefix_mask, slots, context, context_mask)
        return self._logits(hidden[:, -1]), cache

    def branch(self, prompt: Array, prompt_mask: Array, length: int, count: int) -> tuple[Array, Cache]:
        prefix, prefix_mask, context, context_mask = self._prefix(prompt, prompt_mask)
        hidden, cache = self.trunk.read_prompts(self.trunk.embedding(prefix), prefix_mask, context, context_mask)
        return self._logits(hidden[:, -1]), cache.branched(count, max(length - 1, 1))

    def read(self, prompt: Array, prompt_mask: Array, target: Array) -> None:
        """Reads whole texts up to their last tokens; the output of each layer is kept (`DEPTHS`)."""
        prefix, prefix_mask, context, context_mask = self._prefix(prompt, prompt_mask)
        mask = jnp.concatenate([prefix_mask, jnp.ones_like(target, dtype=bool)], axis=1)
        self.trunk(jnp.concatenate([prefix, target], axis=1), mask, context, context_mask)

    def layer_states(self, kept: Any) -> Array:
        """The states of the decoder's layers, float [L, B, S, D]."""
        decoder = kept["trunk"]["decoder"]
        if self.config.scan_layers:
            return decoder["blocks"]["states"][0]
        return jnp.stack([decoder[f"block_{i}"]["states"][0] for i in range(self.config.layers)])

    def output(self) -> tuple[Array, Array | None]:
        if self.config.tied_embeddings:
            return self.trunk.embedding.table.T, None
        return self.head.weights(self.config.width)

    def decode(self, cache: Cache, tokens: Array) -> tuple[Array, Cache]:
        hidden, cache = self.trunk.decode(tokens, cache)
        return self._logits(hidden), cache

    def _prefix(self, prompt: Array, prompt_mask: Array) -> tuple[Array, Array, Array | None, Array | None]:
        """The decoder's input before the target, and the encoder's context if there is one."""
        if not self.config.encoder_layers:
            return prompt, prompt_mask, None, None
        start, start_mask = _start(prompt, self.vocabulary)
        return start, start_mask, self.trunk.encode(prompt, prompt_mask), prompt_mask

    def _logits(self, hidden: Array) -> Array:
        return self.trunk.embedding.logits(hidden) if self.config.tied_embeddings else self.head(hidden)


class _RecurrentGenerator(nn.Module):
    config: RecurrentConfig
    vocabulary: Vocabulary

    def setup(self) -> None:
        self.network: Any = RECURRENT[type(self.config)](self.config, self.vocabulary.size)

    def __call__(self, prompt: Array, prompt_mask: Array, target: Array, packed: Packed | None = None) -> Array:
        return self.network.head(self.hidden(prompt, prompt_mask, target, packed))

    def weighted_nats(
        self, prompt: Array, prompt_mask: Array, target: Array, weights: Array, packed: Packed | None = None
    ) -> Array:
        return self.network.head.weighted_nats(self.hidden(prompt, prompt_mask, target, packed), target, weights)

    def hidden(self, prompt: Array, prompt_mask: Array, target: Array, packed: Packed | None = None) -> Array:
        if packed is not None:
            raise ValueError("a recurrent network reads one text per row: packed rows need a Transformer")
        count = target.shape[0] // prompt.shape[0]
        prefix, prefix_mask, states = self._prefix(prompt, prompt_mask)
        if count > 1:
            before, states = self.network.decode_all(prefix, prefix_mask, states)
            first, read = jnp.repeat(before[:, -1:], count, axis=0), target[:, :-1]
            if not read.shape[1]:
                return first
            states = RecurrentCache(states).repeat(count).states
            after, _ = self.network.decode_all(read, jnp.ones_like(read, dtype=bool), states)
            return jnp.concatenate([first, after], axis=1)
        inputs = jnp.concatenate([prefix, target[:, :-1]], axis=1)
        mask = jnp.concatenate([prefix_mask, jnp.ones_like(target[:, :-1], dtype=bool)], axis=1)
        hidden, _ = self.network.decode_all(inputs, mask, states)
        return hidden[:, prefix.shape[1] - 1 :]

    def prefill(self, prompt: Array, prompt_mask: Array, length: int) -> tuple[Array, RecurrentCache]:
        prefix, prefix_mask, states = self._prefix(prompt, prompt_mask)
        hidden, states = self.network.decode_all(prefix, prefix_mask, states)
        return self.network.head(hidden[:, -1]), RecurrentCache(states)

    def branch(self, prompt: Array, prompt_mask: Array, length: int, count: int) -> tuple[Array, RecurrentCache]:
        logits, cache = self.prefill(prompt, prompt_mask, length)
        return logits, cache.repeat(count)

    def read(self, prompt: Array, prompt_mask: Array, target: Array) -> None:
        prefix, prefix_mask, states = self._prefix(prompt, prompt_mask)
        mask = jnp.concatenate([prefix_mask, jnp.ones_like(target, dtype=bool)], axis=1)
        self.network.decode_all(jnp.concatenate([prefix, target], axis=1), mask, states)

    def layer_states(self, kept: Any) -> Array:
        return jnp.stack(kept["network"]["states"][-self.config.layers :])  # those before are the encoder's

    def output(self) -> tuple[Array, Array | None]:
        return self.network.head.weights(self.config.hidden)

    def guidance(self, *texts: Array) -> Guidance:
        return self.network.guidance(*texts)

    def decode(self, cache: RecurrentCache, tokens: Array) -> tuple[Array, RecurrentCache]:
        return self.network.decode(tokens, cache)

    def _prefix(self, prompt: Array, prompt_mask: Array) -> tuple[Array, Array, PyTree]:
        states = self.network.encode(prompt, prompt_mask)
        if not self.config.encoder_layers:
            return prompt, prompt_mask, states
        return *_start(prompt, self.vocabulary), states


def _start(prompt: Array, vocabulary: Vocabulary) -> tuple[Array, Array]:
    """BOS, the one-token prefix of a decoder whose prompt is read by an encoder: int32 [B, 1], bool [B, 1]."""
    start = jnp.full((prompt.shape[0], 1), vocabulary.bos_id, jnp.int32)
    return start, jnp.ones_like(start, dtype=bool)
