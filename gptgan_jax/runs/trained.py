"""A trained run's networks, tokenizer and parameters, from its folder only."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from etils import epath

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import Config
from gptgan_jax.data.prompts import EncodedPrompt, encode_prompts
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.layers.lora import with_adapters, without_adapters
from gptgan_jax.models.discriminators import Discriminator, build_discriminator, in_windows, without_prompts
from gptgan_jax.models.generators import Generator, build_generator
from gptgan_jax.models.transformer import deep_shapes, shallow_config
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.start import on_first_device, read_start
from gptgan_jax.tokenization.chat_templates import Message
from gptgan_jax.types import Batch, Params, Vocabulary


def build_networks(
    config: Config, vocabulary: Vocabulary, classes: Sequence[str] = ()
) -> tuple[Generator, Discriminator]:
    """The generator and the discriminator.

    Args:
        config: of the run.
        vocabulary: its tokenizer's.
        classes: the labels that the discriminator predicts, if it is configured to.

    Raises:
        UserError: the vocabulary has another size than the configuration states, or there are too few classes.
    """
    if config.vocab_size not in (None, vocabulary.size):
        raise UserError(
            f"vocab_size {config.vocab_size}: the tokenizer has {vocabulary.size} tokens; "
            "drop the key, or change the tokenizer"
        )
    if config.classifies and len(classes) < 2:
        raise UserError(f"objective.classification: {len(classes)} label(s) in the data; it needs two or more")
    count = len(classes) if config.classifies else 0
    discriminator = build_discriminator(config.discriminator, vocabulary, count, config.generator.lora)
    if config.label_prompts:  # otherwise it would read a text's label in place of the text
        discriminator = without_prompts(discriminator, vocabulary)
    if config.objective.window:
        discriminator = in_windows(discriminator, config.objective.window)
    generator = build_generator(config.generator, vocabulary)
    if not config.mesh.gather_to_write:
        generator = generator._replace(for_writing=lambda params: params)
    return generator, discriminator


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
    """A trained run to sample from and to score with, from its folder only.

    Attributes:
        config, tokenizer, generator, discriminator: of the run, the networks without parameters.
        classes: the names of its labels; empty if its text has none.
    """

    config: Config
    tokenizer: AnyTokenizer
    generator: Generator
    discriminator: Discriminator
    classes: tuple[str, ...] = ()

    @property
    def conditional(self) -> bool:
        """Whether it was trained to answer prompts."""
        return self.config.conditional

    @property
    def chat(self) -> bool:
        """Whether its prompts are rendered by a chat template."""
        return self.conditional and getattr(self.tokenizer, "chat_template", None) is not None


def load_writer(folder: RunFolder) -> Writer:
    """Raises UserError if the folder is not a run folder."""
    config = folder.read_config()
    tokenizer = folder.read_tokenizer()
    classes = folder.read_classes()
    return Writer(config, tokenizer, *build_networks(config, tokenizer.vocabulary, classes), classes)


def load_params(folder: RunFolder, run: Writer, checkpoint: str = "best") -> tuple[Params, Saved]:
    """The parameters that a run's generator samples with, on the first device, and their checkpoint.

    Separate from `load_writer`, so that a request that the run can't serve is refused before a large model is read.

    Args:
        folder: the run folder.
        run: from it, by `load_writer`.
        checkpoint: best, last, a phase or a step; see `Checkpoints.choose`.

    Raises:
        UserError: there is no such checkpoint, or it can't be read.
    """
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        saved = checkpoints.choose(checkpoint)
        return restore_generator(checkpoints, saved, run.config, run.generator), saved


def system_turn(run: Writer, text: str | None) -> tuple[Message, ...]:
    """The system message of a chat; none without a text.

    Raises:
        UserError: the run's prompts have no chat template.
    """
    if text is None:
        return ()
    if not run.chat:
        raise UserError("--system is for a model or run whose prompts a chat template writes; drop it")
    return (Message("system", text),)


def read_prompt(run: Writer, prompt: str, system: str | None = None) -> tuple[EncodedPrompt, int]:
    """A user's prompt, encoded as the run reads it, and how many tokens may follow it.

    A run trained with prompts truncates it like those: to the same length, at the same end. A run trained without
    prompts continues it as if it had generated it, within the length that it was trained on.

    Raises:
        UserError: the prompt is missing, too long, unknown to the tokenizer, or useless to the run.
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
    turns = system_turn(run, system)
    if run.conditional:
        asked = (*turns, Message("user", prompt)) if turns else prompt
        return encode_prompts(run.tokenizer, [asked], data.max_prompt_length, data.prompt_keep)[0], data.max_length
    ids, longest = run.tokenizer.encode(prompt), data.max_length - 1
    if len(ids) > longest:
        raise UserError(f"prompt {prompt!r}: {len(ids)} tokens; this run takes at most {longest}")
    return EncodedPrompt(ids, prompt, False), data.max_length - len(ids)


def restore_generator(
    checkpoints: Checkpoints, saved: Saved, config: Config, generator: Generator, target: Params | None = None
) -> Params:
    """The generator's parameters in a checkpoint; their average if the phase has one.

    Args:
        checkpoints: of a run.
        saved: one of them.
        config: of the run.
        generator: of the run.
        target: shape structs with shardings; by default on this process's first device.

    Raises:
        UserError: it can't be read.
    """
    part = "ema" if saved.phase == "adversarial" and config.adversarial.ema_decay else "params"
    target = on_first_device(generator_shapes(config, generator)) if target is None else target
    return checkpoints.restore_part(saved, ("generator", part), target)


def start_params(checkpoints: epath.PathLike, config: Config, generator: Generator) -> Params:
    """The initial parameters of a run's generator, on the first device: those that it starts from, adapters of zeros.

    Args:
        checkpoints: the folder of the run's checkpoints.
        config: of a run with `init_from`.
        generator: of the run.

    Raises:
        UserError: they can't be read.
    """
    own = generator_shapes(config, generator)
    base = read_start(checkpoints, on_first_device(without_adapters(own)))
    adapted = with_adapters(base, own)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, adapted)


def restore_discriminator(
    checkpoints: Checkpoints, saved: Saved, config: Config, discriminator: Discriminator
) -> Params:
    """The discriminator's parameters in a checkpoint, on the first device.

    Raises:
        UserError: it can't be read.
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
    # Tracing one block takes a tenth of the time of tracing all blocks of a deep network.
    shallow = build_generator(shallow_config(network), generator.vocabulary)
    return deep_shapes(jax.eval_shape(shallow.init, jax.random.key(0), batch), network)
