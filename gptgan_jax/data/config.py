"""Where text comes from, as configuration: a section a kind of source."""

from typing import Annotated, Literal

from pydantic import Field

from gptgan_jax.readers.documents import Columns, Document
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.sources.grammar_labels import GrammarLabel
from gptgan_jax.sources.grammar_tasks import GrammarTask

SPLITS = ("train", "valid", "test")


# Names that columns of whole conversations have; the prompts of such a column need not be asked for.
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")


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
        "a folder for the tokens of train, made once, for text that is too much for memory; needs likelihood.packing "
        "concatenate; none: in memory",
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
class TextData(_HeldOutData):
    """UTF-8 text files, also compressed (.gz, .bz2, .xz, .zst)."""

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
class HfData(_HeldOutData, _LabelledData):
    """Any Hugging Face dataset: of the hub, of a local folder, or of json, csv, tsv or parquet files."""

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
    unlabelled: str | tuple[str, ...] | None = key(
        None, "more training text, whose labels are not read: a split, or files"
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
    chat_template: bool = key(True, "write prompts by the tokenizer's chat template, where it has one")
    enable_thinking: bool | None = key(
        None, "the value of enable_thinking for chat templates that have it, such as Qwen3's; none: not given"
    )
    label_column: str | None = key(None, "column of the class, strings or whole numbers; -1 or empty: no label")
    classes: tuple[str, ...] = key((), "all labels there are; none named: those of the training rows")
    group_column: str | None = key(
        None, "column of what must not be in two splits, such as a speaker or a source; none: prompts are what mustn't"
    )
    reward_columns: tuple[str, ...] = key((), "other columns, which the functions of objective.rewards get as they are")
    streaming: bool = key(False, "read without downloading the whole set; needs max_documents")
    max_documents: int | None = key(None, "use the first so many rows of each split; none: all", ge=1)

    @property
    def prompts_from(self) -> str | None:
        """The column that prompts are read from, which may be the text's own; None for unconditional text."""
        if self.prompt_column is None and self.text_column in CONVERSATION_COLUMNS:
            return self.text_column
        return self.prompt_column

    def columns(self, *, labels: bool = True, answers: bool = True, others: bool = True) -> Columns:
        """The columns that are read, with or without those of labels, of right answers and of reward functions."""
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


DataConfig = Annotated[GrammarData | TextData | HfData | OracleData, Field(discriminator="kind")]
