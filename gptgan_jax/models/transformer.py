"""One Transformer for generator, encoder and discriminator; its options cover GPT-2 and the Llama/Qwen family.

Pre-norm blocks (Radford et al. 2019; Touvron et al. 2023). Keys and values for decoding are in an explicit `Cache` that
is passed in and returned, so a decoding step is a pure function. Query, key and value weights are fused and grouped by
key/value head: the kernel's columns are ordered [K, H/K + 2, head_dim], so splits over devices fall between heads.

Dimensions: B batch, T new tokens, S attended slots, D width, H heads, K key/value heads, G = H/K, E head width. Where N
texts answer each of B prompts, there are R = B N rows, with a prompt's texts as neighbours, and each prompt is read
once."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from gptgan_jax.distributed.partitioning import constrain
from gptgan_jax.layers.attention import attend, attend_beside, causal_mask, flash_attend, mask_of
from gptgan_jax.layers.dense import DEPTHS, DTYPES, Dropout, Embedding, Norm, Projection, positions_of
from gptgan_jax.layers.rotary import rotate
from gptgan_jax.models.cache import Cache, Kept, kept, keys_and_values, written
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.types import Array, Params

KEPT = ("qkv", "query", "key_value", "out", "gate", "up")
"""Matrices whose products the backward pass of a block with adapters keeps from the forward pass."""

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "swiglu": jax.nn.silu,  # of the gate; see MLP
}


Layer = dict[str, Kept]
"""What is kept of a layer; see `Cache`."""


class _Step(struct.PyTreeNode):
    """Values shared by all blocks of a forward pass."""

    positions: Array  # [B, T]
    mask: Array  # bool [B, T, S]
    index: Array  # slot of the first new token
    context: Array | None  # [B, P, D], encoder output; None while decoding from a cache
    context_mask: Array | None  # bool [B, P]
    whole: Array | None  # bool [B, T], which tokens are no padding, where they see none but each other; else None
    prompt_mask: Array | None = None  # bool [B, P], of prompts that R rows of new tokens have in common
    causal: bool = struct.field(pytree_node=False, default=True)  # whether they see only those before them


class Attention(nn.Module):
    """Self-attention; with a cache it writes the new keys and values there and attends to all slots.

    A cache without slots, {}, takes the new keys and values as they are; a cache with only a prompt's is attended to
    together with the new ones, which are not kept.
    """

    config: TransformerConfig
    depth: int

    @nn.compact
    def __call__(self, x: Array, cache: Layer | None, step: _Step) -> tuple[Array, Layer | None]:
        cfg = self.config
        kv_heads, group, head = cfg.key_value_heads, cfg.group, cfg.head_size
        batch, length, _ = x.shape
        qkv = Projection(kv_heads * (group + 2) * head, cfg.qkv_bias, cfg.dtype, lora=cfg.lora, name="qkv")(x)
        qkv = constrain(qkv.reshape(batch, length, kv_heads, group + 2, head), "rows", None, "heads", None, None)
        # The gradient of a split is one concatenation; for three slices it would be a sum of three padded arrays.
        queries, keys, values = jax.lax.split(qkv, (group, 1, 1), axis=3)
        keys, values = keys[:, :, :, 0], values[:, :, :, 0]
        if cfg.qk_norm:
            queries = Norm("rms", cfg.norm_eps, name="query_norm")(queries)
            keys = Norm("rms", cfg.norm_eps, name="key_norm")(keys)
        if cfg.positions == "rotary":
            queries = rotate(queries, step.positions, cfg.frequencies)
            keys = rotate(keys, step.positions, cfg.frequencies)
        keys, values = keys.swapaxes(1, 2), values.swapaxes(1, 2)
        own = keys, values
        if cache == {}:
            cache = {"own": own}
        elif cache is not None and "own" in cache:
            cache = cache | {"own": written(cache["own"], keys, values, step.index)}
            keys, values = keys_and_values(cache["own"])
        if step.prompt_mask is not None:
            assert cache is not None, "what is kept of the prompts"
            prompt = *keys_and_values(cache["prompt"]), step.prompt_mask
            mixed = attend_beside(queries, *prompt, keys, values, step.mask)
            cache = cache if "own" in cache else None
        elif cfg.attention == "flash" and step.whole is not None:
            mixed = flash_attend(queries, *own, step.whole, step.causal)
        else:
            mixed = attend(queries, keys, values, step.mask)
        mixed = mixed.reshape(batch, length, cfg.heads * head)
        out = Projection(cfg.width, cfg.bias, cfg.dtype, _residual_init(self.depth), lora=cfg.lora, name="out")
        return out(mixed), cache


class CrossAttention(nn.Module):
    """Attention of the decoder to the encoder's keys and values, which are computed once and cached."""

    config: TransformerConfig
    depth: int

    @nn.compact
    def __call__(self, x: Array, cache: Layer | None, step: _Step) -> tuple[Array, Layer | None]:
        cfg = self.config
        kv_heads, group, head = cfg.key_value_heads, cfg.group, cfg.head_size
        batch, length, _ = x.shape
        queries = Projection(cfg.heads * head, cfg.qkv_bias, cfg.dtype, lora=cfg.lora, name="query")(x)
        queries = constrain(queries.reshape(batch, length, kv_heads, group, head), "rows", None, "heads", None, None)
        if step.context is not None:
            kv = Projection(2 * kv_heads * head, cfg.qkv_bias, cfg.dtype, lora=cfg.lora, name="key_value")(step.context)
            kv = constrain(kv.reshape(*step.context.shape[:2], kv_heads, 2, head), "rows", None, "heads", None, None)
            keys, values = (part[:, :, :, 0].swapaxes(1, 2) for part in jax.lax.split(kv, (1, 1), axis=3))
            if cache is not None:
                cache = cache | {"cross": kept(keys, values)}
        else:
            assert cache is not None, "decoding needs the cache that the prefill made"
            keys, values = keys_and_values(cache["cross"])
        assert step.context_mask is not None
        # Texts that answer the same prompt see the same encoder output, so their tokens are handled like one text.
        prompts, slots = step.context_mask.shape
        queries = queries.reshape(prompts, -1, kv_heads, group, head)
        mask = jnp.broadcast_to(step.context_mask[:, None], (prompts, queries.shape[1], slots))
        mixed = attend(queries, keys, values, mask).reshape(batch, length, cfg.heads * head)
        out = Projection(cfg.width, cfg.bias, cfg.dtype, _residual_init(self.depth), lora=cfg.lora, name="out")
        return out(mixed), cache


