"""Generators to use as they are: of a run, or of a pretrained model with a run's configuration; and teachers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.config.estimators import DistillConfig
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer, Tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.models.generators import Generator, build_generator
from gptgan_jax.pretrained.families import CONFIG_FILE, read_network
from gptgan_jax.pretrained.hub import is_model, model_folder
from gptgan_jax.runs.experiment import as_read, load_start
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.start import Start, without_padding
from gptgan_jax.runs.trained import Writer, build_networks, load_params, load_writer
from gptgan_jax.types import Params

# In tokens, if the model has enough positions.
LONGEST_PROMPT, LONGEST_TEXT = 512, 256


class Loaded(NamedTuple):
    """A generator that can be used.

    Attributes:
        run: its configuration, tokenizer and network.
        params: its parameters.
        source: where they come from, in words.
    """

    run: Writer
    params: Params
    source: str


def load_generator(
    name: str,
    checkpoint: str = "best",
    longest_prompt: int | None = None,
    longest: int | None = None,
    conditional: bool = True,
    check: Callable[[Writer], None] = lambda run: None,
) -> Loaded:
    """The generator of a run, or a pretrained model.

    Args:
        name: a run folder, hf:FOLDER, gguf:FILE or hub:NAME.
        checkpoint: of a run, as `Checkpoints.choose` takes it.
        longest_prompt, longest: for a model, the longest prompt and text in tokens; None for what its positions allow,
            at most 512 and 256. A run has its own.
        conditional: for a model, whether it answers prompts, by its chat template if it has one.
        check: raises if the run can't be used, before a large model is read.

    Raises:
        UserError: no such run, checkpoint or model, or settings that don't apply to it.
    """
    if not is_model(name):
        if longest_prompt is not None or longest is not None:
            raise UserError(
                "--max-prompt-length and --max-length are for a model (hf:FOLDER, gguf:FILE, hub:NAME); a run has "
                "its own; drop them"
            )
        folder = RunFolder(Path(name))
        run = load_writer(folder)
        check(run)
        params, saved = load_params(folder, run, checkpoint)
        return Loaded(run, params, f"{name}, checkpoint {saved.phase}/{saved.step}")
    if checkpoint != "best":
        raise UserError(f"--checkpoint {checkpoint} is of a run, and {name} is a model; drop it")
    config = _config(name, longest_prompt, longest, conditional)
    start = load_start(config)
    tokenizer = as_read(config, start.tokenizer)
    run = Writer(config, tokenizer, *build_networks(config, tokenizer.vocabulary))
    check(run)
    return Loaded(run, start.params(), name)


class Teacher(NamedTuple):
    """The teacher in distillation.

    Attributes:
        generator: its network, any adapters merged.
        start: its tokenizer and parameters.
    """

    generator: Generator
    start: Start


def load_teacher(config: Config, tokenizer: AnyTokenizer) -> Teacher | None:
    """The teacher that a configuration names, without its parameters; None if it names none.

    Args:
        config: of the student's run.
        tokenizer: of that run; the teacher's must have the same tokens.

    Raises:
        UserError: no such run, checkpoint or model, one with other tokens, or one for shorter texts.
    """
    estimator = config.objective.estimator
    if not isinstance(estimator, DistillConfig) or estimator.teacher is None:
        return None
    name, where = estimator.teacher, f"objective.estimator.teacher {estimator.teacher}"
    longest, text = config.data.max_prompt_length, config.data.max_length
    try:
        if is_model(name):
            theirs = _config(name, longest if config.conditional else 1, text, config.conditional)
        else:
            run = load_writer(RunFolder(Path(name)))
            checkpoint = estimator.teacher_checkpoint
            theirs = replace(run.config, init_from=name, init_checkpoint=checkpoint, init_vocabulary="same")
        start = load_start(theirs)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    mine, other = tokenizer.vocabulary.size, start.tokenizer.vocabulary.size
    if not _same_tokens(start.tokenizer, tokenizer):
        raise UserError(f"{where}: its tokens are not those of this run; distil from a teacher with the same tokenizer")
    if other < mine:
        raise UserError(
            f"{where}: its output layer has {other} rows, this run's {mine} (padding counts), and what it lacks has no "
            "probability; distil from a teacher with as many or more"
        )
    if other > mine:
        start = without_padding(start, mine)
    network = replace(theirs.generator, lora=LoraConfig())
    generator = build_generator(network, replace(start.tokenizer.vocabulary, size=mine))
    needed = 1 + longest + text if config.conditional else 1 + text
    if generator.max_length is not None and generator.max_length < needed:
        raise UserError(f"{where}: it reads {generator.max_length} tokens, and this run's texts have up to {needed}")
    return Teacher(generator, start)


def taught_text(config: Config, train: TokenisedSplit) -> TokenisedSplit:
    """The training text, with a teacher's most likely tokens if the configuration names a file of them.

    Raises:
        UserError: no such file, or one of another text.
    """
    estimator = config.objective.estimator
    if not isinstance(estimator, DistillConfig) or estimator.top_k_file is None or not config.adversarial.steps:
        return train
    try:
        return train.with_top_k(estimator.top_k_file)
    except UserError as error:
        raise error.within("objective.estimator.top_k_file") from None


def _same_tokens(one: AnyTokenizer, other: AnyTokenizer) -> bool:
    """Whether each id stands for the same token; padding rows of an output layer don't count."""
    if not isinstance(one, Tokenizer) or not isinstance(other, Tokenizer):
        of_ids = not isinstance(one, Tokenizer) and not isinstance(other, Tokenizer)
        return of_ids and one.vocabulary.size == other.vocabulary.size
    return one.backend.get_vocab(with_added_tokens=True) == other.backend.get_vocab(with_added_tokens=True)


def _config(name: str, longest_prompt: int | None, longest: int | None, conditional: bool) -> Config:
    """The configuration of a run that would use the model unchanged."""
    try:
        positions = read_network(model_folder(name, (CONFIG_FILE,))).config.max_positions
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    text = longest or min(LONGEST_TEXT, max(1, positions // 3))
    prompt = longest_prompt or min(LONGEST_PROMPT, max(1, positions - text - 1))
    data = {"kind": "hf", "max_length": text, "max_prompt_length": prompt}
    if conditional:
        data["prompt_column"] = "prompt"
    # A scan would copy each layer's weights out of the stack for every token.
    network = {"scan_layers": False}
    return config_from({"name": "model", "init_from": name, "data": data, "generator": network}, name)
