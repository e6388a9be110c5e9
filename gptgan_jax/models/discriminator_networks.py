"""The discriminators' networks and configurations: from tokens to scores of prefixes and of whole texts."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from pydantic import Field, model_validator

from gptgan_jax.layers.convolution import causal_convolution, largest_in_ends, whole_windows
from gptgan_jax.layers.dense import DTYPES, Dropout, Embedding, Projection, last_token
from gptgan_jax.layers.initializers import by_fan_in, normal
from gptgan_jax.models.transformer import Trunk
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import Array


@config_dataclass
class LinearConfig:
    """D(x) = sigmoid(w.x + b) with x the mean embedding.

    Example:
        >>> network = gg.build_discriminator(gg.LinearConfig(embedding=4), vocabulary)
        >>> gg.parameter_count(network.init(key, batch))  # 8 * 4 embeddings, w and b
        37
    """

    kind: Literal["linear"] = "linear"
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")


@config_dataclass
class MlpConfig:
    """A fully connected network on the mean embedding.

    Example:
        >>> network = gg.build_discriminator(gg.MlpConfig(embedding=4, hidden=8, layers=1), vocabulary)
        >>> network.scores(network.init(key, batch), batch).sequence.shape
        (2,)
    """

    kind: Literal["mlp"] = "mlp"
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    hidden: int = key(128, "size of the hidden layers", ge=1)
    layers: int = key(2, "hidden layers", ge=1)
    dropout: float = key(0.0, "dropout rate on the hidden layers", ge=0, lt=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")


@config_dataclass
class CnnConfig:
    """Convolutions of several widths with max-pooling over time (Kim 2014).

    Example:
        >>> network = gg.build_discriminator(gg.CnnConfig(embedding=4, widths=(2, 3), filters=2), vocabulary)
        >>> network.scores(network.init(key, batch), batch).tokens.shape
        (2, 3)
    """

    kind: Literal["cnn"] = "cnn"
    dtype: Literal["float32", "bfloat16"] = key("float32", "type in which matrix products are computed")
    embedding: int = key(64, "size of the token embeddings", ge=1)
    representations: int = key(
        1,
        "equal parts of the embedding that are scored separately, with the same filters (RelGAN, Nie et al. 2019)",
        ge=1,
    )
    widths: tuple[Annotated[int, Field(ge=1)], ...] = key((1, 2, 3, 4, 5), "filter widths in tokens", min_length=1)
    filters: int = key(64, "number of filters of each width", ge=1)
    highway: bool = key(False, "use a highway layer after pooling (Srivastava et al. 2015, arXiv:1505.00387)")
    hidden: int = key(0, "units of a linear layer before the score; 0: none", ge=0)
    dropout: float = key(0.1, "dropout rate on the pooled features", ge=0, lt=1)
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")

    @model_validator(mode="after")
    def _check(self) -> "CnnConfig":
        if self.embedding % self.representations:
            raise ValueError(
                f"representations {self.representations} must divide embedding {self.embedding}: the parts are of "
                "equal size"
            )
        if len(set(self.widths)) < len(self.widths):
            raise ValueError(f"widths {list(self.widths)} contain a duplicate; raise filters for more of a width")
        return self


@config_dataclass
class TransformerDiscriminatorConfig(TransformerConfig):
    """A causal Transformer with a scalar head on each token.

    Example:
        >>> config = gg.TransformerDiscriminatorConfig(layers=1, width=8, heads=2)
        >>> network = gg.build_discriminator(config, vocabulary)
        >>> network.scores(network.init(key, batch), batch).tokens.shape
        (2, 3)
    """

    from_generator: bool = key(
        False,
        "start from the generator's weights when likelihood training ends; network keys that are not given are the "
        "generator's, except dropout, tied_embeddings and lora",
    )
    spectral_norm: bool = key(False, "divide each weight matrix by its largest singular value (Miyato et al. 2018)")
    surprisal: float | None = key(
        None,
        "score a token by its surprisal -log p under this network as a language model, capped at this many nats "
        "(DPGAN, Xu et al. 2018: 12); null: by a scalar head",
        gt=0,
    )

    @model_validator(mode="after")
    def _check_discriminator(self) -> "TransformerDiscriminatorConfig":
        if self.encoder_layers:
            raise ValueError("encoder_layers must be 0: a discriminator reads prompt and text as one sequence")
        if self.from_generator and self.spectral_norm:
            raise ValueError(
                "from_generator and spectral_norm exclude each other: the trunk would no longer be the generator's"
            )
        if self.lora.rank and not self.from_generator:
            raise ValueError("lora adapts the weights that the network starts from: set from_generator, or drop lora")
        return self


DiscriminatorConfig = Annotated[
    LinearConfig | MlpConfig | CnnConfig | TransformerDiscriminatorConfig, Field(discriminator="kind")
]


def prefix_mean(x: Array, mask: Array) -> Array:
    """Mean over the tokens so far: [B, S, D], bool [B, S] -> [B, S, D]; 0 before the first token."""
    weights = mask.astype(jnp.float32)[..., None]
    return jnp.cumsum(x * weights, axis=1) / jnp.maximum(jnp.cumsum(weights, axis=1), 1)


class Judged(NamedTuple):
    """Of texts or prefixes: scores [...], features [..., W], and class logits [..., K] if there are classes.

    If parts of the embedding are scored separately, `parts` [..., S] holds the score of each, and there are no
    features."""

    scores: Array
    classes: Array | None = None
    features: Array | None = None
    parts: Array | None = None


class _Head(nn.Module):
    """One score w.x + b, or K class logits and their log-sum-exp; float32, from [..., W].

    Class logits start around -log K, so that real and generated text are equally likely at first, as without classes.
    """

    classes: int

    @nn.compact
    def __call__(self, x: Array) -> Judged:
        x, near_0 = x.astype(jnp.float32), normal(0.02)
        if not self.classes:
            return Judged(Projection(1, kernel_init=near_0, name="score")(x)[..., 0], features=x)
        logits = Projection(self.classes, kernel_init=near_0, name="classes")(x) - math.log(self.classes)
        return Judged(jax.nn.logsumexp(logits, axis=-1), logits, x)


class _Windows(nn.Module):
    """Filters over each token and the width - 1 tokens (or zeros) before it: their weights and biases."""

    filters: int
    width: int
    dtype: str

    @nn.compact
    def __call__(self, embedding: int) -> tuple[Array, Array]:
        """[width, embedding, filters], [filters]."""
        dtype, shape = DTYPES[self.dtype], (self.width * embedding, self.filters)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.filters,), jnp.float32)
        return kernel.astype(dtype).reshape(self.width, embedding, self.filters), bias.astype(dtype)


class _Network(nn.Module):
    """From tokens to embeddings [B, S, E], and from those to scores of each prefix.

    Kinds differ in `table` and `features`. Features of whole texts are computed separately, so that XLA can drop those
    of the prefixes if only whole texts are scored.
    """

    config: Any
    vocab_size: int
    classes: int = 0

    def setup(self) -> None:
        self.head = _Head(self.classes)

    def table(self) -> Embedding:
        """The table of token embeddings."""
        raise NotImplementedError

    def __call__(self, tokens: Array, mask: Array) -> tuple[Judged, Judged]:
        return self.judge(self.table()(tokens), mask)

    def embed(self, prompt: Array, target: Array, weights: Array | None) -> Array:
        table = self.table()
        if weights is None:
            return table(jnp.concatenate([prompt, target], axis=1))
        return jnp.concatenate([table(prompt), table.relaxed(weights)], axis=1)

    def judge(self, x: Array, mask: Array) -> tuple[Judged, Judged]:
        """The scores of each prefix and of the whole texts."""
        prefixes, whole = self.features(x, mask)
        return self.head(prefixes), self.head(whole)

    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """Features of each prefix [B, S, W] and of the whole texts [B, W]."""
        raise NotImplementedError


class _WithTable(_Network):
    """A network with its own embedding table."""

    def setup(self) -> None:
        super().setup()
        self.embedding = Embedding(self.vocab_size, self.config.embedding, self.config.dtype, 1.0)

    def table(self) -> Embedding:
        return self.embedding


class _Linear(_WithTable):
    config: LinearConfig

    @nn.compact
    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        x = prefix_mean(x, mask)
        return x, last_token(x, mask)


class _Mlp(_WithTable):
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


class CnnNetwork(_WithTable):
    config: CnnConfig

    def setup(self) -> None:
        super().setup()
        cfg, width = self.config, len(self.config.widths) * self.config.filters
        self.drop = Dropout(cfg.dropout)
        if cfg.highway:
            self.highway, self.highway_gate = (
                Projection(width, use_bias=False, dtype=cfg.dtype, kernel_init=by_fan_in) for _ in range(2)
            )
        if cfg.hidden:
            self.hidden = Projection(cfg.hidden, dtype=cfg.dtype, kernel_init=by_fan_in)

    def judge(self, x: Array, mask: Array) -> tuple[Judged, Judged]:
        count = self.config.representations
        if count == 1:
            return super().judge(x, mask)
        # Each part becomes a row of its own: [B, S, E] -> [B * R, S, E / R].
        parts = jnp.moveaxis(x.reshape(*x.shape[:2], count, -1), 2, 1).reshape(-1, x.shape[1], x.shape[2] // count)
        prefixes, whole = super().judge(parts, jnp.repeat(mask, count, axis=0))
        of_prefixes = prefixes.scores.reshape(-1, count, x.shape[1]).mean(axis=1)
        of_parts = whole.scores.reshape(-1, count)
        return Judged(of_prefixes), Judged(of_parts.mean(axis=1), parts=of_parts)

    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        prefixes, whole = self.pooled(x, mask)
        return self.above(prefixes), self.above(whole)

    def above(self, x: Array) -> Array:
        """From pooled features to the features that are scored."""
        if self.config.highway:
            share = jax.nn.sigmoid(self.highway_gate(x))
            x = share * jax.nn.relu(self.highway(x)) + (1 - share) * x
        x = self.drop(x)
        return self.hidden(x) if self.config.hidden else x

    def pooled(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """Each filter's largest value in each prefix [B, S, W] and in the whole texts [B, W]."""
        kernels, bias = self.windows()
        inside = mask[..., None]
        x = jnp.where(inside, x, 0)
        # Convolutions are twice as fast on a CPU as one matrix product with concatenated windows.
        filters = [causal_convolution(x, kernel) for kernel in kernels]
        # The maximum is taken before bias and relu, which do not change which value is the largest.
        filters = [jnp.where(inside, one, -jnp.inf) for one in filters]
        prefixes = jnp.concatenate([jax.lax.associative_scan(jnp.maximum, one, axis=1) for one in filters], axis=-1)
        whole = jnp.concatenate([one.max(axis=1) for one in filters], axis=-1)
        return jax.nn.relu(prefixes + bias), jax.nn.relu(whole + bias)

    def start(self, rows: int) -> tuple[Array, Array]:
        """What `read_on` keeps of a text without any token: the embeddings that a window reaches back to [B, W - 1, E],
        and each filter's largest value [B, F]."""
        cfg, dtype = self.config, DTYPES[self.config.dtype]
        before = jnp.zeros((rows, max(cfg.widths) - 1, cfg.embedding), dtype)
        return before, jnp.zeros((rows, len(cfg.widths) * cfg.filters), dtype)

    def read_on(self, tokens: Array, mask: Array, kept: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        """The features of each prefix [B, S, W] after more tokens, int32 [B, S]; and what is kept of the text."""
        (before, largest), (kernels, bias) = kept, self.windows()
        inside = mask[..., None]
        x = jnp.concatenate([before, jnp.where(inside, self.table()(tokens), 0)], axis=1)
        filters = [whole_windows(x[:, before.shape[1] + 1 - len(kernel) :], kernel) for kernel in kernels]
        found = jax.nn.relu(jnp.where(inside, jnp.concatenate(filters, axis=-1), -jnp.inf) + bias)
        # An exported sampler does not know the length, over which `associative_scan` can't go.
        pooled = jnp.maximum(jax.lax.cummax(found, axis=1), largest[:, None])
        return self.above(pooled), (x[:, tokens.shape[1] :], pooled[:, -1])

    def judge_ends(self, begun: Array, x: Array, mask: Array, start: int) -> Judged:
        """The scores of whole texts [B, S], from the features [R, W] before `start`, which B / R neighbours share."""
        count = x.shape[0] // begun.shape[0]
        features = jnp.repeat(begun, count, axis=0)
        if start < x.shape[1]:
            kernels, bias = self.windows()
            ends = largest_in_ends(jnp.where(mask[..., None], x, 0), mask, kernels, start, count)
            features = jnp.maximum(features, jax.nn.relu(jnp.concatenate(ends, axis=-1) + bias))
        return self.head(self.above(features))

    @nn.compact
    def windows(self) -> tuple[list[Array], Array]:
        """The weights of each width, and all biases concatenated."""
        cfg = self.config
        size = cfg.embedding // cfg.representations
        each = [_Windows(cfg.filters, width, cfg.dtype, name=f"width_{width}")(size) for width in cfg.widths]
        return [kernel for kernel, _ in each], jnp.concatenate([bias for _, bias in each])


class _Transformer(_Network):
    config: TransformerDiscriminatorConfig

    def setup(self) -> None:
        super().setup()
        self.trunk = Trunk(self.config, self.vocab_size)

    def __call__(self, tokens: Array, mask: Array) -> tuple[Judged, Judged]:
        if self.config.surprisal is None:
            return super().__call__(tokens, mask)
        self.trunk(tokens, mask)  # a pure language model has no head to initialise
        return Judged(mask), Judged(mask)

    def table(self) -> Embedding:
        return self.trunk.embedding

    def features(self, x: Array, mask: Array) -> tuple[Array, Array]:
        hidden = self.trunk.read(x, mask)
        return hidden, last_token(hidden, mask)

    def scores_of_prompts(self, prompt: Array, prompt_mask: Array, x: Array, mask: Array) -> tuple[Judged, Judged]:
        """The scores of each prefix [R, T] and of the whole texts [R]; R / B neighbours answer the same prompt.

        Args:
            prompt: embeddings [B, P, E] of the prompts, each read once.
            prompt_mask: bool [B, P].
            x: embeddings [R, T, E] of the texts.
            mask: bool [R, T].
        """
        read, prompts = self.trunk.read_prompts(prompt, prompt_mask)
        hidden = self.trunk.read_on(x, mask, prompts)
        of_prompt = jnp.repeat(read[:, -1], x.shape[0] // prompt.shape[0], axis=0)
        whole = jnp.where(mask.any(axis=1)[:, None], last_token(hidden, mask), of_prompt)
        return self.head(hidden), self.head(whole)

    def next_logits(self, tokens: Array, mask: Array, length: int) -> Array:
        hidden = self.trunk(tokens, mask)[:, -length - 1 : -1]
        return self.trunk.embedding.logits(hidden)


NETWORKS: dict[type, Callable[..., nn.Module]] = {
    LinearConfig: _Linear,
    MlpConfig: _Mlp,
    CnnConfig: CnnNetwork,
    TransformerDiscriminatorConfig: _Transformer,
}
