"""How much a run reads of each source of a mixture, and how often; known before training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptgan_jax.data.config import Packing
from gptgan_jax.data.corpora import Corpus, Part
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.packing import best_fit
from gptgan_jax.data.store import TokenStore
from gptgan_jax.mixtures.splits import parts_of
from gptgan_jax.system.terminal import in_columns

# Up to about this many epochs, repeated text is worth as much as new text (Muennighoff et al. 2023, arXiv:2305.16264).
MOST_EPOCHS = 4


@dataclass(frozen=True)
class Planned:
    """A source of a mixture in likelihood training.

    Attributes:
        name: of the source.
        weight: its share of the sampled tokens.
        documents: the number of training documents.
        tokens: their tokens, at the lengths used in training.
        drawn: the number of its tokens that the phase reads.
        valid, test: held-out texts, or windows of them.
    """

    name: str
    weight: float
    documents: int
    tokens: int
    drawn: float
    valid: int
    test: int

    @property
    def epochs(self) -> float:
        """How often the phase reads the source."""
        return self.drawn / self.tokens


def plan_of(
    parts: Sequence[Part],
    splits: Sequence[TokenisedSplit],
    stores: Sequence[TokenStore],
    rows: int,
    packing: Packing,
) -> tuple[Planned, ...]:
    """How much likelihood training reads of each source.

    Args:
        parts: the sources; one if the data is not a mixture.
        splits: train, valid and test, of all sources.
        stores: their token stores; none if text is in memory, or if they are not built yet: then the number of tokens
            is estimated from the text in memory.
        rows: the number of rows that the phase reads.
        packing: of the rows; "none" if a row is a text.
    """
    train, valid, test = ([split] if split.sources is None else parts_of(split) for split in splits)
    texts = [(len(split), len(split.targets.tokens)) for split in train]
    sizes = [(store.documents, len(store)) for store in stores]
    if not stores:
        sizes = [_size(part.corpus, tokens) for part, (_, tokens) in zip(parts, texts, strict=True)]
    # Rows of unequal length are sampled with shares such that the tokens have the weights.
    a_row = 1 / sum(part.weight / _tokens_a_row(split, packing) for part, split in zip(parts, train, strict=True))
    return tuple(
        Planned(part.name, part.weight, documents, tokens, part.weight * rows * a_row, len(valid[i]), len(test[i]))
        for i, (part, (documents, tokens)) in enumerate(zip(parts, sizes, strict=True))
    )


def _tokens_a_row(split: TokenisedSplit, packing: Packing) -> float:
    """The average number of tokens of the rows of a split, as packed."""
    if packing == "concatenate":
        return split.max_length
    targets = split.targets
    count = len(split) if packing == "none" else len(best_fit(np.diff(targets.offsets), split.max_length)[1])
    return len(targets.tokens) / count


def _size(corpus: Corpus, tokens: int) -> tuple[int, int]:
    """The numbers of training documents and of their tokens, estimated from the documents in memory."""
    documents, streamed = len(corpus.train), corpus.streamed
    if streamed is None:
        return documents, tokens
    each = tokens / documents
    most = streamed.config.max_tokens
    count = math.ceil(most / each) if most is not None else documents
    count = min(count, streamed.expected) if streamed.expected is not None else count
    return count, round(count * each)


def repeated(plan: Sequence[Planned]) -> list[str]:
    """A line for each source that is read more than `MOST_EPOCHS` times."""
    return [
        f"data.sources.{one.name}: likelihood training reads its {one.tokens:,} tokens {one.epochs:.1f} times, "
        f"and text repeated more than about {MOST_EPOCHS} times helps little; lower its weight, or add text to it"
        for one in plan
        if one.epochs > MOST_EPOCHS
    ]


def table(plan: Sequence[Planned]) -> list[str]:
    """The plan as lines of text: one per source, and the total."""
    names = ("documents", "tokens", "valid", "test", "drawn")
    total = [f"{sum(getattr(one, name) for one in plan):,.0f}" for name in names]
    rows = [
        ("source", "weight", "documents", "tokens", "valid", "test", "tokens drawn", "epochs"),
        *(
            (
                one.name,
                f"{one.weight:.4g}",
                f"{one.documents:,}",
                f"{one.tokens:,}",
                f"{one.valid:,}",
                f"{one.test:,}",
                f"{one.drawn:,.0f}",
                f"{one.epochs:.2f}",
            )
            for one in plan
        ),
        *([("all", "1", *total, "")] if len(plan) > 1 else []),
    ]
    return in_columns(rows, to_the_right=range(1, len(rows[0])))
