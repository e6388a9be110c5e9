"""Discriminators: networks that judge whether a text is real, as a tuple of pure functions.

Every kind judges prefixes: entry t of the token scores sees the prompt and the text up to and including token t, and
the sequence score is the entry at the last token. So one definition serves a dense reward and a judgement of the whole.
Scores are logits: the probability of "real" is their sigmoid. With classes the head has K logits, and their log-sum-exp
is the score.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import Field, model_validator

from gptgan_jax.models.layers import DTYPES, Dropout, Embedding, Projection, last_token
from gptgan_jax.models.lora import only_learning, with_adapters, without_adapters
from gptgan_jax.models.spectral_norm import spectrally_normalised
from gptgan_jax.models.transformer import TransformerConfig, Trunk
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array, Batch, Params, Scores, Vocabulary


@config_dataclass
class LinearConfig:
    """D(x) = sigmoid(w.x + b) of the mean embedding."""

    kind: Literal["linear"] = "linear"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")


@config_dataclass
class MlpConfig:
    """A fully connected network on the mean embedding."""

    kind: Literal["mlp"] = "mlp"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    hidden: int = key(128, "size of the hidden layers", ge=1)
    layers: int = key(2, "hidden layers", ge=1)
    dropout: float = key(0.0, "dropout rate on the hidden layers", ge=0, lt=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")


@config_dataclass
class CnnConfig:
    """Convolutions of several widths with max-pooling over time (Kim 2014)."""

    kind: Literal["cnn"] = "cnn"
    dtype: Literal["float32", "bfloat16"] = key("float32", "what matrix products are computed in")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    widths: tuple[Annotated[int, Field(ge=1)], ...] = key((1, 2, 3, 4, 5), "window widths in tokens", min_length=1)
    filters: int = key(64, "filters of each width", ge=1)
    dropout: float = key(0.1, "dropout rate on the pooled features", ge=0, lt=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")


@config_dataclass
class TransformerDiscriminatorConfig(TransformerConfig):
    """A causal Transformer with a scalar head on each token."""

    from_generator: bool = key(False, "start from the generator's weights when likelihood training ends")
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")

    @model_validator(mode="after")
    def _check_discriminator(self) -> "TransformerDiscriminatorConfig":
        if self.encoder_layers:
            raise ValueError("encoder_layers must be 0: a discriminator reads prompt and text as one sequence")
        if self.from_generator and self.spectral_norm:
            raise ValueError(
                "from_generator and spectral_norm exclude each other: the trunk would no longer be the generator's"
            )
        if self.lora.rank and not self.from_generator:
            raise ValueError("lora adapts what the network starts from: set from_generator true, or drop lora")
        return self


NEW = ("head/*",)
"""Of a discriminator that starts from a generator, what that did not have: patterns of paths."""

DiscriminatorConfig = Annotated[
    LinearConfig | MlpConfig | CnnConfig | TransformerDiscriminatorConfig, Field(discriminator="kind")
]


class ScoreTexts(Protocol):
    """(params, batch, dropout_key) -> Scores of the batch's targets. Dropout acts where a key is given."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores: ...


class Embed(Protocol):
    """(params, batch, weights) -> float [B, P + T, E], token embeddings of prompt and target, without positions.

    With `weights`, float [B, T, V], entry t of the target is the mixture of all tokens' embeddings in these shares, a
    relaxed token: rows that are one-hot give the tokens' own embeddings. What `batch.target` holds is then not read.
    """

    def __call__(self, params: Params, batch: Batch, weights: Array | None = None) -> Array: ...


