"""Where text comes from: the built-in grammar, text files, Hugging Face datasets, the LSTM oracle.

`load_corpus` reads or draws what a config names, and holds out validation and test text before anything is fitted.
Documents are held in memory, as strings.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import numpy as np
from pydantic import Field

from gptgan_jax.data.chat_templates import Prompt
from gptgan_jax.data.grammar_labels import LABELLINGS, GrammarLabel, label_ids
from gptgan_jax.data.grammar_tasks import GrammarTask, draw_pairs, task_words
from gptgan_jax.data.oracle import Oracle, init_oracle, load_oracle, sample_oracle
from gptgan_jax.data.pcfg import PCFG
from gptgan_jax.data.readers import Table, open_hf, read_lines, read_table
from gptgan_jax.errors import UserError
from gptgan_jax.schema import config_dataclass, key

SPLITS = ("train", "valid", "test")
PromptKeep = Literal["end", "start"]


@config_dataclass
class _CommonData:
    max_length: int = key(32, "longest text in tokens, its end-of-text token included; the rest is cut off", ge=1)
    max_prompt_length: int = key(32, "longest prompt in tokens; of longer ones prompt_keep is kept", ge=1)
    prompt_keep: PromptKeep = key(
        "end", "what is kept of a longer prompt: its end, as of a conversation, or its start, as of an article"
    )


@config_dataclass
class _LabelledData(_CommonData):
    label_prompts: bool = key(
        False, "give each text's label to the generator as its prompt, and hide it from the judge"
    )


@config_dataclass
class _HeldOutData(_CommonData):
    valid_fraction: float = key(0.05, "held out of train for validation where valid names nothing", gt=0, lt=1)
    test_fraction: float = key(0.05, "held out of train for tests where neither valid nor test is named", ge=0, lt=1)
    seed: int = key(0, "chooses which documents are held out of train", ge=0, lt=2**31)


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
class TextData(_HeldOutData):
    """UTF-8 text files, one document a line."""

    kind: Literal["text"] = key("text", "text files, one document a line")
    train: str | None = key(None, "training text: a UTF-8 file or a glob; must be given")
    valid: str | None = key(None, "validation text: a file or a glob; none: held out of train")
    test: str | None = key(None, "test text: a file or a glob; none: held out of train unless valid is named")


@config_dataclass
class HfData(_HeldOutData, _LabelledData):
    """Any Hugging Face dataset: of the hub, of a local folder, or of json, csv or parquet files."""

    kind: Literal["hf"] = key("hf", "a Hugging Face dataset")
    path: str = key("json", "hub name, local dataset folder, or json | csv | parquet to read files")
    name: str | None = key(None, "subset of the hub set, where it has several")
    train: str | None = key(None, "training split (none: train); with json, csv, parquet a file or a glob")
    valid: str | None = key(None, "validation split, or files; none: held out of train")
    test: str | None = key(None, "test split, or files; none: held out of train unless valid is named")
    unlabelled: str | None = key(None, "more training text, whose labels are not read: a split, or files")
    text_column: str = key("text", "column of the text to learn")
    prompt_column: str | None = key(None, "column of the prompt that the text answers; none: unconditional text")
    answer_column: str | None = key(
        None,
        "column of the right answer, for evaluation.task, where the text is another, such as a teacher's; none: the "
        "text",
    )
    chat_template: bool = key(True, "write prompts by the tokenizer's chat template, where it has one")
    enable_thinking: bool | None = key(
        None, "what a chat template that asks for it is told, such as Qwen3's; none: nothing"
    )
    label_column: str | None = key(None, "column of the class, strings or whole numbers; -1 or empty: no label")
    classes: tuple[str, ...] = key((), "all labels there are; none named: those of the training rows")
    streaming: bool = key(False, "read without downloading the whole set; needs max_documents")
    max_documents: int | None = key(None, "use the first so many rows of each split; none: all", ge=1)


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


DataConfig = Annotated[GrammarData | TextData | HfData | OracleData, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Split:
    """Documents in their order. Text fills `texts`; a source without words fills `tokens` instead.

    Attributes:
        texts: N documents; empty where there are tokens.
        prompts: N prompts, each a text or the turns of a conversation; None for unconditional text.
        labels: int32 [N], index into `Corpus.classes`, -1 for no label; None where there are no classes.
        tokens: int32 [N, T], whole sequences of token ids without any special token; None for text.
        answers: N right answers to the prompts, where the texts are others; None where they are the texts.
    """

    texts: Sequence[str] = ()
    prompts: Sequence[Prompt] | None = None
    labels: np.ndarray | None = None
    tokens: np.ndarray | None = None
    answers: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.texts) if self.tokens is None else len(self.tokens)


@dataclass(frozen=True, eq=False)
class Corpus:
    """All text of a run.

    Attributes:
        train: to learn from.
        valid: to choose by.
        test: to report; None where a config names validation text alone, and `valid` is used for both.
        classes: name of each label; empty where there are none.
        words: every word that the source can utter; None where that is not known.
        source: tells exact log-probabilities; None for text from files.
        notes: one line each on what was skipped, held out or repeated.
    """

    train: Split
    valid: Split
    test: Split | None
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] | None = None
    source: PCFG | Oracle | None = None
    notes: tuple[str, ...] = ()


def load_corpus(config: GrammarData | TextData | HfData | OracleData) -> Corpus:
    """Reads or draws the text that a config names.

    Args:
        config: one of the four kinds of data. Its seed chooses which documents of a file are held out, whatever their
            order: a document's split depends on its content alone, so equal documents share one and text appended
            later moves none.

    Raises:
        UserError: something that is missing, unreadable, empty or not text; it says which file, and row or line.
    """
    match config:
        case GrammarData():
            return _with_label_prompts(config, _load_grammar(config))
        case TextData():
            return _load_text(config)
        case HfData():
            return _with_label_prompts(config, _load_hf(config))
        case OracleData():
            return _load_oracle(config)
    raise TypeError(f"no data config: {config!r}")


def _load_grammar(config: GrammarData) -> Corpus:
    from gptgan_jax.data.grammar import english_scenes

    grammar = english_scenes()
    if config.task is not None:
        return _load_grammar_task(config, config.task)

    def draw(stream: int, size: int) -> Split:
        sentences = grammar.sample(np.random.default_rng([config.seed, stream]), size)
        return Split(sentences, labels=None if config.label is None else label_ids(sentences, config.label))

    train, valid, test = draw(0, config.train_size), draw(1, config.valid_size), draw(2, config.test_size)
    classes: tuple[str, ...] = ()
    if config.label is not None:
        classes = LABELLINGS[config.label].classes
    if config.labelled is not None and train.labels is not None:
        train.labels[config.labelled :] = -1
    return Corpus(train, valid, test, classes, words=grammar.words, source=grammar)


def _with_label_prompts(config: GrammarData | HfData, corpus: Corpus) -> Corpus:
    """The corpus whose texts answer their labels, where that is asked for; those without one answer nothing."""
    if not config.label_prompts:
        return corpus

    def prompted(split: Split | None) -> Split | None:
        if split is None or split.labels is None:
            return split
        return dataclasses.replace(split, prompts=["" if i < 0 else corpus.classes[i] for i in split.labels])

    splits: dict[str, Any] = {name: prompted(getattr(corpus, name)) for name in SPLITS}
    words = None if corpus.words is None else (*corpus.words, *corpus.classes)
    return dataclasses.replace(corpus, **splits, words=words)


def _load_grammar_task(config: GrammarData, task: GrammarTask) -> Corpus:
    """Prompts and answers. An answer's probability is 1 given its prompt, and so there is no source to measure with."""

    def draw(stream: int, size: int) -> Split:
        pairs = draw_pairs(task, np.random.default_rng([config.seed, stream]), size)
        return Split(pairs.answers, pairs.prompts)

    train, valid, test = draw(0, config.train_size), draw(1, config.valid_size), draw(2, config.test_size)
    return Corpus(train, valid, test, words=task_words())


