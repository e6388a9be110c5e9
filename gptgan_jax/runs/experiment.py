"""Everything that a configuration names, loaded: text, tokenizer, encoded splits, both networks. Writes only stores."""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import jax

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import Config
from gptgan_jax.config.structure import difference
from gptgan_jax.data.corpora import Corpus, Part, Split, load_corpus
from gptgan_jax.data.encoding import TokenisedSplit, encode_split
from gptgan_jax.data.holding_out import ALARM
from gptgan_jax.data.prompts import encode_prompts
from gptgan_jax.data.store import TokenStore, build_store, locked, store_fingerprint
from gptgan_jax.data.streams import Streamed
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
    EndedIdTokenizer,
    FileTokenizer,
    IdsTokenizer,
    IdTokenizer,
    Tokenizer,
    fit_tokenizer,
    load_tokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import merged, without_adapters
from gptgan_jax.mixtures.plan import Planned, plan_of, repeated
from gptgan_jax.mixtures.splits import in_proportion, joined, mixed
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.pretrained.hub import is_model, model_folder
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.start import Start, by_token, placed_like
from gptgan_jax.runs.text_alarms import check_blank, located, text_alarms
from gptgan_jax.runs.trained import build_networks, example_batch, generator_shapes, load_writer, restore_generator
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.types import Batch, Params

# The share of a split's tokens that may be cut off without an alarm.
MUCH_CUT = 0.05
# The keys in which two generators may differ and still have the same parameters.
FREE_OF_NETWORK = ("dropout", "dtype", "attention", "remat", "lora")


@dataclass(frozen=True)
class Experiment:
    """The loaded objects of a run.

    Attributes:
        config: its configuration.
        corpus: its text.
        tokenizer: fitted on the training split, or that of the run or model that this one starts from.
        train, valid, test: the encoded splits; without separate test text, test is valid.
        generator, discriminator: the networks, without parameters.
        notes: one line each on text that was skipped, cut off or unknown.
        start: the other run or model that the generator's parameters come from; None for new parameters, and for an
            existing run, which has them in its folder.
        stores: the token stores with all training text, if `train` is only a part of it: one per source of a mixture.
            Empty if `train` is everything, or if no stores are made.
    """

    config: Config
    corpus: Corpus
    tokenizer: AnyTokenizer
    train: TokenisedSplit
    valid: TokenisedSplit
    test: TokenisedSplit
    generator: Generator
    discriminator: Discriminator
    notes: tuple[str, ...]
    start: Start | None = None
    stores: tuple[TokenStore, ...] = ()

    @property
    def store(self) -> TokenStore | None:
        """The token store of text that is not a mixture; None without one."""
        return self.stores[0] if self.stores and not self.corpus.parts else None

    @property
    def of_stores(self) -> tuple[str, ...]:
        """The fingerprints of the token stores that the config names, whether they exist or not."""
        return tuple(fingerprint for _, fingerprint in _fingerprinted(self.corpus, self.tokenizer))

    @property
    def plan(self) -> tuple[Planned, ...]:
        """What likelihood training draws from each source of the text; a single source if it is not a mixture."""
        config, splits = self.config, (self.train, self.valid, self.test)
        rows = config.steps("likelihood") * config.rows("likelihood")
        parts = self.corpus.parts or (Part(config.data.kind, 1.0, self.corpus),)
        return plan_of(parts, splits, self.stores, rows, config.likelihood.packing)

    @property
    def conditional(self) -> bool:
        """Whether texts have prompts."""
        return self.train.prompts is not None

    def example_batch(self) -> Batch:
        """A batch of one text, for its shapes."""
        return example_batch(self.config, self.generator.vocabulary, self.conditional)


def load_experiment(
    config: Config,
    tokenizer: AnyTokenizer | None = None,
    say: Callable[[str], None] = lambda line: None,
    bar: TextIO | None = None,
    make_stores: bool = True,
) -> Experiment:
    """Loads everything.

    Args:
        config: names everything.
        tokenizer: of an existing run; by default that of `init_from`, or fitted.
        say: receives one line at a time on slow work.
        bar: the terminal that shows the progress, in place of most of these lines.
        make_stores: write the token stores that the config names, if they are missing; otherwise there are none, and
            nothing can be trained.

    Raises:
        UserError: something is wrong with the text, the tokenizer, the vocabulary, or what the run starts from.
    """
    with located(config):
        return _loaded(config, tokenizer, say, bar, make_stores)


