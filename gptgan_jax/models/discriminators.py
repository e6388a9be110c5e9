"""Discriminators: networks that judge whether a text is real, as a tuple of pure functions.

Every kind judges prefixes: entry t of the token scores sees the prompt and the text up to and including token t, and
the sequence score is the entry at the last token. So one definition serves a dense reward and a judgement of the whole.
Scores are logits: the probability of "real" is their sigmoid.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import Field, model_validator

from gptgan_jax.models.layers import Dropout, Embedding, Projection, last_token
from gptgan_jax.models.transformer import TransformerConfig, Trunk
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, Batch, Params, Scores, Vocabulary


@config_dataclass
class LinearConfig:
    """D(x) = sigmoid(w.x + b) of the mean embedding."""

    kind: Literal["linear"] = "linear"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)


@config_dataclass
class MlpConfig:
    """A fully connected network on the mean embedding."""

    kind: Literal["mlp"] = "mlp"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    hidden: int = key(128, "size of the hidden layers", ge=1)
    layers: int = key(2, "hidden layers", ge=1)
    dropout: float = key(0.0, "dropout rate on the hidden layers", ge=0, lt=1)


@config_dataclass
class CnnConfig:
    """Convolutions of several widths with max-pooling over time (Kim 2014)."""

    kind: Literal["cnn"] = "cnn"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    widths: tuple[Annotated[int, Field(ge=1)], ...] = key((1, 2, 3, 4, 5), "window widths in tokens", min_length=1)
    filters: int = key(64, "filters of each width", ge=1)
    dropout: float = key(0.1, "dropout rate on the pooled features", ge=0, lt=1)


@config_dataclass
class TransformerDiscriminatorConfig(TransformerConfig):
    """A causal Transformer with a scalar head on each token."""

    from_generator: bool = key(False, "start from the generator's weights when likelihood training ends")

    @model_validator(mode="after")
    def _check_decoder_only(self) -> "TransformerDiscriminatorConfig":
        if self.encoder_layers:
            raise ValueError("encoder_layers must be 0: a discriminator reads prompt and text as one sequence")
        return self


DiscriminatorConfig = Annotated[
    LinearConfig | MlpConfig | CnnConfig | TransformerDiscriminatorConfig, Field(discriminator="kind")
]


class Judge(Protocol):
    """(params, batch, dropout_key) -> Scores of the batch's targets. Dropout acts where a key is given."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores: ...


class Discriminator(NamedTuple):
    """A judge of texts.

    Attributes:
        init: (key, batch) -> params.
        scores: see `Judge`; rows without any target token get the score of their prompt.
        config: what it was built from.
    """

    init: Callable[[Array, Batch], Params]
    scores: Judge
    config: DiscriminatorConfig