def _load_oracle(config: OracleData) -> Corpus:
    if config.path is None:
        params = init_oracle(config.seed, config.vocab_size, config.hidden)
    else:
        params = load_oracle(config.path)

    def draw(stream: int, size: int) -> Split:
        stream_key = jax.random.fold_in(jax.random.key(config.seed), stream)
        return Split(tokens=np.asarray(sample_oracle(params, stream_key, size, config.max_length)))

    train, valid, test = draw(0, config.train_size), draw(1, config.valid_size), draw(2, config.test_size)
    return Corpus(train, valid, test, source=Oracle(params))


def _load_text(config: TextData) -> Corpus:
    if config.train is None:
        raise UserError("data.train: no training text named; give a UTF-8 file or a glob, one document a line")
    splits = {}
    notes = []
    for which in SPLITS:
        pattern = getattr(config, which)
        if pattern is not None:
            lines, blank = read_lines(f"data.{which}", pattern)
            splits[which] = Split(lines)
            notes += [f"data.{which}: {counted(blank, 'blank line')} skipped"] if blank else []
    return _complete(config, splits, (), notes)


def _load_hf(config: HfData) -> Corpus:
    if config.streaming and config.max_documents is None:
        raise UserError("data.streaming: needs data.max_documents, how many documents to read of the stream")
    if len(set(config.classes)) < len(config.classes):
        raise UserError("data.classes: a name stands there twice; leave one out")
    splits: dict[str, Split] = {}
    notes = []
    classes: tuple[str | int, ...] = config.classes
    whose = "data.classes" if classes else "training labels"
    for which in SPLITS:
        name = getattr(config, which)
        if which != "train" and name is None:
            continue
        where = f"data.{which}: {name or 'train'} of {config.path}"
        dataset = open_hf(where, config.path, config.name, name, which, config.streaming)
        # Training text needs no right answers, unless some of it will be held out.
        answers = None if which == "train" and config.valid and config.test else config.answer_column
        table = read_table(
            where, dataset, config.text_column, config.prompt_column, config.label_column, config.max_documents, answers
        )
        notes += [f"data.{which}: {counted(table.blank, 'row')} without text skipped"] if table.blank else []
        classes = classes or table.classes
        labels = class_ids(where, table, classes, whose)
        splits[which] = Split(table.texts, table.prompts, labels, answers=table.answers)
    corpus = _complete(config, splits, tuple(map(str, classes)), notes)
    return corpus if config.unlabelled is None else _with_unlabelled(config, corpus)