def _loaded(
    config: Config, tokenizer: AnyTokenizer | None, say: Callable[[str], None], bar: TextIO | None, make_stores: bool
) -> Experiment:
    begun = tokenizer is not None  # an existing run keeps its tokenizer
    start = None if config.init_from is None or begun else load_start(config)
    corpus = load_corpus(config.data, bool(config.objective.rewards), kept=make_stores)
    notes = list(corpus.notes)
    if start is not None:
        _check_start(config, corpus, start)
        if config.init_vocabulary == "by_token":
            start, note = by_token(config, start, _fitted(config, corpus, make_stores, say))
        else:
            note = "its tokenizer is taken"
        tokenizer = start.tokenizer
        notes[:0] = [f"the generator starts from {start.source}, and {note}"]
    fitted = config.tokenizer if tokenizer is None else None
    tokenizer = tokenizer or _fitted(config, corpus, make_stores, say)
    if not begun:
        tokenizer = as_read(config, tokenizer)
    check_blank(config, tokenizer)
    alarms: list[str] = []
    train, valid, test = _encoded(config, corpus, tokenizer, notes, alarms)
    notes[:0] = alarms + text_alarms(fitted, corpus, tokenizer, train, [valid, test])
    check_labels(config, train, valid, corpus.classes, tokenizer)
    generator, discriminator = build_networks(config, tokenizer.vocabulary, corpus.classes)
    stores = _stores_of(corpus, tokenizer, say, bar) if make_stores else ()
    players = generator, discriminator
    loaded = Experiment(config, corpus, tokenizer, train, valid, test, *players, tuple(notes), start, stores)
    return replace(loaded, notes=(*notes, *repeated(loaded.plan))) if corpus.parts else loaded


def _encoded(
    config: Config, corpus: Corpus, tokenizer: AnyTokenizer, notes: list[str], alarms: list[str]
) -> tuple[TokenisedSplit, TokenisedSplit, TokenisedSplit]:
    """The splits as token ids; notes and alarms are appended to the lists.

    Held-out text of a mixture is in the mixture's order, so that its beginning is a sample of the mixture.
    """
    data = config.data
    # A source knows the probability of a whole text only, so its texts are not split.
    long_documents = data.long_documents or ("split" if corpus.source is None else "cut")

    def encoded(name: str, split: Split) -> TokenisedSplit:
        lengths = data.max_length, data.max_prompt_length
        result = encode_split(split, tokenizer, *lengths, data.prompt_keep, long_documents)
        if not len(result):
            raise UserError(
                f"data.{name}: the tokenizer finds no token in any of its {len(split)} texts; change one of them"
            )
        notes.extend(f"{name}: {note}" for note in result.notes())
        if result.cut_share > MUCH_CUT:
            split_them = "" if config.conditional or config.labelled else ", or set data.long_documents to split"
            alarms.append(
                f"{ALARM}{name}: {result.cut_share:.0%} of its tokens are cut off and lost at data.max_length "
                f"{data.max_length}; raise that (and max_positions){split_them}"
            )
        return result

    def whole(name: str, of: Callable[[Corpus], Split]) -> TokenisedSplit:
        if not corpus.parts:
            return encoded(name, of(corpus))
        parts = [encoded(f"sources.{part.name}.{name}", of(part.corpus)) for part in corpus.parts]
        return joined(parts, [part.name for part in corpus.parts], [part.weight for part in corpus.parts])

    train, valid = whole("train", lambda one: one.train), whole("valid", lambda one: one.valid)
    test = valid
    if corpus.test is not None:
        test = whole("test", lambda one: one.valid if one.test is None else one.test)
    if train.sources is not None:
        shares = train.sources.shares
        valid, test = mixed(valid, shares), mixed(test, shares)
        of_test, of_valid = len(in_proportion(test)), len(in_proportion(valid))
        notes.append(
            f"samples are compared with {of_test:,} test and {of_valid:,} validation texts, in the proportions of the "
            "mixture; the held-out NLL is measured on all of them, of each source by itself"
        )
    return train, valid, test