class MLP(nn.Module):
    """Two projections around a nonlinearity; with SwiGLU (Shazeer 2020) a gate multiplies the hidden layer."""

    config: TransformerConfig
    depth: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg = self.config
        hidden = cfg.mlp_size
        activation = ACTIVATIONS[cfg.activation]
        if cfg.activation == "swiglu":
            gate = activation(Projection(hidden, cfg.bias, cfg.dtype, lora=cfg.lora, name="gate")(x))
            y = gate * Projection(hidden, cfg.bias, cfg.dtype, lora=cfg.lora, name="up")(x)
        else:
            y = activation(Projection(hidden, cfg.bias, cfg.dtype, lora=cfg.lora, name="up")(x))
        y = constrain(y, "rows", None, "hidden")
        return Projection(cfg.width, cfg.bias, cfg.dtype, _residual_init(self.depth), lora=cfg.lora, name="down")(y)


class Block(nn.Module):
    """Pre-norm residual block: self-attention, cross-attention if there is an encoder, MLP."""

    config: TransformerConfig
    depth: int
    cross: bool

    @nn.compact
    def __call__(self, x: Array, cache: Layer | None, step: _Step) -> tuple[Array, Layer | None]:
        cfg = self.config
        drop = Dropout(cfg.dropout)
        y, cache = Attention(cfg, self.depth, name="attention")(
            Norm(cfg.norm, cfg.norm_eps, name="attention_norm")(x), cache, step
        )
        x = x + drop(y)
        if self.cross:
            y, cache = CrossAttention(cfg, self.depth, name="cross")(
                Norm(cfg.norm, cfg.norm_eps, name="cross_norm")(x), cache, step
            )
            x = x + drop(y)
        x = x + drop(MLP(cfg, self.depth, name="mlp")(Norm(cfg.norm, cfg.norm_eps, name="mlp_norm")(x)))
        x = constrain(x, "rows", None, None)
        self.sow(DEPTHS, "states", x)
        return x, cache


