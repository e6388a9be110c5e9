"""The relational memory core (Santoro et al. 2018, arXiv:1806.01822), the generator of RelGAN (Nie et al. 2019).

A memory M of S slots, each of H heads of E numbers, reads a token embedding x at each step:

    x'   = W_x x + b_x                                        the token as one more slot
    N    = [M; x']
    q, k, v = norm(N W_qkv) by heads                          each slot asks all slots and the token
    A    = norm(N + softmax(q k^T / sqrt(3 E)) v)
    C    = norm(A + mlp(A)), without the token's slot         mlp: two layers, relu between them
    i, f = sigmoid(W_i x' + U_i tanh(M)), sigmoid(W_f x' + U_f tanh(M) + 1)
    M   <- i tanh(C) + f M

The logits are a linear function of all slots. Details beyond the papers follow RelGAN's code (weilinie/RelGAN,
utils/models/relational_memory.py): gates without a bias of their own, products of queries and keys divided by the root
of the sizes of query, key and value together, norms over all numbers of a row, and the first S rows of the identity as
initial memory.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import model_validator

from gptgan_jax.layers.dense import DEPTHS, Embedding, Norm, OutputHead, Projection
from gptgan_jax.layers.initializers import by_fan_in
from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.models.cache import RecurrentCache
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array

MATRICES = ("inputs", "qkv", "mlp_in", "mlp_out", "gate_inputs", "gate_memory")


@config_dataclass
class RelationalConfig:
    """The network of a generator with a relational memory.

    Example:
        >>> network = gg.build_generator(gg.RelationalConfig(slots=2, head_width=4, embedding=4), vocabulary)
        >>> network.logits(network.init(key, batch), batch).shape
        (2, 3, 8)
    """

    kind: Literal["relational"] = "relational"
    slots: int = key(1, "slots of the memory", ge=1)
    heads: int = key(2, "attention heads; a slot is heads * head_width numbers", ge=1)
    head_width: int = key(16, "size of an attention head", ge=1)
    embedding: int = key(32, "size of the token embeddings", ge=1)
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    lora: LoraConfig = key(LoraConfig, "adapters that are trained in place of the weights")

    @model_validator(mode="after")
    def _check(self) -> "RelationalConfig":
        self.lora.check_targets(MATRICES)
        return self

    @property
    def encoder_layers(self) -> int:
        """None: the memory reads the prompt itself."""
        return 0

    @property
    def layers(self) -> int:
        """One, whatever its slots."""
        return 1

    @property
    def width(self) -> int:
        """Numbers of a slot."""
        return self.heads * self.head_width

    @property
    def hidden(self) -> int:
        """Numbers of the whole memory, from which the logits are read."""
        return self.slots * self.width


class RelationalMemory(nn.Module):
    """One step of the memory: from projected tokens and the previous memory to the next."""

    config: RelationalConfig

    def setup(self) -> None:
        cfg = self.config

        def projection(features: int, use_bias: bool) -> Projection:
            return Projection(features, use_bias, cfg.dtype, by_fan_in, cfg.lora)

        def norm() -> Norm:
            return Norm(eps=1e-12, axes=2)

        self.inputs, self.gate_inputs = projection(cfg.width, True), projection(2 * cfg.width, False)
        self.qkv, self.gate_memory = projection(3 * cfg.width, False), projection(2 * cfg.width, False)
        self.mlp_in, self.mlp_out = projection(cfg.width, True), projection(cfg.width, True)
        self.qkv_norm, self.attended_norm, self.mlp_norm = norm(), norm(), norm()

    def start(self, rows: int) -> Array:
        """float32 [B, S, H E]: the first rows of the identity."""
        cfg = self.config
        return jnp.broadcast_to(jnp.eye(cfg.slots, cfg.width), (rows, cfg.slots, cfg.width))

    def project(self, x: Array) -> tuple[Array, Array]:
        """The projection of each token, [..., X] -> its slot [..., H E] and its part of both gates [..., 2 H E]."""
        slot = self.inputs(x)
        return slot, self.gate_inputs(slot)

    def step(self, memory: Array, slot: Array, gates: Array) -> Array:
        """float32 [B, S, H E], [B, H E], [B, 2 H E] -> float32 [B, S, H E]."""
        rows = jnp.concatenate([memory, slot.astype(jnp.float32)[:, None]], axis=1)
        rows = self.attended_norm(rows + self._attend(rows))
        rows = self.mlp_norm(rows + self.mlp_out(jax.nn.relu(self.mlp_in(rows))).astype(jnp.float32))
        total = (gates[:, None] + self.gate_memory(jnp.tanh(memory))).astype(jnp.float32)
        write, keep = jnp.split(total, 2, axis=-1)
        return jax.nn.sigmoid(write) * jnp.tanh(rows[:, :-1]) + jax.nn.sigmoid(keep + 1.0) * memory

    def _attend(self, rows: Array) -> Array:
        """Multi-head attention of the rows [B, N, H E] to each other, float32."""
        cfg = self.config
        found = self.qkv_norm(self.qkv(rows).astype(jnp.float32))
        q, k, v = jnp.split(found.reshape(*rows.shape[:2], cfg.heads, 3 * cfg.head_width), 3, axis=-1)
        shares = jax.nn.softmax(jnp.einsum("bnhe,bmhe->bhnm", q, k) * (3 * cfg.head_width) ** -0.5)
        return jnp.einsum("bhnm,bmhe->bnhe", shares, v).reshape(rows.shape)


class RelationalNetwork(nn.Module):
    """From tokens to logits; the state is the memory."""

    config: RelationalConfig
    vocab_size: int

    def setup(self) -> None:
        cfg = self.config
        self.embedding = Embedding(self.vocab_size, cfg.embedding, cfg.dtype, self.vocab_size**-0.5)
        self.memory = RelationalMemory(cfg)
        self.head = OutputHead(self.vocab_size, use_bias=True, dtype=cfg.dtype, kernel_init=by_fan_in)

    def encode(self, tokens: Array, mask: Array) -> Array:
        """The initial memory."""
        return self.memory.start(tokens.shape[0])

    def decode_all(self, tokens: Array, mask: Array, states: Array) -> tuple[Array, Array]:
        """Hidden states [B, T, S H E] of whole texts int32 [B, T], and the final memory; a masked step changes none."""
        # Everything that only depends on the tokens is one product for all of them.
        slots, gates = self.memory.project(self.embedding(tokens))

        def step(module: RelationalMemory, memory: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            slot, gate, here = inputs
            after = jnp.where(here[:, None, None], module.step(memory, slot, gate), memory)
            return after, after.reshape(after.shape[0], -1)

        over_time = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        final, hidden = over_time(self.memory, states, (slots, gates, mask))
        self.sow(DEPTHS, "states", hidden)
        return hidden, final

    def decode(self, tokens: Array, cache: RecurrentCache) -> tuple[Array, RecurrentCache]:
        """Logits [B, V] after one new token per row, int32 [B]."""
        memory = self.memory.step(cache.states, *self.memory.project(self.embedding(tokens)))
        return self.head(memory.reshape(memory.shape[0], -1)), RecurrentCache(memory)