def _fitted(config: Config, corpus: Corpus, kept: bool, say: Callable[[str], None]) -> AnyTokenizer:
    """The tokenizer of the training text. Fitting is slow, so it is saved next to a token store if `kept` is true.

    Another run with the same folder may save its own there in the meantime.
    """
    store = getattr(config.data, "store", None)
    streamed = [one.streamed.fingerprint for one in _streamed(corpus) if one.streamed is not None]
    if store is None or not streamed:
        return fit_tokenizer(config.tokenizer, corpus)
    folder, made_of = Path(store) / "tokenizer", f"{' '.join(streamed)} {config.tokenizer}"
    facts = folder / "made_of"

    def there() -> bool:
        try:
            return facts.read_text(encoding="utf-8") == made_of
        except FileNotFoundError:
            return False

    if there():
        found = load_tokenizer(folder)
        if there():
            return found
    tokenizer = fit_tokenizer(config.tokenizer, corpus)
    if kept and not isinstance(config.tokenizer, FileTokenizer):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(Path(store), say):
            facts.unlink(missing_ok=True)
            tokenizer.save(folder)
            write_whole(facts, made_of.encode())
    return tokenizer


def _streamed(corpus: Corpus) -> list[Corpus]:
    """The corpora that can have stores: the sources of a mixture, or the only corpus."""
    return [part.corpus for part in corpus.parts] or [corpus]


def _stores_of(
    corpus: Corpus, tokenizer: AnyTokenizer, say: Callable[[str], None], bar: TextIO | None
) -> tuple[TokenStore, ...]:
    stores = []
    for streamed, fingerprint in _fingerprinted(corpus, tokenizer):
        assert isinstance(tokenizer, Tokenizer)
        data = streamed.config
        assert data.store is not None
        documents, length = streamed.training, streamed.expected
        stores.append(
            build_store(Path(data.store), documents, tokenizer, fingerprint, say, data.max_tokens, bar, length)
        )
    return tuple(stores)


def _fingerprinted(corpus: Corpus, tokenizer: AnyTokenizer) -> Iterator[tuple[Streamed, str]]:
    """The text of each token store, and the store's fingerprint."""
    for one in _streamed(corpus):
        if one.streamed is not None:
            assert isinstance(tokenizer, Tokenizer)
            yield (
                one.streamed,
                store_fingerprint(one.streamed.fingerprint, tokenizer, one.streamed.config.max_tokens),
            )


def as_read(config: Config, tokenizer: AnyTokenizer) -> AnyTokenizer:
    """The tokenizer as a new run with this configuration uses it, for prompts or for texts without prompts.

    Raises:
        UserError: the chat template is invalid.
    """
    if not isinstance(tokenizer, Tokenizer):
        return tokenizer
    if not config.conditional:
        return tokenizer.for_texts()
    data = config.data
    thinking = getattr(data, "enable_thinking", None)
    options = {} if thinking is None else {"enable_thinking": thinking}
    return tokenizer.for_prompts(getattr(data, "chat_template", True), options)


def check_labels(
    config: Config, train: TokenisedSplit, valid: TokenisedSplit, classes: tuple[str, ...], tokenizer: AnyTokenizer
) -> None:
    """Raises UserError if the labels can't serve as prompts, or the text lacks labels that are needed."""
    if config.label_prompts:
        spelt: dict[tuple[int, ...], str] = {}
        longest, keep = config.data.max_prompt_length, config.data.prompt_keep
        for name in classes:
            ids = tuple(encode_prompts(tokenizer, [name], longest, keep)[0].ids)
            if not tokenizer.encode(name) or tokenizer.unknown_words(name):
                raise UserError(f"data.label_prompts: the tokenizer can't spell the label {name!r}; rename it")
            if ids in spelt:
                raise UserError(
                    f"data.label_prompts: labels {spelt[ids]!r} and {name!r} are the same prompt within "
                    f"data.max_prompt_length {longest}; raise that, or rename one"
                )
            spelt[ids] = name
    share = config.objective.classification.labelled_share
    if config.classifies and valid.labels is not None and not (valid.labels[: config.evaluation.max_texts] >= 0).any():
        raise UserError("objective.classification: none of the validation texts that are looked at has a label")
    if config.classifies and train.labels is not None:
        count = int((train.labels >= 0).sum())
        if not count:
            raise UserError("objective.classification: no training text has a label")
        if share is not None and share < 1 and count == len(train):
            raise UserError(
                f"objective.classification.labelled_share {share}: every training text has a label; drop the key"
            )