class Stack(nn.Module):
    """`depth` blocks and the final norm, unrolled or scanned."""

    config: TransformerConfig
    depth: int
    cross: bool = False

    @nn.compact
    def __call__(self, x: Array, caches: Any, step: _Step) -> tuple[Array, Any]:
        cfg = self.config
        block = Block
        if cfg.remat or cfg.lora.rank:
            # With frozen weights the backward pass needs little of a block: the outputs of its matrix products, from
            # which the rest is recomputed by a few elementwise passes. (Keeping everything would be several times the
            # size of the weights that are read.)
            policy = None if cfg.remat else jax.checkpoint_policies.save_only_these_names(*KEPT)
            block = nn.remat(Block, prevent_cse=not cfg.scan_layers, policy=policy)
        if cfg.scan_layers:
            scanned = nn.scan(
                block,
                variable_axes={"params": 0, DEPTHS: 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast),
                length=self.depth,
            )
            x, caches = scanned(cfg, self.depth, self.cross, name="blocks")(x, caches, step)
        else:
            updated = []
            if not self.is_initializing() and not self.has_rng("dropout"):
                # Traced once for all blocks: random numbers, which differ between blocks, are not drawn here.
                block = nn.jit(block)
            for i in range(self.depth):
                cache = None if caches is None else caches[i]
                x, cache = block(cfg, self.depth, self.cross, name=f"block_{i}")(x, cache, step)
                updated.append(cache)
            caches = None if caches is None else tuple(updated)
        return Norm(cfg.norm, cfg.norm_eps, name="norm")(x), caches


def shallow_config(config: TransformerConfig) -> TransformerConfig:
    """The same network with at most one block of each kind, if its blocks are not scanned."""
    if config.scan_layers:
        return config
    return dataclasses.replace(config, layers=1, encoder_layers=min(1, config.encoder_layers))


def deep_shapes(shapes: Params, config: TransformerConfig) -> Params:
    """The shapes of a network's parameters, from those of its `shallow_config`."""
    if config.scan_layers:
        return shapes

    def repeated(stack: Params, depth: int) -> Params:
        return stack | {f"block_{i}": stack["block_0"] for i in range(depth)}

    trunk = dict(shapes["trunk"])
    trunk["decoder"] = repeated(trunk["decoder"], config.layers)
    if config.encoder_layers:
        trunk["encoder"] = repeated(trunk["encoder"], config.encoder_layers)
    return shapes | {"trunk": trunk}


