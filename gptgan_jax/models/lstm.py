"""The LSTM encoder-decoder: embedding -> LSTM stack over the prompt -> LSTM stack over the text -> vocabulary.

The final states of encoder layer i are the initial states of decoder layer i (Sutskever et al. 2014). Without encoder
layers the decoder reads the prompt itself, as in the literature's LSTM language models. The input projections of a
whole layer are one matrix product outside the scan over time; only the recurrent product runs step by step.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import model_validator

from gptgan_jax.layers.dense import DEPTHS, DTYPES, Dropout, Embedding, OutputHead, Projection
from gptgan_jax.layers.lora import LoraConfig, adapter, low_rank
from gptgan_jax.models.cache import RecurrentCache
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array


@config_dataclass
class LstmConfig:
    """The network of an LSTM generator.

    Example:
        >>> network = gg.build_generator(gg.LstmConfig(embedding=4, hidden=4), vocabulary)
        >>> network.logits(network.init(key, batch), batch).shape
        (2, 3, 8)
    """

    kind: Literal["lstm"] = "lstm"
    layers: int = key(1, "LSTM layers of the decoder", ge=1)
    encoder_layers: int = key(
        0, "LSTM layers of the encoder, which reads the prompt: 0 (none) or as many as layers", ge=0
    )
    embedding: int = key(32, "size of the token embeddings", ge=1)
    hidden: int = key(32, "size of the hidden states", ge=1)
    dropout: float = key(0.0, "dropout rate on each layer's input", ge=0, lt=1)
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    init_stddev: float | None = key(
        None, "standard deviation of normal initial weights; default: uniform within +-1/sqrt(hidden)", gt=0
    )
    lora: LoraConfig = key(LoraConfig, "adapters that are trained in place of the weights")

    @model_validator(mode="after")
    def _check(self) -> "LstmConfig":
        if self.encoder_layers not in (0, self.layers):
            raise ValueError(
                f"encoder_layers {self.encoder_layers} must be 0 or equal layers {self.layers}: "
                "each encoder layer starts its decoder layer"
            )
        self.lora.check_targets(("inputs", "recurrent"))
        return self


class LstmLayer(nn.Module):
    """One LSTM layer (Hochreiter & Schmidhuber 1997), gates ordered input, forget, cell, output; forget bias 1."""

    hidden: int
    dtype: str
    init_stddev: float | None
    lora: LoraConfig = LoraConfig()

    def setup(self) -> None:
        if self.init_stddev is None:
            bound = self.hidden**-0.5
            init = nn.initializers.uniform(2 * bound)
            self.kernel_init = lambda *args: init(*args) - bound
        else:
            self.kernel_init = nn.initializers.normal(self.init_stddev)
        self.inputs = Projection(4 * self.hidden, dtype=self.dtype, kernel_init=self.kernel_init, lora=self.lora)
        shape = self.hidden, 4 * self.hidden
        self.recurrent = self.param("recurrent", self.kernel_init, shape, jnp.float32)
        if rank := self.lora.rank_of("recurrent"):
            self.recurrent_adapter = adapter(self, "recurrent", rank, shape)

    def start(self, batch: int) -> tuple[Array, Array]:
        zeros = jnp.zeros((batch, self.hidden), jnp.float32)
        return zeros, zeros

    def __call__(self, x: Array, mask: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """[B, T, X], bool [B, T] -> hidden states [B, T, hidden], final state. A masked step leaves the state as is."""
        gates = self.inputs(x).swapaxes(0, 1)
        recurrent = self._recurrent()

        def step(state: tuple[Array, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            gates_t, mask_t = inputs
            new = _cell(gates_t, state, recurrent)
            kept = jax.tree.map(lambda a, b: jnp.where(mask_t[:, None], a, b), new, state)
            return kept, kept[1]

        state, hidden = jax.lax.scan(step, state, (gates, mask.swapaxes(0, 1)))
        return hidden.swapaxes(0, 1), state

    def step(self, x: Array, state: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """One step for one token per row: [B, X] -> hidden [B, hidden], state."""
        state = _cell(self.inputs(x), state, self._recurrent())
        return state[1], state

    def _recurrent(self) -> Array:
        """The recurrent weights, with their adapter added once for all steps."""
        weights = self.recurrent
        if self.lora.rank_of("recurrent"):
            weights = weights + low_rank(*self.recurrent_adapter, self.lora.scale)
        return weights.astype(DTYPES[self.dtype])


def _cell(gates: Array, state: tuple[Array, Array], recurrent: Array) -> tuple[Array, Array]:
    """(cell, hidden) after one step, from the input projections [B, 4 * hidden]; state is kept in float32."""
    cell, hidden = state
    total = (gates + hidden.astype(recurrent.dtype) @ recurrent).astype(jnp.float32)
    i, f, g, o = jnp.split(total, 4, axis=-1)
    cell = jax.nn.sigmoid(f + 1.0) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return cell, jax.nn.sigmoid(o) * jnp.tanh(cell)


class LstmNetwork(nn.Module):
    """From tokens to logits."""

    config: LstmConfig
    vocab_size: int

    def setup(self) -> None:
        cfg = self.config
        stddev = 1.0 if cfg.init_stddev is None else cfg.init_stddev
        self.embedding = Embedding(self.vocab_size, cfg.embedding, cfg.dtype, stddev)
        self.encoder = [LstmLayer(cfg.hidden, cfg.dtype, cfg.init_stddev, cfg.lora) for _ in range(cfg.encoder_layers)]
        self.decoder = [LstmLayer(cfg.hidden, cfg.dtype, cfg.init_stddev, cfg.lora) for _ in range(cfg.layers)]
        self.drop = Dropout(cfg.dropout)
        self.head = OutputHead(self.vocab_size, use_bias=True, dtype=cfg.dtype)

    def encode(self, tokens: Array, mask: Array) -> tuple[tuple[Array, Array], ...]:
        """Final states of the encoder, one per layer; zeros without an encoder."""
        if not self.encoder:
            return tuple(layer.start(tokens.shape[0]) for layer in self.decoder)
        return self._run(self.encoder, tokens, mask, tuple(layer.start(tokens.shape[0]) for layer in self.encoder))[1]

    def decode_all(
        self, tokens: Array, mask: Array, states: tuple[tuple[Array, Array], ...]
    ) -> tuple[Array, tuple[tuple[Array, Array], ...]]:
        """Hidden states [B, T, hidden] of whole texts int32 [B, T], and the final states."""
        return self._run(self.decoder, tokens, mask, states)

    def decode(self, tokens: Array, cache: RecurrentCache) -> tuple[Array, RecurrentCache]:
        """Logits [B, V] after one new token per row, int32 [B]."""
        x = self.embedding(tokens)
        states = []
        for layer, state in zip(self.decoder, cache.states, strict=True):
            x, state = layer.step(self.drop(x), state)
            states.append(state)
        return self.head(x), RecurrentCache(tuple(states))

    def _run(
        self, layers: list[LstmLayer], tokens: Array, mask: Array, states: tuple[tuple[Array, Array], ...]
    ) -> tuple[Array, tuple[tuple[Array, Array], ...]]:
        x = self.embedding(tokens)
        final = []
        for layer, state in zip(layers, states, strict=True):
            x, state = layer(self.drop(x), mask, state)
            self.sow(DEPTHS, "states", x)
            final.append(state)
        return x, tuple(final)