class Judge(Protocol):
    """(params, embeddings, batch, dropout_key) -> Scores of texts that `Embed` embedded.

    Of the batch only the masks and shapes count. Embeddings outside the masks change no score inside them.
    """

    def __call__(self, params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores: ...


class NextLogits(Protocol):
    """(params, batch, dropout_key) -> float32 [B, T, V], logits of each target token, given the text before it."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Array: ...


class Discriminator(NamedTuple):
    """A judge of texts.

    Attributes:
        init: (key, batch) -> params.
        scores: see `ScoreTexts`; rows without any target token get the score of their prompt.
        embed, judge: the two halves of `scores`, apart for relaxed tokens and for gradients with respect to embeddings;
            see `Embed` and `Judge`.
        config: what it was built from.
        next_logits: what its Transformer takes to come next, by its own embeddings; None where it has none. See
            `NextLogits`.
        classes: K, how many classes it tells; 0 where its head is one score.
    """

    init: Callable[[Array, Batch], Params]
    scores: ScoreTexts
    embed: Embed
    judge: Judge
    config: DiscriminatorConfig
    next_logits: NextLogits | None = None
    classes: int = 0

    @property
    def drops(self) -> bool:
        """Whether a dropout key changes its scores."""
        return getattr(self.config, "dropout", 0.0) > 0


def build_discriminator(config: DiscriminatorConfig, vocabulary: Vocabulary, classes: int = 0) -> Discriminator:
    """The discriminator that a configuration describes.

    With `classes`, its head gives so many logits (GAN-BERT, Croce et al. 2020): the score of a text is their
    log-sum-exp, and `Scores` has the logits and the features that they are a linear function of.

    Raises:
        ValueError: one class, which would tell nothing.
    """
    if classes == 1:
        raise ValueError("a discriminator with classes needs two of them or more")
    module = _MODULES[type(config)](config, vocabulary.size, classes)

    def learning(params: Params) -> Params:
        return only_learning(params, config.lora, NEW) if isinstance(config, TransformerConfig) else params

    def mask_of(batch: Batch) -> Array:
        return jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1)

    def init(key: Array, batch: Batch) -> Params:
        tokens = jnp.concatenate([batch.prompt, batch.target], axis=1)
        return module.init(key, tokens, mask_of(batch))["params"]

    def embed(params: Params, batch: Batch, weights: Array | None = None) -> Array:
        arguments = (batch.prompt, batch.target, weights)
        embeddings: Any = module.apply({"params": learning(params)}, *arguments, method="embed")
        return embeddings

    def judge(params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores:
        mask = mask_of(batch)
        if embeddings.shape[:2] != mask.shape:
            raise ValueError(f"embeddings of shape {embeddings.shape} do not fit a batch of {mask.shape} tokens")
        if isinstance(config, TransformerDiscriminatorConfig) and mask.shape[1] > config.max_positions:
            raise ValueError(f"prompt and text of {mask.shape[1]} tokens need max_positions >= that")
        if config.spectral_norm:
            params = spectrally_normalised(params)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        x = embeddings.astype(DTYPES[config.dtype])
        prefixes: Any
        whole: Any
        prefixes, whole = module.apply({"params": learning(params)}, x, mask, rngs=rngs, method="judge")
        return Scores(prefixes.scores[:, batch.prompt.shape[1] :], whole.scores, whole.classes, whole.features)

    def scores(params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores:
        return judge(params, embed(params, batch), batch, dropout_key)

    def next_logits(params: Params, batch: Batch, dropout_key: Array | None = None) -> Array:
        if config.spectral_norm:
            params = spectrally_normalised(params)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        tokens, length = jnp.concatenate([batch.prompt, batch.target], axis=1), batch.target.shape[1]
        variables = {"params": learning(params)}
        logits: Any = module.apply(variables, tokens, mask_of(batch), length, rngs=rngs, method="next_logits")
        return logits

    predicts = isinstance(config, TransformerDiscriminatorConfig)
    return Discriminator(init, scores, embed, judge, config, next_logits if predicts else None, classes)


def without_prompts(discriminator: Discriminator, vocabulary: Vocabulary) -> Discriminator:
    """The discriminator, to whom every prompt is BOS: it sees nothing of what a text answers.

    Wanted where the prompt names the text's class: to read it there would be no judgement of the text. Shapes stay, as
    what stands before BOS counts nothing.
    """

    def hidden(batch: Batch) -> Batch:
        first = jnp.arange(batch.prompt.shape[1]) < batch.prompt.shape[1] - 1
        prompt = jnp.broadcast_to(jnp.where(first, vocabulary.pad_id, vocabulary.bos_id), batch.prompt.shape)
        return batch.replace(prompt=prompt, prompt_mask=jnp.broadcast_to(~first, batch.prompt.shape))

    def scores(params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores:
        return discriminator.scores(params, hidden(batch), dropout_key)

    def embed(params: Params, batch: Batch, weights: Array | None = None) -> Array:
        return discriminator.embed(params, hidden(batch), weights)

    def judge(params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores:
        return discriminator.judge(params, embeddings, hidden(batch), dropout_key)

    def next_logits(params: Params, batch: Batch, dropout_key: Array | None = None) -> Array:
        assert discriminator.next_logits is not None
        return discriminator.next_logits(params, hidden(batch), dropout_key)

    predicts = discriminator.next_logits is not None
    return discriminator._replace(
        scores=scores, embed=embed, judge=judge, next_logits=next_logits if predicts else None
    )


def share_trunk(generator_params: Params, discriminator_params: Params) -> Params:
    """The discriminator's parameters with its Transformer replaced by the generator's; its head and adapters stay.

    Args:
        generator_params: without adapters; where it has some, `lora.merged` is what it learned.
        discriminator_params: with adapters or without.

    Raises:
        ValueError: where one of the two is no Transformer, or they differ in shape. That they agree in what has no
            shape, such as the activation, is up to the caller.
    """
    mine, theirs = discriminator_params.get("trunk"), generator_params.get("trunk")
    if mine is None or theirs is None:
        raise ValueError("only a Transformer discriminator can start from a generator, and only from a Transformer")
    if jax.tree.map(jnp.shape, without_adapters(mine)) != jax.tree.map(jnp.shape, theirs):
        raise ValueError("the discriminator can start from the generator only where both have the same Transformer")
    return {**discriminator_params, "trunk": with_adapters(jax.tree.map(jnp.copy, theirs), mine)}


def prefix_mean(x: Array, mask: Array) -> Array:
    """Mean over the tokens so far: [B, S, D], bool [B, S] -> [B, S, D]; 0 before the first token."""
    weights = mask.astype(jnp.float32)[..., None]
    return jnp.cumsum(x * weights, axis=1) / jnp.maximum(jnp.cumsum(weights, axis=1), 1)


def prefix_max(x: Array, mask: Array) -> Array:
    """Maximum over the tokens so far of features that are >= 0: [B, S, D], bool [B, S] -> [B, S, D]."""
    return jax.lax.cummax(x * mask.astype(x.dtype)[..., None], axis=1)


class _Judged(NamedTuple):
    """Of texts or prefixes: scores [...], and where there are classes, their logits [..., K] and features [..., W]."""

    scores: Array
    classes: Array | None = None
    features: Array | None = None


class _Head(nn.Module):
    """One score w.x + b, or K class logits and their log-sum-exp; float32, from [..., W].

    Class logits begin around -log K, so that real and generated text begin alike likely, as they do without classes.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Array) -> _Judged:
        x, near_0 = x.astype(jnp.float32), nn.initializers.normal(0.02)
        if not self.classes:
            return _Judged(Projection(1, kernel_init=near_0, name="score")(x)[..., 0])
        logits = Projection(self.classes, kernel_init=near_0, name="classes")(x) - math.log(self.classes)
        return _Judged(jax.nn.logsumexp(logits, axis=-1), logits, x)


