"""From text to batches: sources of text, tokenisers, and the rows of each batch.

    corpus = gg.data.load_corpus(gg.data.TextData(train="captions.txt"))
    tokenizer = gg.data.fit_tokenizer(gg.data.BpeTokenizer(vocab_size=2000), corpus)
    train = gg.data.encode_split(corpus.train, tokenizer, max_length=32)
    batch = gg.data.batch_at(train, seed=0, position=0, batch_size=64)

To use your own strings, make a `Split(texts)`, and a `Corpus` of three of them. A batch is a pure function of a seed
and a position, so these two are all that a loop needs to resume.

Example:
    >>> two = gg.data.Split(["the dog runs", "the cat sleeps"])
    >>> tokenizer = gg.data.fit_tokenizer(gg.data.WordTokenizer(), gg.data.Corpus(train=two, valid=two, test=None))
    >>> train = gg.data.encode_split(two, tokenizer, max_length=5)
    >>> gg.data.batch_at(train, seed=0, position=0, batch_size=2).target_mask.sum(axis=1)  # words and EOS
    array([4, 4])
"""

from gptgan_jax.data.batches import batch_at, bucketed_batch_at, evaluation_batches, labelled_batch_at, prefetch
from gptgan_jax.data.config import GrammarData, HfData, HfSource, MixtureData, OracleData, TextData, TextSource
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, encode_split, unconditional_split
from gptgan_jax.data.infilling import InfillingConfig, blanked, fill
from gptgan_jax.data.packing import PackedSplit, packed_batch_at, packed_split
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
    BpeTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    IdsTokenizer,
    WordTokenizer,
    fit_tokenizer,
    load_tokenizer,
    read_tokenizer,
)
from gptgan_jax.tokenization.tokenizer import IdTokenizer, Tokenizer

__all__ = [
    "AnyTokenizer",
    "BpeTokenizer",
    "CharacterTokenizer",
    "Corpus",
    "FileTokenizer",
    "GrammarData",
    "HfData",
    "HfSource",
    "IdTokenizer",
    "IdsTokenizer",
    "InfillingConfig",
    "MixtureData",
    "OracleData",
    "PackedSplit",
    "Ragged",
    "Split",
    "TextData",
    "TextSource",
    "TokenisedSplit",
    "Tokenizer",
    "WordTokenizer",
    "batch_at",
    "blanked",
    "bucketed_batch_at",
    "encode_split",
    "evaluation_batches",
    "fill",
    "fit_tokenizer",
    "labelled_batch_at",
    "load_corpus",
    "load_tokenizer",
    "packed_batch_at",
    "packed_split",
    "prefetch",
    "read_tokenizer",
    "unconditional_split",
]


def __dir__() -> list[str]:
    return __all__
