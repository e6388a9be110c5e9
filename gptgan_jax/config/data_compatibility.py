"""Rules for which choices of the data go together, including packing and labels; see `compatibility`."""

from collections.abc import Iterator

from gptgan_jax.config.sections import Sections
from gptgan_jax.data.config import GrammarData, HfData, HfSource, MixtureData, OracleData
from gptgan_jax.data.infilling import InfillingConfig
from gptgan_jax.data.tokenizers import IdsTokenizer


def reasons_of_data(config: Sections) -> Iterator[str]:
    """Why the choices of the data do not go together, one line each."""
    yield from _reasons_of_infilling(config)
    yield from _reasons_of_packing(config)
    yield from _reasons_of_store(config)
    yield from _reasons_of_mixture(config)
    yield from _reasons_of_labels(config)
    yield from _reasons_of_turns(config)


def _reasons_of_turns(config: Sections) -> Iterator[str]:
    data = config.data
    named: dict[str, HfData | HfSource] = {"data": data} if isinstance(data, HfData) else {}
    if isinstance(data, MixtureData):
        sources = zip(data.names, data.sources, strict=True)
        named = {f"data.sources.{name}": one for name, one in sources if isinstance(one, HfSource)}
    for where, one in named.items():
        if not one.every_turn:
            continue
        if one.prompts_from is None:
            yield (
                f"{where}.assistant_turns all is for conversations: set {where}.text_column to a column of them, and "
                "prompt_column to the same, or drop it"
            )
        if one.answer_column is not None:
            yield (
                f"{where}.answer_column has one right answer for a conversation, and assistant_turns all makes a text "
                "of each turn: drop one of them"
            )


def _reasons_of_infilling(config: Sections) -> Iterator[str]:
    data = config.data
    if isinstance(data, OracleData | MixtureData):  # they have no such key
        return
    if config.infilling is None:
        if data.infilling != InfillingConfig():
            yield "data.infilling leaves out a share of each text, and that is 0: set data.infilling.share, or drop it"
        return
    why = "data.infilling makes prompts of the texts: "
    if isinstance(data, GrammarData) and data.task is not None:
        yield f"{why}data.task {data.task} has its own, drop one of them"
    if isinstance(data, HfData) and data.prompts_from is not None:
        named = "prompt_column" if data.prompt_column is not None else f"text_column {data.text_column}"
        yield f"{why}data.{named} has others, drop one of them"
    if config.label_prompts:
        yield f"{why}data.label_prompts makes others of the labels, drop one of them"
    if getattr(data, "answer_column", None) is not None:
        yield f"{why}the missing words are their right answers, drop data.answer_column"
    if getattr(data, "store", None) is not None:
        yield f"{why}data.store holds text alone, drop one of them"
    if isinstance(config.tokenizer, IdsTokenizer):
        yield f"{why}a blank is no number, as tokenizer.kind ids needs; use another kind"


def _reasons_of_store(config: Sections) -> Iterator[str]:
    data = config.data
    if getattr(data, "store", None) is None:
        if getattr(data, "max_tokens", None) is not None:
            yield "data.max_tokens ends a token store: set data.store, or drop it"
        return
    if config.likelihood.packing == "none":
        yield "data.store is read in packed rows: set likelihood.packing to concatenate or best_fit"
    if data.long_documents == "cut":
        yield "data.store keeps whole documents, and rows are windows of them: set data.long_documents to split"
    for name in ("label_column", "group_column", "unlabelled"):
        if getattr(data, name, None) is not None:
            yield f"data.store holds text alone: drop data.{name}, or data.store"


def _reasons_of_mixture(config: Sections) -> Iterator[str]:
    data = config.data
    if not isinstance(data, MixtureData):
        return
    if not data.sources:
        yield "data.sources names no source of text; give a list of them, each with kind, weight and what it reads"
    if config.likelihood.length_buckets > 1:
        yield (
            "likelihood.length_buckets puts texts of like length into a batch, which a mixture draws by its weights: "
            "set it to 1, and likelihood.packing to concatenate or best_fit, where no padding is left to save"
        )
    grouped = [name for name, one in zip(data.names, data.sources, strict=True) if getattr(one, "group_column", None)]
    if data.store is not None and grouped:
        yield f"data.store holds text alone: drop group_column of the source {grouped[0]}, or data.store"


def _reasons_of_packing(config: Sections) -> Iterator[str]:
    if config.data.long_documents == "split" and (config.conditional or config.labelled):
        yield (
            "data.long_documents split is for text without prompts and labels: a window of an answer answers nothing; "
            "set it to cut, or raise data.max_length"
        )
    if config.likelihood.packing == "none":
        if config.data.attend_across:
            yield "data.attend_across is for packed rows: set likelihood.packing, or drop it"
        return
    why = f"likelihood.packing {config.likelihood.packing} puts documents side by side in a row: "
    if config.generator.kind != "transformer" or config.generator.encoder_layers:
        yield f"{why}the generator should be a decoder-only transformer; set likelihood.packing to none"
    if config.conditional:
        yield f"{why}it needs text without prompts; set likelihood.packing to none, or likelihood.length_buckets"
    if config.likelihood.length_buckets > 1:
        yield f"{why}no padding is left for likelihood.length_buckets to save; set one of them alone"


def _reasons_of_labels(config: Sections) -> Iterator[str]:
    data = config.data
    if config.label_prompts and not config.labelled:
        yield f"data.label_prompts needs labels: set data.{'label' if data.kind == 'grammar' else 'label_column'}"
    if config.label_prompts and getattr(data, "prompts_from", None) is not None:
        yield "data.label_prompts makes prompts of the labels, and data.prompt_column has others: drop one of them"
    if getattr(data, "labelled", None) is not None and not config.labelled:
        yield "data.labelled counts labels, and data.label is none: set it, or drop labelled"
    for name in ("unlabelled", "classes"):
        if getattr(data, name, None) and not config.labelled:
            yield f"data.{name} is for data with labels: set data.label_column, or drop {name}"