class _Windows(nn.Module):
    """Filters of each token beside the width - 1 before it, or zeros: [B, S, E] -> [B, S, filters].

    As a convolution, not as a product with the windows side by side: on a CPU that is twice as fast.
    """

    filters: int
    width: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        embedding, dtype = x.shape[-1], DTYPES[self.dtype]
        shape = self.width * embedding, self.filters
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        y = jax.lax.conv_general_dilated(
            x.astype(dtype),
            kernel.astype(dtype).reshape(self.width, embedding, self.filters),
            window_strides=(1,),
            padding=[(self.width - 1, 0)],
            dimension_numbers=("NHC", "HIO", "NHC"),
        )
        return y + self.param("bias", nn.initializers.zeros_init(), (self.filters,), jnp.float32).astype(dtype)


class _Network(nn.Module):
    """Tokens to token embeddings [B, S, E], and those to what is said of each prefix. Kinds differ in `features`.

    Whole texts have features of their own, so that where only they count, XLA leaves out those of the prefixes.
    """

    config: Any
    vocab_size: int
    classes: int = 0

    def setup(self) -> None:
        self.embedding = Embedding(self.vocab_size, self.config.embedding, self.config.dtype, 1.0)
        self.head = _Head(self.classes)

    def table(self) -> Embedding:
        return self.embedding

    def __call__(self, tokens: Array, mask: Array) -> tuple[_Judged, _Judged]:
        return self.judge(self.table()(tokens), mask)

    def embed(self, prompt: Array, target: Array, weights: Array | None) -> Array:
        table = self.table()
        if weights is None:
            return table(jnp.concatenate([prompt, target], axis=1))
        return jnp.concatenate([table(prompt), table.relaxed(weights)], axis=1)

    def judge(self, x: Array, mask: Array) -> tuple[_Judged, _Judged]:
        """What is said of each prefix and of the whole texts."""
        prefixes, whole = self.features(x, mask)
        return self.head(prefixes), self.head(whole)

    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """Features of each prefix [B, S, W] and of the whole texts [B, W]."""
        raise NotImplementedError


