"""All that a configuration names, loaded: text, tokenizer, encoded splits and both networks. Nothing is written."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
from etils import epath

from gptgan_jax.config import Config
from gptgan_jax.config.files import difference
from gptgan_jax.data.batches import TokenisedSplit, encode_split
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.oracle import Oracle
from gptgan_jax.data.prompts import EncodedPrompt, encode_prompts
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
    FileTokenizer,
    IdTokenizer,
    Tokenizer,
    fit_tokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.models.discriminators import Discriminator, build_discriminator, without_prompts
from gptgan_jax.models.generators import Generator, build_generator
from gptgan_jax.models.lora import merged, with_adapters, without_adapters
from gptgan_jax.models.transformer import TransformerConfig, deep_shapes, shallow_config
from gptgan_jax.pretrained.hub import is_model, model_folder
from gptgan_jax.pretrained.huggingface import open_model
from gptgan_jax.runs.checkpoints import Checkpoints, Saved
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.start import Start, by_token, on_first_device, placed_like, read_start
from gptgan_jax.runs.text_alarms import text_alarms
from gptgan_jax.types import Batch, Params, Vocabulary

# What two generators may differ in and still have the same parameters.
FREE_OF_NETWORK = ("dropout", "dtype", "attention", "remat", "lora")


@dataclass(frozen=True)
class Experiment:
    """What a run works with.

    Attributes:
        config: its configuration.
        corpus: its text.
        tokenizer: fitted on the training split, or that of the run or model that this one starts from.
        train, valid, test: the encoded splits; without test text of its own, test is valid.
        generator, discriminator: the networks, without parameters.
        notes: one line each on text that was skipped, cut off or unknown.
        start: where the generator's first parameters come from, where they are another's; None for new ones, and for
            a run that began earlier, which has them in its folder.
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

    @property
    def conditional(self) -> bool:
        """Whether texts have prompts."""
        return self.train.prompts is not None

    def example_batch(self) -> Batch:
        """A batch of one text, for its shapes."""
        return example_batch(self.config, self.generator.vocabulary, self.conditional)


def load_experiment(config: Config, tokenizer: AnyTokenizer | None = None) -> Experiment:
    """Loads everything.

    Args:
        config: names it.
        tokenizer: of a run that began earlier; by default it is that of what `init_from` names, or fitted.

    Raises:
        UserError: whatever is wrong with the text, the tokenizer, the vocabulary, or what it starts from.
    """
    start = None if config.init_from is None or tokenizer is not None else load_start(config)
    corpus = load_corpus(config.data)
    notes = list(corpus.notes)
    if start is not None:
        _check_start(config, corpus, start)
        if config.init_vocabulary == "by_token":
            start, note = by_token(config, start, fit_tokenizer(config.tokenizer, corpus))
        else:
            note = "its tokenizer is taken"
        tokenizer = start.tokenizer
        notes[:0] = [f"the generator starts from {start.source}, and {note}", *start.notes]
    fitted = config.tokenizer if tokenizer is None else None
    tokenizer = tokenizer or fit_tokenizer(config.tokenizer, corpus)
    if config.conditional:
        tokenizer = for_prompts(config, tokenizer)

    def encoded(name: str, split: Split) -> TokenisedSplit:
        data = config.data
        result = encode_split(split, tokenizer, data.max_length, data.max_prompt_length, data.prompt_keep)
        if not len(result):
            raise UserError(
                f"data.{name}: the tokenizer finds no token in any of its {len(split)} texts; change one of them"
            )
        notes.extend(f"{name}: {note}" for note in result.notes())
        return result

    train, valid = encoded("train", corpus.train), encoded("valid", corpus.valid)
    test = valid if corpus.test is None else encoded("test", corpus.test)
    notes[:0] = text_alarms(fitted, corpus, tokenizer, train, [valid, test])
    _check_labels(config, train, valid, corpus.classes, tokenizer)
    generator, discriminator = build_networks(config, tokenizer.vocabulary, corpus.classes)
    return Experiment(config, corpus, tokenizer, train, valid, test, generator, discriminator, tuple(notes), start)


def for_prompts(config: Config, tokenizer: AnyTokenizer) -> AnyTokenizer:
    """The tokenizer that reads prompts as a run with this configuration does.

    Raises:
        UserError: a chat template that is none.
    """
    if not isinstance(tokenizer, Tokenizer):
        return tokenizer
    data = config.data
    thinking = getattr(data, "enable_thinking", None)
    options = {} if thinking is None else {"enable_thinking": thinking}
    return tokenizer.for_prompts(getattr(data, "chat_template", True), options)


