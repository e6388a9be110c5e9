"""Discriminators: networks that score how real a text is, as a tuple of pure functions.

Every kind scores prefixes: entry t of the token scores depends on the prompt and the text up to and including token t,
and the sequence score is the entry at the last token. The same network thus gives dense rewards and scores of whole
texts. Scores are logits: the probability of "real" is their sigmoid. With classes the head has K logits, and the score
is their log-sum-exp.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.layers.dense import DTYPES
from gptgan_jax.layers.initializers import initial_params
from gptgan_jax.layers.lora import NO_ADAPTERS, LoraBeside, LoraConfig, only_learning
from gptgan_jax.layers.spectral_norm import spectrally_normalised
from gptgan_jax.models.discriminator_networks import (
    NETWORKS,
    CnnConfig,
    DiscriminatorConfig,
    TransformerDiscriminatorConfig,
)
from gptgan_jax.models.shared_trunk import NEW, keeps_adapters
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.schema.ranges import WINDOW
from gptgan_jax.types import Array, Batch, Params, Scores, Vocabulary, as_tuple


class ScoreTexts(Protocol):
    """(params, batch, dropout_key) -> Scores of the batch's targets. Dropout is applied if a key is given."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores: ...


class Embed(Protocol):
    """(params, batch, weights) -> float [B, P + T, E], token embeddings of prompt and target, without positions.

    With `weights`, float [B, T, V], entry t of the target is a relaxed token, the average of all tokens' embeddings
    with these weights; one-hot rows give the embeddings of tokens. `batch.target` is then not read.
    """

    def __call__(self, params: Params, batch: Batch, weights: Array | None = None) -> Array: ...