def _with_unlabelled(config: HfData, corpus: Corpus) -> Corpus:
    """With more training text, none of which is held out."""
    where = f"data.unlabelled: {config.unlabelled} of {config.path}"
    dataset = open_hf(where, config.path, config.name, config.unlabelled, "unlabelled", config.streaming)
    table = read_table(where, dataset, config.text_column, config.prompt_column, None, config.max_documents)
    notes = [f"data.unlabelled: {counted(table.blank, 'row')} without text skipped"] if table.blank else []
    more = Split(table.texts, table.prompts, np.full(len(table.texts), -1, np.int32))
    held = {content for split in (corpus.valid, corpus.test) if split is not None for content in _contents(split)}
    repeated = sum(content in held for content in _contents(more))
    if repeated:
        notes.append(f"data.unlabelled: {repeated} of its {len(more)} documents are also held out")
    train = corpus.train
    prompts = None if train.prompts is None else [*train.prompts, *(more.prompts or ())]
    labels = None if train.labels is None or more.labels is None else np.concatenate([train.labels, more.labels])
    train = Split([*train.texts, *more.texts], prompts, labels)
    return dataclasses.replace(corpus, train=train, notes=(*corpus.notes, *notes))


def class_ids(where: str, table: Table, classes: Sequence[str | int], whose: str) -> np.ndarray | None:
    """Labels as int32 [N], -1 for none: their places among the classes.

    Args:
        where: what is read, for messages.
        table: its rows.
        classes: by default those of the training rows (held-out ones among them).
        whose: what the classes are, for messages.

    Raises:
        UserError: no label at all, or one that is none of the classes.
    """
    if table.labels is None:
        return None
    if not classes:
        raise UserError(f"{where}: no row of it has a label; leave data.label_column out")
    ids = {str(value): i for i, value in enumerate(classes)}
    for row, value in zip(table.rows, table.labels, strict=True):
        if value is not None and str(value) not in ids:
            raise UserError(f"{where}, row {row}: label {value!r} is none of the {whose}: {', '.join(ids)}")
    return np.array([-1 if value is None else ids[str(value)] for value in table.labels], np.int32)


