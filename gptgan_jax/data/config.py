"""The configuration of sources of text: one section per kind of source."""

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gptgan_jax.data.infilling import InfillingConfig
from gptgan_jax.readers.documents import Columns, Document
from gptgan_jax.readers.files import FILE_FORMATS
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.sources.grammar_labels import GrammarLabel
from gptgan_jax.sources.grammar_tasks import GrammarTask

SPLITS = ("train", "valid", "test")


# Names of columns with whole conversations; such a column needs no prompt column.
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")


# Extensions to remove from a file's name if a source is named after it.
_ENDINGS = (".txt", ".text", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".bz2", ".xz", ".zst")


PromptKeep = Literal["end", "start"]
LongDocuments = Literal["cut", "split"]
Packing = Literal["none", "concatenate", "best_fit"]


@config_dataclass
class _CommonData:
    max_length: int = key(32, "longest text in tokens, its end-of-text token included", ge=1)
    long_documents: LongDocuments | None = key(
        None,
        "what to do with longer texts: cut them (the rest is lost) or split them (into windows of max_length, every "
        "token in one); null: split, but cut texts that answer prompts, have labels or are sampled (grammar, oracle)",
    )
    attend_across: bool = key(
        False, "with likelihood.packing: documents in a row attend to each other, with positions counted over the row"
    )
    max_prompt_length: int = key(32, "longest prompt in tokens; prompt_keep says how longer ones are cut", ge=1)
    prompt_keep: PromptKeep = key(
        "end", "the part of a longer prompt that is kept: the end (for conversations) or the start (for articles)"
    )


@config_dataclass
class _LabelledData(_CommonData):
    label_prompts: bool = key(
        False, "give each text's label to the generator as its prompt, hidden from the discriminator"
    )


@config_dataclass
class _InfilledData(_CommonData):
    infilling: InfillingConfig = key(
        InfillingConfig, "fill in blanks: prompts are the texts with blanks, answers what is missing there"
    )


@config_dataclass
class _HeldOutData(_CommonData):
    valid_fraction: float = key(
        0.05,
        "share of train to hold out for validation if valid is not given; with prompts, the share of the prompts",
        gt=0,
        lt=1,
    )
    test_fraction: float = key(
        0.05,
        "the same for testing, if neither valid nor test is given; rows with the same prompt stay together",
        ge=0,
        lt=1,
    )
    seed: int = key(0, "seed of the choice of what is held out of train", ge=0, lt=2**31)
    store: str | None = key(
        None,
        "folder for the tokens of train, made once, for text that does not fit into memory; needs likelihood.packing; "
        "null: in memory",
        min_length=1,
    )
    max_tokens: int | None = key(None, "with store: no document begins after this many tokens; null: no limit", ge=1)


@config_dataclass
class _ChatKeys:
    chat_template: bool = key(True, "format prompts with the tokenizer's chat template, if it has one")
    enable_thinking: bool | None = key(
        None, "value of enable_thinking for chat templates that take it, such as Qwen3's; null: not passed"
    )


@config_dataclass
class GrammarData(_ChatKeys, _LabelledData, _InfilledData):
    """Sentences from the built-in grammar of English scenes: no download, and every sentence's probability is known."""

    kind: Literal["grammar"] = key("grammar", "the built-in grammar of English scenes")
    train_size: int = key(20000, "sentences to train on", ge=1)
    valid_size: int = key(2000, "sentences for validation", ge=1)
    test_size: int = key(2000, "sentences for testing", ge=1)
    seed: int = key(0, "seed of the sentences", ge=0, lt=2**31)
    label: GrammarLabel | None = key(
        None, "label sentences by their tense or by the kind of their subject; null: no labels"
    )
    labelled: int | None = key(None, "number of training sentences that keep their label; null: all", ge=1)
    task: GrammarTask | None = key(
        None, "prompts with right answers: condense a sentence, or answer a question about it; null: sentences only"
    )


@config_dataclass
class _TextKeys:
    kind: Literal["text"] = key("text", "text files")
    document: Document = key(
        "line",
        "what a document is: a line (stripped), a paragraph (separated by blank lines) or a file; the last two keep "
        "their white space",
    )
    train: str | tuple[str, ...] | None = key(
        None, "training text: a file, a folder, a glob in quotes, or a list of them; required", min_length=1
    )
    valid: str | tuple[str, ...] | None = key(None, "validation text, as train; null: held out of train", min_length=1)
    test: str | tuple[str, ...] | None = key(
        None, "test text, as train; null: held out of train unless valid is given", min_length=1
    )


@config_dataclass
class TextData(_ChatKeys, _TextKeys, _HeldOutData, _InfilledData):
    """UTF-8 text files, optionally compressed (.gz, .bz2, .xz, .zst)."""