class Judge(Protocol):
    """(params, embeddings, batch, dropout_key) -> Scores of texts embedded by `Embed`.

    Only the masks and shapes of the batch are used. Embeddings outside the masks change no score inside them.
    """

    def __call__(self, params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores: ...


class NextLogits(Protocol):
    """(params, batch, dropout_key) -> float32 [B, T, V], logits of each target token given the text before it."""

    def __call__(self, params: Params, batch: Batch, dropout_key: Array | None = None) -> Array: ...


class Continuations(NamedTuple):
    """Scores many continuations of the same texts, reading what they share only once. Without dropout.

    Attributes:
        read: (params, batch of R texts) -> features kept for each prefix.
        scores: (params, kept, batch of R * M texts, shared) -> Scores of whole texts, with empty `tokens`: M neighbours
            have the prompt and the first `shared` tokens, at least 1, of one of the R texts.
    """

    read: Callable[[Params, Batch], Array]
    scores: Callable[[Params, Array, Batch, int], Scores]


class DiscriminatorProtocol(Protocol):
    """What a discriminator must have, as described in `Discriminator`; your own class need not be that tuple.

    Optional parts of a `Discriminator` (config, next_logits, classes, ...) are used if the object has them.

    Example:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(**discriminator._asdict())  # or a class of one's own
        >>> gan = gg.gan_from(generator, own, **optimizers)
    """

    @property
    def init(self) -> Callable[[Array, Batch], Params]: ...
    @property
    def scores(self) -> ScoreTexts: ...
    @property
    def embed(self) -> Embed: ...
    @property
    def judge(self) -> Judge: ...


@suggests_names
class Discriminator(NamedTuple):
    """A scorer of texts.

    Attributes:
        init: (key, batch) -> params.
        scores: see `ScoreTexts`; rows without any target token get the score of their prompt.
        embed, judge: the two halves of `scores`, for relaxed tokens and for gradients with respect to embeddings; see
            `Embed` and `Judge`.
        config: what it was built from; None for your own, which is then assumed to have no dropout.
        next_logits: its Transformer's prediction of the next token, with its own embeddings; None if it has none. See
            `NextLogits`.
        classes: K, number of classes; 0 if its head gives a single score.
        continuations: a cheaper way to score texts with common beginnings; None if there is none.
        shares_prompts: whether `scores` also takes batches with one prompt per N rows of targets, and reads it once.
        vocabulary: its token ids; None if unknown.
        window: tokens of the windows that it scores separately, with the score at their end; 0: whole texts. See
            `in_windows`.

    Example:
        >>> scores = discriminator.scores(scorer, batch)
        >>> scores.tokens.shape, scores.sequence.shape
        ((2, 3), (2,))
    """

    init: Callable[[Array, Batch], Params]
    scores: ScoreTexts
    embed: Embed
    judge: Judge
    config: DiscriminatorConfig | None = None
    next_logits: NextLogits | None = None
    classes: int = 0
    continuations: Continuations | None = None
    shares_prompts: bool = False
    vocabulary: Vocabulary | None = None
    window: int = 0

    @property
    def drops(self) -> bool:
        """Whether a dropout key changes its scores."""
        return has_dropout(self.config)


@suggests_names
def discriminator_of(player: Discriminator | DiscriminatorProtocol) -> Discriminator:
    """An object's functions as a `Discriminator`; anything else is returned as it is, for `Game.check` to report.

    Example:
        >>> from types import SimpleNamespace
        >>> gg.discriminator_of(SimpleNamespace(**discriminator._asdict())) == discriminator
        True
    """
    return player if isinstance(player, Discriminator) else as_tuple(Discriminator, player)


def has_dropout(config: DiscriminatorConfig | None) -> bool:
    """Whether a discriminator with this configuration has dropout; no for None, that is one without configuration."""
    return getattr(config, "dropout", 0.0) > 0


def representations_of(config: Any) -> int:
    """The number of parts of the embedding that a discriminator with this configuration scores separately."""
    return getattr(config, "representations", 1)


def surprisal_of(config: Any) -> float | None:
    """The cap in nats, if a discriminator with this configuration scores tokens by their surprisal; otherwise None."""
    return getattr(config, "surprisal", None)


@suggests_names
def build_discriminator(
    config: DiscriminatorConfig, vocabulary: Vocabulary, classes: int = 0, generator_lora: LoraConfig = NO_ADAPTERS
) -> Discriminator:
    """The discriminator that a configuration describes.

    If it has adapters and so has the generator (`generator_lora`), its Transformer keeps the generator's adapters apart
    from the weights, so that both share the same weights; `begun_from` sets them.

    With `classes`, its head gives that many logits (GAN-BERT, Croce et al. 2020): the score of a text is their
    log-sum-exp, and `Scores` has the logits too.

    Raises:
        ValueError: only one class, or a special id that is not in the vocabulary.
        TypeError: the configuration is not one of a discriminator.

    Example:
        >>> network = gg.build_discriminator(gg.LinearConfig(embedding=4), vocabulary, classes=3)
        >>> network.scores(network.init(key, batch), batch).classes.shape
        (2, 3)
    """
    vocabulary.check()
    if type(config) not in NETWORKS:
        names = ", ".join(kind.__name__ for kind in NETWORKS)
        raise TypeError(f"config should be one of {names}, not {getattr(config, '__name__', type(config).__name__)}")
    if classes == 1:
        raise ValueError("a discriminator with classes needs at least two of them")
    if classes and representations_of(config) > 1:
        raise ValueError("representations are scored separately, without classes: set only one of the two")
    network = config
    if isinstance(config, TransformerDiscriminatorConfig) and keeps_adapters(config, generator_lora):
        network = replace(config, lora=LoraBeside(**vars(config.lora), given=generator_lora))
    module = NETWORKS[type(config)](network, vocabulary.size, classes)
    surprisal = surprisal_of(config)
    if surprisal is not None and classes:
        raise ValueError("a discriminator of surprisal has no head for classes: set one of the two alone")

    def learning(params: Params) -> Params:
        return only_learning(params, config.lora, NEW) if isinstance(config, TransformerDiscriminatorConfig) else params

    def variables_of(params: Params) -> dict[str, Params]:
        return {"params": learning(spectrally_normalised(params) if config.spectral_norm else params)}

    def mask_of(batch: Batch) -> Array:
        return jnp.concatenate([batch.prompt_mask, batch.target_mask], axis=1)

    def init(key: Array, batch: Batch) -> Params:
        tokens = jnp.concatenate([batch.prompt, batch.target], axis=1)
        return initial_params(module, key, tokens, mask_of(batch))

    def embed(params: Params, batch: Batch, weights: Array | None = None) -> Array:
        arguments = (batch.prompt, batch.target, weights)
        embeddings: Any = module.apply({"params": learning(params)}, *arguments, method="embed")
        return embeddings

    def judge(params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores:
        if surprisal is not None:
            raise ValueError("a discriminator of surprisal scores tokens, and embeddings don't tell which they are")
        mask = mask_of(batch)
        if embeddings.shape[:2] != mask.shape:
            raise ValueError(f"embeddings of shape {embeddings.shape} do not fit a batch of {mask.shape} tokens")
        check_length(batch)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        x = embeddings.astype(DTYPES[config.dtype])
        prefixes: Any
        whole: Any
        prefixes, whole = module.apply(variables_of(params), x, mask, rngs=rngs, method="judge")
        tokens = prefixes.scores[:, batch.prompt.shape[1] :]
        return Scores(tokens, whole.scores, whole.classes, whole.features, whole.parts)

    def surprisals(params: Params, batch: Batch, dropout_key: Array | None) -> Scores:
        """-log p of each token, and for whole texts the mean over their tokens."""
        assert surprisal is not None
        nats = -token_log_probs(next_logits(params, batch, dropout_key), batch.target)
        tokens, mask = jnp.minimum(nats, surprisal), batch.target_mask
        return Scores(tokens, jnp.where(mask, tokens, 0.0).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1))

    def scores(params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores:
        if surprisal is not None:
            return surprisals(params, batch, dropout_key)
        if batch.prompt.shape[0] != batch.target.shape[0]:
            return scores_of_prompts(params, batch, dropout_key)
        return judge(params, embed(params, batch), batch, dropout_key)

    def scores_of_prompts(params: Params, batch: Batch, dropout_key: Array | None) -> Scores:
        check_length(batch)

        def embedded(tokens: Array) -> Array:
            arguments = tokens, tokens[:, :0], None
            x: Any = module.apply({"params": learning(params)}, *arguments, method="embed")
            return x.astype(DTYPES[config.dtype])

        arguments = embedded(batch.prompt), batch.prompt_mask, embedded(batch.target), batch.target_mask
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        prefixes: Any
        whole: Any
        prefixes, whole = module.apply(variables_of(params), *arguments, rngs=rngs, method="scores_of_prompts")
        return Scores(prefixes.scores, whole.scores, whole.classes, whole.features)

    def check_length(batch: Batch) -> None:
        length = batch.prompt.shape[1] + batch.target.shape[1]
        if isinstance(config, TransformerDiscriminatorConfig) and length > config.max_positions:
            raise ValueError(f"prompt and text of {length} tokens need max_positions >= {length}")

    def next_logits(params: Params, batch: Batch, dropout_key: Array | None = None) -> Array:
        check_length(batch)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        tokens, length = jnp.concatenate([batch.prompt, batch.target], axis=1), batch.target.shape[1]
        arguments = tokens, mask_of(batch), length
        logits: Any = module.apply(variables_of(params), *arguments, rngs=rngs, method="next_logits")
        return logits

    def read(params: Params, batch: Batch) -> Array:
        x = embed(params, batch).astype(DTYPES[config.dtype])
        features: Any
        features, _ = module.apply(variables_of(params), x, mask_of(batch), method="pooled")
        return features[:, batch.prompt.shape[1] :]

    def ends(params: Params, kept: Array, batch: Batch, shared: int) -> Scores:
        x = embed(params, batch).astype(DTYPES[config.dtype])
        arguments = kept[:, shared - 1], x, mask_of(batch), batch.prompt.shape[1] + shared
        whole: Any = module.apply(variables_of(params), *arguments, method="judge_ends")
        return Scores(jnp.zeros((x.shape[0], 0)), whole.scores, whole.classes, whole.features)

    return Discriminator(
        init,
        scores,
        embed,
        judge,
        config,
        next_logits if isinstance(config, TransformerDiscriminatorConfig) else None,
        classes,
        Continuations(read, ends) if isinstance(config, CnnConfig) and config.representations == 1 else None,
        shares_prompts=isinstance(config, TransformerDiscriminatorConfig)
        and config.reach is None
        and surprisal is None,
        vocabulary=vocabulary,
    )


def without_prompts(discriminator: Discriminator, vocabulary: Vocabulary) -> Discriminator:
    """The discriminator with every prompt replaced by BOS, so that it does not see what a text answers.

    Used if the prompt names the text's class, which the discriminator should not simply read off. Shapes stay the same:
    everything before BOS is masked.
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

    predicts, continues = discriminator.next_logits is not None, discriminator.continuations
    return discriminator._replace(
        scores=scores,
        embed=embed,
        judge=judge,
        next_logits=next_logits if predicts else None,
        continuations=continues
        and Continuations(
            lambda params, batch: continues.read(params, hidden(batch)),
            lambda params, kept, batch, shared: continues.scores(params, kept, hidden(batch), shared),
        ),
    )


@suggests_names
def in_windows(discriminator: Discriminator, window: int) -> Discriminator:
    """The discriminator on windows of a text, each scored separately after the text's prompt.

    Each part of a long text is thus rewarded for its own content (GAR scores slices of about 320 tokens: Liu et al.
    2025, arXiv:2512.16917). The score of a whole text is the mean of its windows' last scores. Next tokens are
    predicted within windows too.

    Args:
        discriminator: for texts as long as the prompt and one window.
        window: tokens, at least 1; the last one of a text may be shorter.

    Example:
        >>> judge = gg.in_windows(discriminator, window=2)
        >>> judge.scores(scorer, batch).tokens.shape, judge.window
        ((2, 3), 2)
    """
    WINDOW.check("window", window, static=True)

    def parts_of(x: Array) -> Array:
        """[B, T, ...] -> [B * windows, window, ...], the windows of a text as neighbours."""
        room = -x.shape[1] % window
        return jnp.pad(x, ((0, 0), (0, room), *((0, 0),) * (x.ndim - 2))).reshape(-1, window, *x.shape[2:])

    def parted(batch: Batch) -> Batch:
        count = -(-batch.target.shape[1] // window)
        each = {name: jnp.repeat(getattr(batch, name), count, axis=0) for name in ("prompt", "prompt_mask", "label")}
        return batch.replace(target=parts_of(batch.target), target_mask=parts_of(batch.target_mask), **each)

    def joined(found: Scores, batch: Batch) -> Scores:
        rows, length = batch.target.shape
        any_token = parts_of(batch.target_mask).any(axis=1).reshape(rows, -1)
        of_windows = found.sequence.reshape(rows, -1)
        # The first window of a text without tokens has the score of the prompt.
        weights = any_token.at[:, 0].set(True).astype(of_windows.dtype)
        whole = (of_windows * weights).sum(axis=1) / weights.sum(axis=1)
        return Scores(found.tokens.reshape(rows, -1)[:, :length], whole)

    def scores(params: Params, batch: Batch, dropout_key: Array | None = None) -> Scores:
        return joined(discriminator.scores(params, parted(batch), dropout_key), batch)

    def judge(params: Params, embeddings: Array, batch: Batch, dropout_key: Array | None = None) -> Scores:
        start = batch.prompt.shape[1]
        prompts = jnp.repeat(embeddings[:, :start], -(-batch.target.shape[1] // window), axis=0)
        parts = jnp.concatenate([prompts, parts_of(embeddings[:, start:])], axis=1)
        return joined(discriminator.judge(params, parts, parted(batch), dropout_key), batch)

    def next_logits(params: Params, batch: Batch, dropout_key: Array | None = None) -> Array:
        assert discriminator.next_logits is not None
        logits = discriminator.next_logits(params, parted(batch), dropout_key)
        return logits.reshape(batch.target.shape[0], -1, logits.shape[-1])[:, : batch.target.shape[1]]

    predicts = None if discriminator.next_logits is None else next_logits
    windowed = discriminator._replace(scores=scores, judge=judge, next_logits=predicts, window=window)
    return windowed._replace(continuations=None, shares_prompts=False)