def build_discriminator(config: DiscriminatorConfig, vocabulary: Vocabulary) -> Discriminator:
    """The discriminator that a configuration describes."""
    module = _MODULES[type(config)](config, vocabulary.size)

    def sequence_of(batch: Batch) -> tuple[Array, Array]:
        tokens = jnp.concatenate([batch.prompt, batch.target], axis=1)
        return tokens, jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1)

    def init(key: Array, batch: Batch) -> Params:
        return module.init(key, *sequence_of(batch))["params"]

    def scores(params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores:
        tokens, mask = sequence_of(batch)
        if isinstance(config, TransformerDiscriminatorConfig) and tokens.shape[1] > config.max_positions:
            raise ValueError(f"prompt and text of {tokens.shape[1]} tokens need max_positions >= that")
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        prefix_scores: Any = module.apply({"params": params}, tokens, mask, rngs=rngs)
        return Scores(tokens=prefix_scores[:, batch.prompt.shape[1] :], sequence=last_token(prefix_scores, mask))

    return Discriminator(init, scores, config)


def share_trunk(generator_params: Params, discriminator_params: Params) -> Params:
    """The discriminator's parameters with its Transformer replaced by the generator's; its head stays.

    Raises:
        ValueError: where one of the two is no Transformer, or they differ in shape. That they agree in what has no
            shape, such as the activation, is up to the caller.
    """
    mine, theirs = discriminator_params.get("trunk"), generator_params.get("trunk")
    if mine is None or theirs is None:
        raise ValueError("only a Transformer discriminator can start from a generator, and only from a Transformer")
    if jax.tree.map(jnp.shape, mine) != jax.tree.map(jnp.shape, theirs):
        raise ValueError("the discriminator can start from the generator only where both have the same Transformer")
    return {**discriminator_params, "trunk": jax.tree.map(jnp.copy, theirs)}


def prefix_mean(x: Array, mask: Array) -> Array:
    """Mean over the tokens so far: [B, S, D], bool [B, S] -> [B, S, D]; 0 before the first token."""
    weights = mask.astype(jnp.float32)[..., None]
    return jnp.cumsum(x * weights, axis=1) / jnp.maximum(jnp.cumsum(weights, axis=1), 1)


def prefix_max(x: Array, mask: Array) -> Array:
    """Maximum over the tokens so far of features that are >= 0: [B, S, D], bool [B, S] -> [B, S, D]."""
    return jax.lax.cummax(x * mask.astype(x.dtype)[..., None], axis=1)


def windows(x: Array, mask: Array, width: int) -> Array:
    """Each token beside the width - 1 before it, or zeros: [B, S, D], bool [B, S] -> [B, S, width * D]."""
    x = jnp.pad(x * mask.astype(x.dtype)[..., None], ((0, 0), (width - 1, 0), (0, 0)))
    length = mask.shape[1]
    return jnp.concatenate([x[:, i : i + length] for i in range(width)], axis=-1)


class _Score(nn.Module):
    """w.x + b, float32: [..., D] -> [...]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return Projection(1, kernel_init=nn.initializers.normal(0.02), name="score")(x.astype(jnp.float32))[..., 0]


class _Linear(nn.Module):
    config: LinearConfig
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        x = Embedding(self.vocab_size, self.config.embedding, self.config.dtype, 1.0, name="embedding")(tokens)
        return _Score(name="head")(prefix_mean(x, mask))


class _Mlp(nn.Module):
    config: MlpConfig
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        cfg = self.config
        x = prefix_mean(Embedding(self.vocab_size, cfg.embedding, cfg.dtype, 1.0, name="embedding")(tokens), mask)
        for i in range(cfg.layers):
            x = jax.nn.relu(
                Projection(cfg.hidden, dtype=cfg.dtype, kernel_init=nn.initializers.he_normal(), name=f"hidden_{i}")(x)
            )
            x = Dropout(cfg.dropout)(x)
        return _Score(name="head")(x)


class _Cnn(nn.Module):
    config: CnnConfig
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        cfg = self.config
        x = Embedding(self.vocab_size, cfg.embedding, cfg.dtype, 1.0, name="embedding")(tokens)
        features = [
            jax.nn.relu(
                Projection(
                    cfg.filters, dtype=cfg.dtype, kernel_init=nn.initializers.he_normal(), name=f"width_{width}"
                )(windows(x, mask, width))
            )
            for width in cfg.widths
        ]
        pooled = prefix_max(jnp.concatenate(features, axis=-1), mask)
        return _Score(name="head")(Dropout(cfg.dropout)(pooled))


class _Transformer(nn.Module):
    config: TransformerDiscriminatorConfig
    vocab_size: int

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        return _Score(name="head")(Trunk(self.config, self.vocab_size, name="trunk")(tokens, mask))


_MODULES: dict[type, Callable[..., nn.Module]] = {
    LinearConfig: _Linear,
    MlpConfig: _Mlp,
    CnnConfig: _Cnn,
    TransformerDiscriminatorConfig: _Transformer,
}