def _check_labels(
    config: Config, train: TokenisedSplit, valid: TokenisedSplit, classes: tuple[str, ...], tokenizer: AnyTokenizer
) -> None:
    """Raises UserError where the labels can't serve as prompts, or text lacks those that are asked for."""
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


def build_networks(
    config: Config, vocabulary: Vocabulary, classes: Sequence[str] = ()
) -> tuple[Generator, Discriminator]:
    """Both players.

    Args:
        config: of the run.
        vocabulary: its tokenizer's.
        classes: the labels that its discriminator tells, where the configuration has it tell any.

    Raises:
        UserError: where the vocabulary is not the one that the configuration asks for, or there are too few classes.
    """
    if config.vocab_size not in (None, vocabulary.size):
        raise UserError(
            f"vocab_size {config.vocab_size}: the tokenizer has {vocabulary.size} tokens; "
            "drop the key, or change the tokenizer"
        )
    if config.classifies and len(classes) < 2:
        raise UserError(f"objective.classification: {len(classes)} label(s) in the data; two or more can be told apart")
    count = len(classes) if config.classifies else 0
    judge = build_discriminator(config.discriminator, vocabulary, count, config.generator.lora)
    if config.label_prompts:  # to read a text's label would be no judgement of the text
        judge = without_prompts(judge, vocabulary)
    generator = build_generator(config.generator, vocabulary)
    if not config.mesh.gather_to_write:
        generator = generator._replace(for_writing=lambda params: params)
    return generator, judge


def example_batch(config: Config, vocabulary: Vocabulary, conditional: bool) -> Batch:
    """A batch of one text, for its shapes: P is 1, or 1 + the longest prompt."""
    shape_p = (1, 1 + config.data.max_prompt_length if conditional else 1)
    shape_t = (1, config.data.max_length)
    return Batch(
        prompt=jnp.full(shape_p, vocabulary.bos_id, jnp.int32),
        prompt_mask=jnp.ones(shape_p, bool),
        target=jnp.full(shape_t, vocabulary.pad_id, jnp.int32),
        target_mask=jnp.ones(shape_t, bool),
        label=jnp.full(1, -1, jnp.int32),
    )


@dataclass(frozen=True)
class Writer:
    """What it takes to write with a trained generator, and to judge with its discriminator: of the run folder alone.

    Attributes:
        config, tokenizer, generator, discriminator: of the run, the networks without parameters.
        classes: the names of its labels; empty where its text has none.
    """

    config: Config
    tokenizer: AnyTokenizer
    generator: Generator
    discriminator: Discriminator
    classes: tuple[str, ...] = ()

    @property
    def conditional(self) -> bool:
        """Whether it learned to answer prompts."""
        return self.config.conditional

    @property
    def chat(self) -> bool:
        """Whether a chat template writes its prompts."""
        return self.conditional and getattr(self.tokenizer, "chat_template", None) is not None


def load_writer(folder: RunFolder) -> Writer:
    """Raises UserError where the folder is no run folder."""
    config = folder.read_config()
    tokenizer = folder.read_tokenizer()
    classes = folder.read_classes()
    return Writer(config, tokenizer, *build_networks(config, tokenizer.vocabulary, classes), classes)


def load_params(folder: RunFolder, run: Writer, checkpoint: str = "best") -> tuple[Params, Saved]:
    """The parameters that a run's generator writes with, on the first device, and the checkpoint that they are of.

    Apart from `load_writer`, so that what a run can't do is refused before a large model is read.

    Args:
        folder: of the run.
        run: from it, by `load_writer`.
        checkpoint: best, last, a phase or a step, as `Checkpoints.choose` takes it.

    Raises:
        UserError: where there is no such checkpoint, or it can't be read.
    """
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose(checkpoint)
        return restore_generator(checkpoints, saved, run.config, run.generator), saved


def load_start(config: Config) -> Start:
    """What `init_from` (and `init_checkpoint`) names.

    Raises:
        UserError: where there is no such run, checkpoint or model, or its generator is another network.
    """
    assert config.init_from is not None
    return _start_from_model(config) if is_model(config.init_from) else _start_from_run(config, Path(config.init_from))


def _start_from_run(config: Config, path: Path) -> Start:
    """The average of the parameters is taken where the checkpoint has one; adapters are merged."""
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
    return Start(model.tokenizer, config.init_from, shapes, model.params, model.network.notes)


def network_difference(one: Config, other: Config) -> list[str]:
    """The keys, `generator.key: one -> other`, for which the other's generator can't take the one's parameters."""
    lines = [line for line in difference(one, other) if line.startswith("generator.")]
    return [line for line in lines if re.split("[.:]", line)[1] not in FREE_OF_NETWORK]