class Trunk(nn.Module):
    """From tokens to hidden states: embedding, positions, an optional encoder, decoder.

    Generator and discriminator both have one under the name `trunk`, so one can start from the weights of the other.
    """

    config: TransformerConfig
    vocab_size: int

    def setup(self) -> None:
        cfg = self.config
        self.embedding = Embedding(self.vocab_size, cfg.width, cfg.dtype)
        if cfg.positions == "learned":
            self.position_table = self.param(
                "positions", nn.initializers.normal(0.02), (cfg.max_positions, cfg.width), jnp.float32
            )
        self.drop = Dropout(cfg.dropout)
        self.decoder = Stack(cfg, cfg.layers, cross=cfg.encoder_layers > 0)
        if cfg.encoder_layers:
            self.encoder = Stack(cfg, cfg.encoder_layers)

    def embed(self, tokens: Array, positions: Array) -> Array:
        """int32 [B, T] twice -> [B, T, D]."""
        return self.place(self.embedding(tokens), positions)

    def place(self, x: Array, positions: Array) -> Array:
        """Token embeddings [B, T, D] with their positions, int32 [B, T], -> [B, T, D]."""
        if self.config.positions == "learned":
            x = x + jnp.take(self.position_table, positions, axis=0, mode="clip").astype(x.dtype)
        return constrain(self.drop(x), "rows", None, None)

    def __call__(
        self, tokens: Array, mask: Array, context: Array | None = None, context_mask: Array | None = None
    ) -> Array:
        """Causal hidden states of whole texts: int32 [B, T], bool [B, T] -> [B, T, D].

        The mask of packed rows is their segments, int32 [B, T].
        """
        return self.read(self.embedding(tokens), mask, context, context_mask)

    def read(self, x: Array, mask: Array, context: Array | None = None, context_mask: Array | None = None) -> Array:
        """As `__call__`, from the token embeddings [B, T, D]."""
        positions = positions_of(mask)
        step = _Step(positions, mask_of(mask, True, self.config.reach), jnp.int32(0), context, context_mask, mask)
        return self.decoder(self.place(x, positions), None, step)[0]

    def encode(self, tokens: Array, mask: Array) -> Array:
        """Bidirectional hidden states of the prompt: int32 [B, P], bool [B, P] -> [B, P, D]."""
        positions = positions_of(mask)
        step = _Step(positions, mask_of(mask, False), jnp.int32(0), None, None, mask, causal=False)
        return self.encoder(self.embed(tokens, positions), None, step)[0]

    def prefill(
        self,
        tokens: Array,
        mask: Array,
        slots: int,
        context: Array | None = None,
        context_mask: Array | None = None,
    ) -> tuple[Array, Cache]:
        """Hidden states [B, T, D] of the first tokens, and a cache for `slots` tokens that contains theirs."""
        cfg = self.config
        batch, length = tokens.shape
        kv_heads, head = cfg.key_value_heads, cfg.head_size

        def empty(size: int) -> Kept:
            lead = (cfg.layers,) if cfg.scan_layers else ()
            zeros = jnp.zeros((*lead, batch, kv_heads, size, head), DTYPES[cfg.dtype])
            zeros = constrain(zeros, *[None] * len(lead), "rows", "heads", None, None)
            return kept(zeros, zeros)

        layer = {"own": empty(slots)}
        if context is not None:
            layer |= {"cross": empty(context.shape[1])}
        caches = layer if cfg.scan_layers else (layer,) * cfg.layers
        filled = jnp.pad(mask, ((0, 0), (0, slots - length)))
        positions = positions_of(mask)
        step = _Step(positions, causal_mask(filled, length, cfg.reach), jnp.int32(0), context, context_mask, mask)
        hidden, caches = self.decoder(self.embed(tokens, positions), caches, step)
        return hidden, Cache(caches, filled, jnp.int32(length), context_mask)

    def read_prompts(
        self, x: Array, mask: Array, context: Array | None = None, context_mask: Array | None = None
    ) -> tuple[Array, Cache]:
        """Hidden states [B, P, D] of prompts, from their token embeddings, and a cache with exactly these."""
        positions = positions_of(mask)
        step = _Step(positions, mask_of(mask, True, self.config.reach), jnp.int32(0), context, context_mask, mask)
        caches: Any = {} if self.config.scan_layers else ({},) * self.config.layers
        hidden, caches = self.decoder(self.place(x, positions), caches, step)
        return hidden, Cache(caches, mask, jnp.int32(mask.shape[1]), context_mask)

    def read_on(self, x: Array, mask: Array, prompts: Cache) -> Array:
        """Hidden states [R, T, D] of whole texts that continue the B prompts of `read_prompts`, with B a divisor of R.

        Not supported with a window, as each token would see a different part of the prompt.

        Args:
            x: their token embeddings.
            mask: bool [R, T].
            prompts: their caches.
        """
        if self.config.reach is not None:
            raise ValueError("several texts of one prompt can't be read behind it with a window: repeat the prompt")
        cache = prompts.of_prompts()
        positions = positions_of(mask) + cache.prompt_lengths(x.shape[0])[:, None]
        step = _Step(positions, causal_mask(mask, x.shape[1]), jnp.int32(0), None, None, None, cache.prompt_mask)
        return self.decoder(self.place(x, positions), cache.layers, step)[0]

    def decode(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
        """Hidden states [B, D] of one new token per row, int32 [B], and the cache that contains it."""
        filled = cache.mask.at[:, cache.index].set(True)
        positions = cache.mask.sum(axis=1, dtype=jnp.int32)[:, None]
        if cache.prompt_mask is not None:
            positions += cache.prompt_lengths(len(tokens))[:, None]
        seen = (
            filled
            if self.config.reach is None
            else filled & (jnp.arange(filled.shape[1]) > cache.index - self.config.reach)
        )
        step = _Step(
            positions, seen[:, None, :], cache.index, None, cache.context_mask, None, prompt_mask=cache.prompt_mask
        )
        hidden, caches = self.decoder(self.embed(tokens[:, None], positions), cache.layers, step)
        return hidden[:, 0], cache.replace(layers=caches, mask=filled, index=cache.index + 1)


def _residual_init(depth: int) -> Any:
    """GPT-2's initialisation: projections into the residual stream start smaller in deeper networks."""
    return nn.initializers.normal(0.02 / (2 * depth) ** 0.5)
