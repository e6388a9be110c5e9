"""The configuration of sources of text: one section per kind of source."""

import dataclasses
import math
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

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
        "what becomes of a longer text: cut (the rest is lost) or split (windows of max_length, every token in one); "
        "none: split, and cut where texts answer prompts, have labels or are drawn from a grammar or an oracle",
    )
    attend_across: bool = key(
        False, "with likelihood.packing: documents of a row see each other, and positions count through the row"
    )
    max_prompt_length: int = key(32, "longest prompt in tokens; of longer ones prompt_keep is kept", ge=1)
    prompt_keep: PromptKeep = key(
        "end", "what is kept of a longer prompt: its end, as of a conversation, or its start, as of an article"
    )


@config_dataclass
class _LabelledData(_CommonData):
    label_prompts: bool = key(
        False, "give each text's label to the generator as its prompt, and hide it from the discriminator"
    )


@config_dataclass
class _HeldOutData(_CommonData):
    valid_fraction: float = key(
        0.05, "held out of train for validation where valid names nothing: of its prompts, where it has any", gt=0, lt=1
    )
    test_fraction: float = key(
        0.05, "the same for tests, where neither valid nor test is named; rows of a prompt stay together", ge=0, lt=1
    )
    seed: int = key(0, "chooses what is held out of train", ge=0, lt=2**31)
    store: str | None = key(
        None,
        "a folder for the tokens of train, made once, for text that is too much for memory; needs likelihood.packing; "
        "none: in memory",
    )
    max_tokens: int | None = key(None, "with store: no document is taken beyond so many tokens; none: all", ge=1)


@config_dataclass
class GrammarData(_LabelledData):
    """English scenes from the built-in grammar: no download, and the probability of every sentence is known."""

    kind: Literal["grammar"] = key("grammar", "the built-in grammar of English scenes")
    train_size: int = key(20000, "sentences to train on", ge=1)
    valid_size: int = key(2000, "sentences for validation", ge=1)
    test_size: int = key(2000, "sentences for tests", ge=1)
    seed: int = key(0, "draws the sentences", ge=0, lt=2**31)
    label: GrammarLabel | None = key(
        None, "label sentences by their tense or by what their subject is; none: no labels"
    )
    labelled: int | None = key(None, "training sentences that keep their label; none: all", ge=1)
    task: GrammarTask | None = key(
        None, "prompts with right answers: condense a sentence, or answer a question about it; none: sentences alone"
    )


@config_dataclass
class _TextKeys:
    kind: Literal["text"] = key("text", "text files")
    document: Document = key(
        "line", "what a document is: a line, a paragraph (blank lines between them) or a file; the last two as they are"
    )
    train: str | tuple[str, ...] | None = key(
        None, "training text: a file, a folder, a glob in quotes, or a list of them; must be given"
    )
    valid: str | tuple[str, ...] | None = key(None, "validation text, as train; none: held out of train")
    test: str | tuple[str, ...] | None = key(None, "test text, as train; none: held out of train unless valid is named")


@config_dataclass
class TextData(_TextKeys, _HeldOutData):
    """UTF-8 text files, also compressed (.gz, .bz2, .xz, .zst)."""


@config_dataclass
class _HfKeys:
    kind: Literal["hf"] = key("hf", "a Hugging Face dataset")
    path: str = key(
        "json", "hub name, local dataset folder, or json | csv | tsv | parquet to read files; their endings say more"
    )
    name: str | None = key(None, "subset of the hub set, where it has several")
    train: str | tuple[str, ...] | None = key(
        None,
        "training split (none: train); with json, csv, tsv, parquet a file, a folder, a glob in quotes, or a list of "
        "them",
    )
    valid: str | tuple[str, ...] | None = key(None, "validation split, or files; none: held out of train")
    test: str | tuple[str, ...] | None = key(
        None, "test split, or files; none: held out of train unless valid is named"
    )
    text_column: str = key(
        "text", "column of the text to learn; of a conversation (a list of messages) the assistant's last turn"
    )
    prompt_column: str | None = key(
        None,
        "column of the prompt that the text answers, a text or a conversation; none: unconditional text, or the turns "
        "before it where text_column is messages or conversations",
    )
    answer_column: str | None = key(
        None,
        "column of the right answer, for evaluation.task, where the text is another, such as a teacher's; none: the "
        "text",
    )
    group_column: str | None = key(
        None, "column of what must not be in two splits, such as a speaker or a source; none: prompts are what mustn't"
    )
    streaming: bool = key(
        False, "read without downloading the whole set; needs max_documents, or data.store, which data.max_tokens ends"
    )
    max_documents: int | None = key(None, "use the first so many rows of each split; none: all", ge=1)

    @property
    def prompts_from(self) -> str | None:
        """The column with the prompts, possibly the text column itself; None for unconditional text."""
        if self.prompt_column is None and self.text_column in CONVERSATION_COLUMNS:
            return self.text_column
        return self.prompt_column


