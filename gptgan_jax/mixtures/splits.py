"""The encoded splits of several sources as one split, and its documents in the order of the mixture."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gptgan_jax.data.encoding import Ragged, Sources, TokenisedSplit
from gptgan_jax.mixtures.order import even_order


def joined(splits: Sequence[TokenisedSplit], names: Sequence[str], weights: Sequence[float]) -> TokenisedSplit:
    """One split of several sources, their documents one source after another.

    Args:
        splits: of each source, all encoded alike.
        names: of the sources.
        weights: their shares of the sampled tokens.

    Returns:
        the split, whose `sources` has the source of each document; the share of a source in sampled texts is its weight
        over its tokens per text here.
    """
    first = splits[0]
    per_text = np.array(weights) / [len(one.targets.tokens) / len(one) for one in splits]
    sources = Sources(
        np.repeat(np.arange(len(splits), dtype=np.int32), [len(one) for one in splits]),
        tuple(names),
        tuple(weights),
        tuple((per_text / per_text.sum()).tolist()),
    )
    before = None
    if any(one.before is not None for one in splits):
        before = np.concatenate(
            [np.full(len(one), -1, np.int32) if one.before is None else one.before for one in splits]
        )
    # A template applies to all prompts, or to none.
    asked = None if any(one.asked is None for one in splits) else _in_turn([one.asked for one in splits])
    answers = None if any(one.answers is None for one in splits) else _in_turn([one.answers for one in splits])
    return dataclasses.replace(
        first,
        targets=_concatenated([one.targets for one in splits]),
        prompts=None if first.prompts is None else _concatenated([one.prompts for one in splits if one.prompts]),
        before=before,
        asked=asked,
        answers=answers,
        sources=sources,
        cut_share=_cut_share(splits),
        truncated_targets=sum(one.truncated_targets for one in splits),
        truncated_prompts=sum(one.truncated_prompts for one in splits),
        unknown_tokens=sum(one.unknown_tokens for one in splits),
        empty_documents=sum(one.empty_documents for one in splits),
        split_documents=sum(one.split_documents for one in splits),
    )


def _cut_share(splits: Sequence[TokenisedSplit]) -> float:
    """The share of all splits' target tokens that was cut off."""
    whole = [len(one.targets.tokens) / (1 - one.cut_share) for one in splits]
    return sum(count * one.cut_share for count, one in zip(whole, splits, strict=True)) / max(sum(whole), 1)


def mixed(split: TokenisedSplit, shares: Sequence[float]) -> TokenisedSplit:
    """The documents of a joined split in the order of the mixture: any beginning has each source's share of texts.

    Args:
        split: with `sources`.
        shares: of the texts, such as those of the training split, whose tokens per text determine them for all splits.
    """
    assert split.sources is not None
    ordered = split.subset(mixed_order(split.sources.of, shares))
    assert ordered.sources is not None
    return dataclasses.replace(ordered, sources=dataclasses.replace(ordered.sources, shares=tuple(shares)))


def mixed_order(of: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The order of documents in a mixture with these shares of texts: int [N], their sources -> int64 [N]."""
    members = [np.flatnonzero(of == source) for source in range(len(shares))]
    order = even_order([len(one) for one in members], shares)
    documents = np.empty(len(order), np.int64)
    for source, one in enumerate(members):
        documents[order == source] = one
    return documents


def in_proportion(split: TokenisedSplit) -> TokenisedSplit:
    """The beginning of a mixed split until one of its sources runs out: a sample of the mixture.

    A split with one source or none is returned unchanged.
    """
    sources = split.sources
    if sources is None:
        return split
    counts = np.bincount(sources.of, minlength=len(sources.names))
    return split.subset(np.arange(min(len(split), max(1, int((counts / sources.shares).min())))))


def of_each(split: TokenisedSplit, count: int) -> TokenisedSplit:
    """At most `count` documents: the first ones of each source, equally many of each as far as it has them."""
    sources = split.sources
    assert sources is not None
    rank = np.empty(len(split), np.int64)
    for source in range(len(sources.names)):
        members = sources.of == source
        rank[members] = np.arange(members.sum())
    return split.subset(np.sort(np.lexsort((sources.of, rank))[:count]))


def parts_of(split: TokenisedSplit) -> list[TokenisedSplit]:
    """The documents of each source, in their order."""
    assert split.sources is not None
    return [split.subset(np.flatnonzero(split.sources.of == i)) for i in range(len(split.sources.names))]


def _concatenated(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(one.offsets) for one in parts])
    return Ragged(np.concatenate([one.tokens for one in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def _in_turn(parts: Sequence[Sequence[str] | None]) -> tuple[str, ...]:
    return tuple(text for part in parts for text in part or ())