def load_start(config: Config) -> Start:
    """What `init_from` (and `init_checkpoint`) names.

    Raises:
        UserError: there is no such run, checkpoint or model, or its generator is another network.
    """
    assert config.init_from is not None
    return _start_from_model(config) if is_model(config.init_from) else _start_from_run(config, Path(config.init_from))


def _start_from_run(config: Config, path: Path) -> Start:
    """Another run's generator: the average of its parameters if the checkpoint has one, with adapters merged."""
    folder = RunFolder(path)
    try:
        run = load_writer(folder)
        if changes := network_difference(run.config, config):
            raise UserError(f"its generator is another network ({changes[0]}); leave `generator` out to take it")
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
            saved = checkpoints.choose(config.init_checkpoint)
    except UserError as error:
        raise UserError(f"init_from {path}, init_checkpoint {config.init_checkpoint}: {error}") from None

    def read(target: Params) -> Params:
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
            whole = placed_like(target, shapes)
            params = restore_generator(checkpoints, saved, run.config, run.generator, whole)
        lora = run.config.generator.lora
        return jax.jit(functools.partial(merged, lora=lora))(params) if lora.rank else params

    source, shapes = f"{path}, checkpoint {saved.phase}/{saved.step}", generator_shapes(run.config, run.generator)
    return Start(run.tokenizer, source, without_adapters(shapes), read)


def _start_from_model(config: Config) -> Start:
    assert config.init_from is not None
    try:
        model = open_model(model_folder(config.init_from))
        model.network.check(config.generator)
        asked = config if config.init_vocabulary == "same" else replace(config, vocab_size=None)
        generator, _ = build_networks(asked, model.tokenizer.vocabulary)
        shapes = without_adapters(generator_shapes(config, generator))
        model.check(shapes)
    except UserError as error:
        raise UserError(f"init_from {config.init_from}: {error}") from None
    return Start(model.tokenizer, config.init_from, shapes, model.params)


def network_difference(one: Config, other: Config) -> list[str]:
    """The keys, `generator.key: one -> other`, because of which `other`'s generator can't take `one`'s parameters."""
    lines = [line for line in difference(one, other) if line.startswith("generator.")]
    return [line for line in lines if re.split("[.:]", line)[1] not in FREE_OF_NETWORK]


def _check_start(config: Config, corpus: Corpus, start: Start) -> None:
    """Raises UserError if the text has other tokens than the tokenizer."""
    ids = isinstance(corpus.source, Oracle)
    if ids != isinstance(start.tokenizer, IdTokenizer):
        words = ("token ids", "text") if ids else ("text", "token ids")
        raise UserError(f"init_from: data is {words[0]}, and {config.init_from} learned {words[1]}; name another run")
    if isinstance(config.tokenizer, IdsTokenizer) and not isinstance(start.tokenizer, IdTokenizer | EndedIdTokenizer):
        raise UserError(
            f"init_from: tokenizer.kind ids, and {config.init_from} learned text; name another run, or leave "
            "tokenizer out to take its own"
        )
    if ids or (isinstance(config.tokenizer, FileTokenizer) and config.init_vocabulary == "same"):
        own, theirs = fit_tokenizer(config.tokenizer, corpus).vocabulary, start.tokenizer.vocabulary
        if own != theirs:
            where = "data" if ids else "tokenizer.path"
            raise UserError(
                f"init_from: {where} has a vocabulary of {own.size}, {config.init_from} one of {theirs.size}"
                f"{'' if own.size != theirs.size else ' with other special tokens'}; both must be the same"
                f"{'' if ids else ', or init_vocabulary by_token'}"
            )