@config_dataclass
class _HfKeys:
    kind: Literal["hf"] = key("hf", "a Hugging Face dataset")
    path: str = key(
        "json",
        "name on the hub, local dataset folder, or json | csv | tsv | parquet to read files; file endings take "
        "precedence",
        min_length=1,
    )
    name: str | None = key(None, "subset of the hub dataset, if it has several")
    train: str | tuple[str, ...] | None = key(
        None,
        "training split (null: train); with json, csv, tsv or parquet a file, a folder, a glob in quotes, or a list of "
        "them",
        min_length=1,
    )
    valid: str | tuple[str, ...] | None = key(None, "validation split, or files; null: held out of train", min_length=1)
    test: str | tuple[str, ...] | None = key(
        None, "test split, or files; null: held out of train unless valid is given", min_length=1
    )
    text_column: str = key(
        "text", "column of the text to learn, or of a conversation (a list of messages); see assistant_turns"
    )
    prompt_column: str | None = key(
        None,
        "column of the prompt, a text or a conversation; null: no prompts, or, if text_column is messages, "
        "conversations or conversation, the turns before the last",
    )
    answer_column: str | None = key(
        None,
        "column of the right answer, for evaluation.task, if it differs from the text (such as a teacher's); null: the "
        "text",
    )
    group_column: str | None = key(
        None,
        "column of groups that must not be in two splits, such as a speaker or a source; null: prompts are the groups",
    )
    assistant_turns: Literal["last", "all"] = key(
        "last",
        "the assistant's turns to learn in a conversation: the last, or all, each as an answer to the turns before it",
    )
    streaming: bool = key(
        False,
        "read without downloading the whole dataset; needs max_documents, or data.store (limit: data.max_tokens)",
    )
    max_documents: int | None = key(None, "use only this many rows of each split, from the first on; null: all", ge=1)

    @property
    def every_turn(self) -> bool:
        """Whether every assistant's turn of a conversation is a text."""
        return self.assistant_turns == "all"

    @property
    def prompts_from(self) -> str | None:
        """The column with the prompts, possibly the text column itself; None for unconditional text."""
        if self.prompt_column is None and self.text_column in CONVERSATION_COLUMNS:
            return self.text_column
        return self.prompt_column


@config_dataclass
class HfData(_ChatKeys, _HfKeys, _HeldOutData, _LabelledData, _InfilledData):
    """Any Hugging Face dataset: from the hub, a local folder, or json, csv, tsv or parquet files."""

    unlabelled: str | tuple[str, ...] | None = key(
        None, "additional training text whose labels are not read: a split, or files", min_length=1
    )
    label_column: str | None = key(None, "column of the class, strings or whole numbers; -1 or empty: no label")
    classes: tuple[str, ...] = key((), "all possible labels; []: those of the training rows")

    reward_columns: tuple[str, ...] = key((), "other columns, passed unchanged to the functions of objective.rewards")

    def columns(self, *, labels: bool = True, answers: bool = True, others: bool = True) -> Columns:
        """The columns to read, with or without labels, right answers and the columns of reward functions."""
        return Columns(
            self.text_column,
            self.prompts_from,
            self.label_column if labels else None,
            self.answer_column if answers else None,
            self.group_column,
            self.reward_columns if others else (),
            self.every_turn,
        )


@config_dataclass
class OracleData(_CommonData):
    """Token sequences from the literature's LSTM oracle, each `max_length` tokens long."""

    kind: Literal["oracle"] = key("oracle", "the LSTM oracle of SeqGAN: token ids, no words")
    max_length: int = key(20, "tokens in each sequence", ge=1)
    path: str | None = key(
        None, "an .npz file with the oracle's arrays; null: drawn from N(0, 1) with the seed", min_length=1
    )
    vocab_size: int = key(5000, "number of token ids, if the oracle is drawn", ge=2)
    hidden: int = key(32, "units of the LSTM, if the oracle is drawn", ge=1)
    seed: int = key(0, "seed of the sequences, and of the oracle if path is not given", ge=0, lt=2**31)
    train_size: int = key(10000, "sequences to train on", ge=1)
    valid_size: int = key(2000, "sequences for validation", ge=1)
    test_size: int = key(2000, "sequences for testing", ge=1)


@config_dataclass
class _SourceKeys:
    source: str | None = key(
        None, "name of the source in metrics and in the token store; null: named after its file or dataset"
    )
    weight: float = key(..., "share of the training tokens, relative to the other sources' weights", gt=0)


@config_dataclass
class TextSource(_SourceKeys, _TextKeys):
    """Text files as a source of a mixture; lengths, store and held-out shares are set in the mixture."""