@config_dataclass
class _ChatKeys:
    chat_template: bool = key(True, "write prompts by the tokenizer's chat template, where it has one")
    enable_thinking: bool | None = key(
        None, "the value of enable_thinking for chat templates that have it, such as Qwen3's; none: not given"
    )


@config_dataclass
class HfData(_ChatKeys, _HfKeys, _HeldOutData, _LabelledData):
    """Any Hugging Face dataset: of the hub, of a local folder, or of json, csv, tsv or parquet files."""

    unlabelled: str | tuple[str, ...] | None = key(
        None, "more training text, whose labels are not read: a split, or files"
    )
    label_column: str | None = key(None, "column of the class, strings or whole numbers; -1 or empty: no label")
    classes: tuple[str, ...] = key((), "all labels there are; none named: those of the training rows")

    reward_columns: tuple[str, ...] = key((), "other columns, which the functions of objective.rewards get as they are")

    def columns(self, *, labels: bool = True, answers: bool = True, others: bool = True) -> Columns:
        """The columns to read, with or without those of labels, right answers and reward functions."""
        return Columns(
            self.text_column,
            self.prompts_from,
            self.label_column if labels else None,
            self.answer_column if answers else None,
            self.group_column,
            self.reward_columns if others else (),
        )


@config_dataclass
class OracleData(_CommonData):
    """Token sequences from the literature's LSTM oracle, each `max_length` tokens long."""

    kind: Literal["oracle"] = key("oracle", "the LSTM oracle of SeqGAN: token ids, no words")
    max_length: int = key(20, "tokens in each sequence", ge=1)
    path: str | None = key(None, "an .npz with the oracle's arrays; none: drawn from N(0, 1) by the seed")
    vocab_size: int = key(5000, "token ids, where the oracle is drawn", ge=2)
    hidden: int = key(32, "units of the LSTM, where the oracle is drawn", ge=1)
    seed: int = key(0, "draws the sequences, and the oracle where path names none", ge=0, lt=2**31)
    train_size: int = key(10000, "sequences to train on", ge=1)
    valid_size: int = key(2000, "sequences for validation", ge=1)
    test_size: int = key(2000, "sequences for tests", ge=1)


@config_dataclass
class _SourceKeys:
    source: str | None = key(
        None, "what its figures and its token store are called; none: after the file or the set that it reads"
    )
    weight: float = key(..., "its share of the tokens that are trained on, beside the others' weights", gt=0)


@config_dataclass
class TextSource(_SourceKeys, _TextKeys):
    """Text files as a source of a mixture; lengths, store and held-out shares are keys of the mixture."""


@config_dataclass
class HfSource(_SourceKeys, _HfKeys):
    """A Hugging Face dataset as a source of a mixture, without labels."""


Source = Annotated[TextSource | HfSource, Field(discriminator="kind")]
# Why other kinds of data can't be a source of a mixture.
UNMIXED = {
    "grammar": "its figures need the probability of every text, which a mixture has not; `gptgan data` writes its text "
    "to a file",
    "oracle": "it draws token ids, and no text",
    "mixture": "a mixture is not mixed again, so name its sources here",
}
# The smallest share of a source: less would be lost in rounding.
LEAST_SHARE = 1e-4
# Folders of a mixture's store that belong to no source.
_TAKEN = ("tokenizer",)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@config_dataclass
class MixtureData(_ChatKeys, _HeldOutData):
    """Several sources of text, sampled by their weights in tokens, each with its own validation metric."""

    kind: Literal["mixture"] = key("mixture", "several sources of text")
    sources: tuple[Source, ...] = key(
        (), "the sources, each with kind (text or hf), weight and what it reads: [{kind: text, train: F, weight: 0.7}]"
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
