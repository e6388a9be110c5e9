"""Loads text: from the built-in grammar, text files, Hugging Face datasets, or the LSTM oracle.

`load_corpus` reads or generates the text that a config names, and holds out validation and test text before anything is
fitted.
Documents are held in memory, as strings.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gptgan_jax.data.config import SPLITS, GrammarData, HfData, MixtureData, OracleData, TextData, _HeldOutData
from gptgan_jax.data.holding_out import alike_notes, counted, held_out_parts, shared_notes
from gptgan_jax.data.infilling import infilled
from gptgan_jax.data.streams import Streamed, read_stream
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.readers.documents import Columns, Table, read_documents, read_table
from gptgan_jax.readers.files import FILE_FORMATS, named, twice_named
from gptgan_jax.readers.labels import check_classes, class_ids
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.sources.grammar_labels import LABELLINGS, label_ids
from gptgan_jax.sources.grammar_tasks import GrammarTask, draw_pairs, task_words
from gptgan_jax.sources.oracle import Oracle, init_oracle, load_oracle, sample_oracle
from gptgan_jax.sources.pcfg import PCFG
from gptgan_jax.tokenization.chat_templates import Message, Prompt

# Keys of a source, in messages that were written for a single source.
_OF_SOURCES = re.compile(
    r"\bdata\.(train|valid|test|document|path|name|text_column|prompt_column|group_column|streaming|max_documents|answer_column|assistant_turns)\b"
)


@dataclass(frozen=True, eq=False)
class Split:
    """Documents in order. Text is in `texts`; a source without words uses `tokens` instead.

    Attributes:
        texts: N documents; empty if there are tokens.
        prompts: N prompts, each a text or the turns of a conversation; None for unconditional text.
        labels: int32 [N], index into `Corpus.classes`, -1 for no label; None if there are no classes.
        tokens: int32 [N, T], whole sequences of token ids without any special token; None for text.
        answers: N right answers to the prompts, if they differ from the texts; None if they are the texts.
        groups: N names of groups, None for no group; None without a group column.
        columns: N values of each other column, by name.
        conversations: the whole conversation of each text, if several texts may be turns of one; None where it is not.
    """

    texts: Sequence[str] = ()
    prompts: Sequence[Prompt] | None = None
    labels: np.ndarray | None = None
    tokens: np.ndarray | None = None
    answers: Sequence[str] | None = None
    groups: Sequence[str | None] | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    conversations: Sequence[tuple[Message, ...] | None] | None = None

    def __len__(self) -> int:
        return len(self.texts) if self.tokens is None else len(self.tokens)


@dataclass(frozen=True, eq=False)
class Corpus:
    """All text of a run.

    Attributes:
        train: the training text.
        valid: the text to choose by.
        test: the text for the report; None if a config names only validation text, and `valid` is used for both.
        classes: name of each label; empty if there are none.
        words: every word that the source can generate; None if that is not known.
        source: gives exact log-probabilities; None for text from files.
        notes: one line each on what was skipped, held out or repeated.
        streamed: the whole corpus, if the splits hold only a part that fits into memory; None if they hold everything.
        parts: the sources of a mixture, whose texts follow one another in the splits; else none.
    """

    train: Split
    valid: Split
    test: Split | None
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] | None = None
    source: PCFG | Oracle | None = None
    notes: tuple[str, ...] = ()
    streamed: Streamed | None = None
    parts: tuple["Part", ...] = ()


@dataclass(frozen=True, eq=False)
class Part:
    """A source of a mixture.

    Attributes:
        name: of the source.
        weight: its share of the sampled tokens; the weights of all sources sum to 1.
        corpus: its text.
    """

    name: str
    weight: float
    corpus: Corpus


@suggests_names
def load_corpus(
    config: GrammarData | TextData | HfData | OracleData | MixtureData, train_answers: bool = False, kept: bool = True
) -> Corpus:
    """Reads or generates the text that a config names.

    Args:
        config: one of the five kinds of data. Its seed chooses what is held out of a file, regardless of the order. A
            document's split depends only on its prompt (or its group, or without prompts its text), so documents with
            the same prompt share a split, and text appended later moves no document, as long as splits go by the same
            prompts.
        train_answers: whether right answers to the training prompts are needed as well.
        kept: whether results of reading a text for a token store may be saved in its folder, for the next time.

    Raises:
        UserError: something is missing, unreadable, empty or not text; it says which file, and row or line.
    """
    if isinstance(config, TextData | HfData) and config.store is not None:
        return _load_streamed(config, Path(config.store), kept)
    match config:
        case GrammarData():
            return infilled(_with_label_prompts(config, _load_grammar(config)), config.infilling, config.seed)
        case TextData():
            return infilled(_load_text(config), config.infilling, config.seed)
        case HfData():
            corpus = _with_label_prompts(config, _load_hf(config, train_answers))
            return infilled(corpus, config.infilling, config.seed)
        case OracleData():
            return _load_oracle(config)
        case MixtureData():
            return _load_mixture(config, train_answers, kept)
    raise TypeError(f"no data config: {config!r}")


def _load_grammar(config: GrammarData) -> Corpus:
    from gptgan_jax.sources.grammar import english_scenes

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
    """The corpus with labels as prompts, if requested; texts without a label have no prompt."""
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
    """Prompts and answers. Given its prompt, an answer has probability 1, so there is no source to compare with."""

    def draw(stream: int, size: int) -> Split:
        pairs = draw_pairs(task, np.random.default_rng([config.seed, stream]), size)
        return Split(pairs.answers, pairs.prompts)

    train, valid, test = draw(0, config.train_size), draw(1, config.valid_size), draw(2, config.test_size)
    return Corpus(train, valid, test, words=task_words())


def _load_oracle(config: OracleData) -> Corpus:
    given = config.path
    params = init_oracle(config.seed, config.vocab_size, config.hidden) if given is None else load_oracle(given)

    def draw(stream: int, size: int) -> Split:
        stream_key = jax.random.fold_in(jax.random.key(config.seed), stream)
        return Split(tokens=np.asarray(sample_oracle(params, stream_key, size, config.max_length)))

    train, valid, test = draw(0, config.train_size), draw(1, config.valid_size), draw(2, config.test_size)
    return Corpus(train, valid, test, source=Oracle(params))


def _load_mixture(config: MixtureData, train_answers: bool, kept: bool) -> Corpus:
    """The texts of all sources, one source after another; each source holds out its own."""
    parts: list[Part] = []
    notes: list[str] = []
    for name, weight, data in zip(config.names, config.weights, config.parts(), strict=True):
        try:
            corpus = load_corpus(data, train_answers, kept)
        except UserError as error:
            raise UserError(_of_source(name, str(error))) from None
        parts.append(Part(name, weight, corpus))
        notes += [_of_source(name, note) for note in corpus.notes]

    def all_of(which: str) -> Split:
        found = [getattr(part.corpus, which) for part in parts]
        splits = [part.corpus.valid if one is None else one for part, one in zip(parts, found, strict=True)]
        prompts = None if splits[0].prompts is None else [one for split in splits for one in split.prompts or ()]
        answers = None
        if all(split.answers is not None for split in splits):
            answers = [one for split in splits for one in split.answers or ()]
        talks = [split.conversations or [None] * len(split) for split in splits]
        return Split(
            [text for split in splits for text in split.texts],
            prompts,
            answers=answers,
            conversations=[one for some in talks for one in some]
            if any(split.conversations for split in splits)
            else None,
        )

    train, valid = all_of("train"), all_of("valid")
    test = all_of("test") if any(part.corpus.test is not None for part in parts) else None
    for which, held in (("data.valid", valid), ("data.test", test)):
        # Text that one source holds out may be in another's training text.
        if held is not None and config.store is None and len(parts) > 1:
            notes += shared_notes(which, held, train, "the training text of all sources")
    return Corpus(train, valid, test, notes=tuple(notes), parts=tuple(parts))


def _of_source(name: str, line: str) -> str:
    """A message about keys of `data`, reworded for a source of a mixture."""
    return _OF_SOURCES.sub(rf"data.sources.{name}.\1", line)


def _load_text(config: TextData) -> Corpus:
    if config.train is None:
        raise UserError("data.train: no training text named; give a UTF-8 file, a folder or a glob")
    splits = {}
    notes = []
    for which in SPLITS:
        pattern = getattr(config, which)
        if pattern is not None:
            lines, blank = read_documents(f"data.{which}", pattern, config.document)
            splits[which] = Split(lines)
            notes += twice_named(f"data.{which}", pattern)
            notes += [f"data.{which}: {counted(blank, 'blank line')} skipped"] if blank else []
    return _complete(config, splits, (), notes)


def _load_streamed(config: TextData | HfData, folder: Path, kept: bool) -> Corpus:
    """The in-memory part of a text that goes into a token store as a whole."""
    streamed = read_stream(config, folder, kept)
    splits = {"train": Split(streamed.train)}
    reads_files = isinstance(config, TextData) or config.path in FILE_FORMATS
    notes = twice_named("data.train", config.train or ()) if reads_files else []
    notes += [
        f"data.train: {'' if streamed.whole else 'the first '}{counted(streamed.count, 'document')}; "
        f"{len(streamed.train)} of them in memory, for the tokenizer, the discriminator and the search for copies"
    ]
    for which in SPLITS[1:]:
        name = getattr(config, which)
        if name is not None and isinstance(config, TextData):
            splits[which] = Split(read_documents(f"data.{which}", name, config.document)[0])
        elif name is not None and isinstance(config, HfData):
            splits[which] = _split_of(_read_table(config, which, name, Columns(config.text_column))[1], None)
        elif held := getattr(streamed, which):
            splits[which] = Split(held)
            notes.append(f"data.{which}: {counted(len(held), 'document')} held out of data.train")
        if name is not None:
            notes += shared_notes(f"data.{which}", splits[which], splits["train"], "the part of data.train in memory")
    if "test" not in splits:
        notes.append("no data.test: the validation text stands in for it")
    if "valid" not in splits:
        raise UserError("data.valid: nothing is left for it; name it, or raise data.valid_fraction")
    return Corpus(splits["train"], splits["valid"], splits.get("test"), notes=tuple(notes), streamed=streamed)


def _load_hf(config: HfData, train_answers: bool = False) -> Corpus:
    if config.streaming and config.max_documents is None:
        raise UserError("data.streaming: needs data.max_documents, how many documents to read of the stream")
    check_classes(config.classes)
    splits: dict[str, Split] = {}
    notes: list[str] = []
    classes = config.classes
    whose = "data.classes" if classes else "training labels"
    for which in SPLITS:
        name = getattr(config, which)
        if which != "train" and name is None:
            continue
        # Training text needs right answers only if some of it will be held out, as none is where `valid` is named.
        columns = config.columns(answers=which != "train" or not config.valid or train_answers)
        where, table = _read_table(config, which, name, columns)
        notes += _table_notes(which, table)
        notes += twice_named(f"data.{which}", name) if name is not None and config.path in FILE_FORMATS else []
        classes = classes or table.classes
        labels = class_ids(where, table, classes, whose)
        splits[which] = _split_of(table, labels)
    corpus = _complete(config, splits, classes, notes)
    return corpus if config.unlabelled is None else _with_unlabelled(config, corpus)


def _read_table(config: HfData, which: str, name: str | Sequence[str] | None, columns: Columns) -> tuple[str, Table]:
    """The name of the source, for messages, and the rows of a split."""
    of = "" if config.path in FILE_FORMATS else f" of {config.path}"
    where = f"data.{which}: {named(name or 'train')}{of}"
    rows = open_rows(where, config.path, config.name, name, which, config.streaming)
    return where, read_table(rows, columns, config.max_documents)


def _table_notes(which: str, table: Table) -> Iterator[str]:
    """One line each on what was skipped or is missing."""
    if table.blank_lines:
        yield f"data.{which}: {counted(table.blank_lines, 'blank line')} skipped"
    if table.blank:
        what = counted(table.blank, "row" if table.conversations is None else "turn")
        yield f"data.{which}: {what} without text skipped"
    if table.cut:
        cut = counted(table.cut, "conversation")
        yield f"data.{which}: {cut} read without the turns that follow the text, or the user's last"
    if table.unlearned:
        turns = counted(table.unlearned, "turn")
        if table.conversations is None:
            why = "come before the last: they are only read in prompts; data.assistant_turns all learns them too"
        else:
            why = "are not learned: they have weight 0 or follow no user's turn"
        yield f"data.{which}: {turns} of the assistant's {why}"
    yield from alike_notes(f"data.{which}", "label", table.labels or ())
    yield from alike_notes(f"data.{which}", "group", table.groups or ())
    if missing := sum(label is None for label in table.labels or ()):
        yield f"data.{which}: {missing} of its {counted(len(table.texts), 'row')} without a label (empty, null or -1)"
    if missing := sum(group is None for group in table.groups or ()):
        yield f"data.{which}: {missing} of its {counted(len(table.texts), 'row')} without a group (empty or null)"


def _split_of(table: Table, labels: np.ndarray | None) -> Split:
    answers, groups, others = table.answers, table.groups, table.others
    return Split(table.texts, table.prompts, labels, None, answers, groups, others, table.conversations)


def _with_unlabelled(config: HfData, corpus: Corpus) -> Corpus:
    """The corpus with additional, unlabelled training text, none of which is held out."""
    _, table = _read_table(
        config, "unlabelled", config.unlabelled, config.columns(labels=False, answers=False, others=False)
    )
    notes, more = list(_table_notes("unlabelled", table)), _split_of(table, np.full(len(table.texts), -1, np.int32))
    for which in SPLITS[1:]:
        held = getattr(corpus, which)
        if held is not None:
            notes += shared_notes(f"data.{which}", held, more, "data.unlabelled")
    train = corpus.train
    prompts = None if train.prompts is None else [*train.prompts, *(more.prompts or ())]
    labels = None if train.labels is None or more.labels is None else np.concatenate([train.labels, more.labels])
    columns = {name: [*values, *[None] * len(more.texts)] for name, values in train.columns.items()}
    answers = None if train.answers is None else [*train.answers, *more.texts]  # no other right answer is known
    train = Split([*train.texts, *more.texts], prompts, labels, answers=answers, columns=columns)
    return dataclasses.replace(corpus, train=train, notes=(*corpus.notes, *notes))


def _complete(config: _HeldOutData, splits: dict[str, Split], classes: tuple[str, ...], notes: list[str]) -> Corpus:
    """Holds out the missing splits, and counts what the others share with the training text."""
    fractions = {
        "valid": 0.0 if "valid" in splits else config.valid_fraction,
        "test": 0.0 if "valid" in splits or "test" in splits else config.test_fraction,
    }
    named = set(splits)
    if any(fractions.values()):
        parts, held_notes = held_out_parts(splits["train"], fractions, config.seed, _take)
        notes += held_notes
        splits = splits | parts
    for which in SPLITS[1:]:
        # Text held out by group may share prompts with other groups.
        if which in splits and (which in named or splits["train"].groups is not None):
            notes += shared_notes(f"data.{which}", splits[which], splits["train"])
    if "test" not in splits:
        notes.append("no data.test: the validation text stands in for it")
    return Corpus(splits["train"], splits["valid"], splits.get("test"), classes, notes=tuple(notes))


def _take(split: Split, rows: np.ndarray) -> Split:
    def taken(values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else [values[i] for i in rows]

    return Split(
        texts=[split.texts[i] for i in rows],
        prompts=taken(split.prompts),
        labels=None if split.labels is None else split.labels[rows],
        answers=taken(split.answers),
        groups=taken(split.groups),
        columns={name: [values[i] for i in rows] for name, values in split.columns.items()},
        conversations=taken(split.conversations),
    )