@config_dataclass
class HfSource(_SourceKeys, _HfKeys):
    """A Hugging Face dataset as a source of a mixture, without labels."""


Source = Annotated[TextSource | HfSource, Field(discriminator="kind")]
# Why other kinds of data can't be a source of a mixture.
UNMIXED = {
    "grammar": "its metrics need the probability of every text, which a mixture does not have; `gptgan data` writes "
    "its text to a file",
    "oracle": "it generates token ids, not text",
    "mixture": "mixtures can't be nested, so name its sources here",
}
# The smallest share of a source: less would be lost in rounding.
LEAST_SHARE = 1e-4
# Folders of a mixture's store that belong to no source.
_TAKEN = ("tokenizer",)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@config_dataclass
class MixtureData(_ChatKeys, _HeldOutData):
    """Several sources of text, weighted by tokens, each with its own validation metric."""

    kind: Literal["mixture"] = key("mixture", "several sources of text")
    sources: tuple[Source, ...] = key(
        (),
        "the sources, each with kind (text or hf), weight and the keys of its kind: [{kind: text, train: F, "
        "weight: 0.7}]",
    )

    @model_validator(mode="after")
    def _check(self) -> "MixtureData":
        for name, count in Counter(self.names).items():
            if not _PLAIN_NAME.fullmatch(name) or name in _TAKEN or name.isdigit():
                raise ValueError(
                    f"sources: {name!r} can't be the name of one, as its figures and its token store are called so; "
                    "set its key source to letters, digits, '.', '_' or '-', with a letter"
                )
            if count > 1:
                raise ValueError(f"sources: {count} are called {name!r}; give each another name by its key source")
        for name, weight in zip(self.names, self.weights, strict=True):
            if weight < LEAST_SHARE:
                raise ValueError(
                    f"sources: the weight of {name} is {weight:.2g} of all weights together; make it {LEAST_SHARE:g} "
                    "or more, or leave the source out"
                )
        for what, column, having in (
            ("prompts", "a prompt_column", [_prompts_of(one) for one in self.sources]),
            ("right answers", "an answer_column", [_answers_of(one) is not None for one in self.sources]),
        ):
            if any(having) and not all(having):
                with_it = [name for name, has in zip(self.names, having, strict=True) if has]
                others = [name for name in self.names if name not in with_it]
                raise ValueError(
                    f"sources: {', '.join(with_it)} has {what} and {', '.join(others)} has none; give every source "
                    f"{column}, or none"
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each source."""
        return tuple(one.source or _own_name(one) for one in self.sources)

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of each source in all tokens; they sum to 1."""
        total = sum(one.weight for one in self.sources)
        return tuple(one.weight / total for one in self.sources)

    @property
    def conditional(self) -> bool:
        """Whether its texts have prompts."""
        return any(map(_prompts_of, self.sources))

    @property
    def answer_column(self) -> str | None:
        """The column with the right answers of the first source; all sources have one, or none has."""
        return next(map(_answers_of, self.sources), None)

    def parts(self) -> tuple[TextData | HfData, ...]:
        """Each source as separate data, with the mixture's keys and its share of `max_tokens`."""
        found: list[TextData | HfData] = []
        for one, name, weight in zip(self.sources, self.names, self.weights, strict=True):
            own = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
            del own["source"], own["weight"]
            shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(_HeldOutData)}
            if self.store is not None:
                shared["store"] = f"{self.store}/{name}"
            if self.max_tokens is not None:
                shared["max_tokens"] = math.ceil(self.max_tokens * weight)
            found.append(TextData(**own, **shared) if isinstance(one, TextSource) else HfData(**own, **shared))
        return tuple(found)


def _prompts_of(source: TextSource | HfSource) -> bool:
    return isinstance(source, HfSource) and source.prompts_from is not None


def _answers_of(source: TextSource | HfSource) -> str | None:
    return source.answer_column if isinstance(source, HfSource) else None


def _own_name(source: TextSource | HfSource) -> str:
    """A name from the path: corpus/books/*.txt is books, news.jsonl.zst is news, allenai/c4 with name en is c4-en."""
    reads = source.train if isinstance(source.train, str) else (source.train or ("",))[0]
    if isinstance(source, HfSource) and source.path not in FILE_FORMATS:
        reads = source.path if source.name is None else f"{source.path}-{source.name}"
    plain = [part for part in reads.split("/") if part and not set(part) & set("*?[")]
    last = plain[-1] if plain else ""
    while "." in last and Path(last).suffix.lower() in _ENDINGS:
        last = Path(last).stem
    return last


DataConfig = Annotated[GrammarData | TextData | HfData | OracleData | MixtureData, Field(discriminator="kind")]