def counted(count: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _complete(config: _HeldOutData, splits: dict[str, Split], classes: tuple[str, ...], notes: list[str]) -> Corpus:
    """Holds out the splits that are missing, and counts what the named ones repeat of the training text."""
    known = set(_contents(splits["train"])) if len(splits) > 1 else set()
    for which in SPLITS[1:]:
        repeated = sum(content in known for content in _contents(splits.get(which, Split())))
        if repeated:
            notes.append(f"data.{which}: {repeated} of its {len(splits[which])} documents are also in data.train")
    fractions = {
        "valid": 0.0 if "valid" in splits else config.valid_fraction,
        "test": 0.0 if "valid" in splits or "test" in splits else config.test_fraction,
    }
    if any(fractions.values()):
        parts = _hold_out(splits["train"], fractions, config.seed)
        held = " and ".join(f"{len(part)} for {which}" for which, part in parts.items() if which != "train")
        notes.append(f"held out of the {counted(len(splits['train']), 'document')} of data.train: {held}")
        splits = splits | parts
    if "test" not in splits:
        notes.append("no data.test: the validation text stands in for it")
    return Corpus(splits["train"], splits["valid"], splits.get("test"), classes, notes=tuple(notes))


def _contents(split: Split) -> Iterator[str]:
    prompts = split.prompts if split.prompts is not None else [""] * len(split)
    return (f"{prompt}\0{text}" for prompt, text in zip(prompts, split.texts, strict=True))


def _hold_out(split: Split, fractions: dict[str, float], seed: int) -> dict[str, Split]:
    """Parts a split into train and the others by a hash of each document; a fraction of 0 makes no part."""
    hash_key = (seed % 2**64).to_bytes(8, "little")
    digests = (hashlib.blake2b(c.encode(), digest_size=8, key=hash_key).digest() for c in _contents(split))
    uniform = np.array([int.from_bytes(digest, "little") / 2**64 for digest in digests])
    is_test = uniform < fractions["test"]
    is_valid = ~is_test & (uniform < fractions["test"] + fractions["valid"])
    members = {"train": ~is_test & ~is_valid, "valid": is_valid, "test": is_test}
    parts = {}
    for which, member in members.items():
        if which != "train" and not fractions[which]:
            continue
        if not member.any():
            remedy = f"raise data.{which}_fraction or name data.{which}"
            raise UserError(
                f"data.{which}: holding out by content left it none of the {counted(len(split), 'document')} of"
                f" data.train; {'lower the fractions' if which == 'train' else remedy}"
            )
        parts[which] = _take(split, np.flatnonzero(member))
    return parts


def _take(split: Split, rows: np.ndarray) -> Split:
    return Split(
        texts=[split.texts[i] for i in rows],
        prompts=None if split.prompts is None else [split.prompts[i] for i in rows],
        labels=None if split.labels is None else split.labels[rows],
        answers=None if split.answers is None else [split.answers[i] for i in rows],
    )