class _Linear(_Network):
    config: LinearConfig

    @nn.compact
    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        x = prefix_mean(x, mask)
        return x, last_token(x, mask)


class _Mlp(_Network):
    config: MlpConfig

    @nn.compact
    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        cfg = self.config
        x = prefix_mean(x, mask)
        for i in range(cfg.layers):
            x = jax.nn.relu(
                Projection(cfg.hidden, dtype=cfg.dtype, kernel_init=nn.initializers.he_normal(), name=f"hidden_{i}")(x)
            )
            x = Dropout(cfg.dropout)(x)
        return x, last_token(x, mask)


class _Cnn(_Network):
    config: CnnConfig

    @nn.compact
    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        cfg, drop = self.config, Dropout(self.config.dropout)
        inside = mask.astype(x.dtype)[..., None]
        found = [
            jax.nn.relu(_Windows(cfg.filters, width, cfg.dtype, name=f"width_{width}")(x * inside))
            for width in cfg.widths
        ]
        each = jnp.concatenate(found, axis=-1)
        whole = jnp.concatenate([(one * inside).max(axis=1) for one in found], axis=-1)
        return drop(prefix_max(each, mask)), drop(whole)


class _Transformer(_Network):
    config: TransformerDiscriminatorConfig

    def setup(self) -> None:
        self.trunk = Trunk(self.config, self.vocab_size)
        self.head = _Head(self.classes)

    def table(self) -> Embedding:
        return self.trunk.embedding

    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        hidden = self.trunk.read(x, mask)
        return hidden, last_token(hidden, mask)

    def next_logits(self, tokens: Array, mask: Array, length: int) -> Array:
        hidden = self.trunk(tokens, mask)[:, -length - 1 : -1]
        return self.trunk.embedding.logits(hidden)


_MODULES: dict[type, Callable[..., nn.Module]] = {
    LinearConfig: _Linear,
    MlpConfig: _Mlp,
    CnnConfig: _Cnn,
    TransformerDiscriminatorConfig: _Transformer,
}