def _check_start(config: Config, corpus: Corpus, start: Start) -> None:
    """Raises UserError where the text is made of other tokens than the tokenizer's."""
    ids = isinstance(corpus.source, Oracle)
    if ids != isinstance(start.tokenizer, IdTokenizer):
        words = ("token ids", "text") if ids else ("text", "token ids")
        raise UserError(f"init_from: data is {words[0]}, and {config.init_from} learned {words[1]}; name another run")
    if ids or (isinstance(config.tokenizer, FileTokenizer) and config.init_vocabulary == "same"):
        own, theirs = fit_tokenizer(config.tokenizer, corpus).vocabulary, start.tokenizer.vocabulary
        if own != theirs:
            where = "data" if ids else "tokenizer.path"
            raise UserError(
                f"init_from: {where} has a vocabulary of {own.size}, {config.init_from} one of {theirs.size}"
                f"{'' if own.size != theirs.size else ' with other special tokens'}; both must be the same"
                f"{'' if ids else ', or init_vocabulary by_token'}"
            )


def read_prompt(run: Writer, prompt: str) -> tuple[EncodedPrompt, int]:
    """A prompt that a user typed as the run reads it, and how many tokens may follow it.

    A run that learned to answer prompts reads it as it read those: cut to the same length at the same end. A run that
    learned text without prompts goes on with one as if it had written it, within the length that it learned.

    Raises:
        UserError: a prompt that is missing, too long, unknown to the tokenizer, or of no use to the run.
    """
    data = run.config.data
    if run.conditional and not prompt:
        raise UserError("this run learned to answer prompts; give one with --prompt")
    if prompt and not run.conditional and run.config.generator.encoder_layers:
        raise UserError("this run's encoder never read a prompt in training, so it can't begin with one; drop --prompt")
    unknown = run.tokenizer.unknown_words(prompt)
    if unknown:
        words = ", ".join(repr(word) for word in dict.fromkeys(unknown))
        raise UserError(f"prompt {prompt!r}: the tokenizer doesn't know {words}; use words of the training text")
    if run.conditional:
        return encode_prompts(run.tokenizer, [prompt], data.max_prompt_length, data.prompt_keep)[0], data.max_length
    ids, longest = run.tokenizer.encode(prompt), data.max_length - 1
    if len(ids) > longest:
        raise UserError(f"prompt {prompt!r}: {len(ids)} tokens; this run takes at most {longest}")
    return EncodedPrompt(ids, prompt, False), data.max_length - len(ids)


def restore_generator(
    checkpoints: Checkpoints, saved: Saved, config: Config, generator: Generator, target: Params | None = None
) -> Params:
    """The generator's parameters of a checkpoint; their average where the phase keeps one.

    Args:
        checkpoints: of a run.
        saved: the one of them.
        config: of the run.
        generator: of the run.
        target: shape structs that say where each shall live; by default this process's first device.

    Raises:
        UserError: where it can't be read.
    """
    part = "ema" if saved.phase == "adversarial" and config.adversarial.ema_decay else "params"
    target = on_first_device(generator_shapes(config, generator)) if target is None else target
    return checkpoints.restore_part(saved, ("generator", part), target)


def start_params(checkpoints: epath.PathLike, config: Config, generator: Generator) -> Params:
    """The parameters that a run's generator began with, on the first device: those it starts from, adapters of zeros.

    Args:
        checkpoints: the folder of the run's checkpoints.
        config: of a run with `init_from`.
        generator: of the run.

    Raises:
        UserError: where they can't be read.
    """
    own = generator_shapes(config, generator)
    base = read_start(checkpoints, on_first_device(without_adapters(own)))
    adapted = with_adapters(base, own)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, adapted)


def restore_discriminator(
    checkpoints: Checkpoints, saved: Saved, config: Config, discriminator: Discriminator
) -> Params:
    """The discriminator's parameters of a checkpoint, on the first device.

    Raises:
        UserError: where it can't be read.
    """
    batch = example_batch(config, Vocabulary(1), False)
    shapes = jax.eval_shape(discriminator.init, jax.random.key(0), batch)
    return checkpoints.restore_part(saved, ("discriminator", "params"), on_first_device(shapes))


def generator_shapes(config: Config, generator: Generator) -> Params:
    """The generator's parameters as shape structs. They do not depend on the lengths of a batch."""
    batch = example_batch(config, generator.vocabulary, False)
    network = generator.config
    if not isinstance(network, TransformerConfig):
        return jax.eval_shape(generator.init, jax.random.key(0), batch)
    # To trace one block takes a tenth of the time that all of a deep network take.
    shallow = build_generator(shallow_config(network), generator.vocabulary)
    return deep_shapes(jax.eval_shape(shallow.init, jax.random.key(0), batch), network)
