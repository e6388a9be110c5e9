"""Trained networks for programs of one's own: from a run folder or a Hugging Face model to functions and parameters."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.types import Params

if TYPE_CHECKING:  # the shell around the networks is imported where it is needed
    from gptgan_jax.config import Config
    from gptgan_jax.data.tokenizers import AnyTokenizer


@suggests_names
class Loaded(NamedTuple):
    """A trained generator, and the discriminator that was trained against it.

    Attributes:
        generator, params: the network and its parameters, on this process's first device; of a run that keeps an
            average of them, the average.
        tokenizer: from text to token ids and back: encode, decode, encode_batch.
        discriminator, discriminator_params: the same of the other player; None where it was never trained, and of a
            model.
        config: of the run; of a model, that of a run that would use it as it is.

    Example:
        >>> loaded = gg.load("hf:model")
        >>> batch = gg.unconditional_batch(jnp.array([[3, 4]]), loaded.generator.vocabulary)
        >>> gg.log_probs(loaded.generator, loaded.params, batch).shape
        (1, 2)
    """

    generator: Generator
    params: Params
    tokenizer: "AnyTokenizer"
    discriminator: Discriminator | None
    discriminator_params: Params | None
    config: "Config"


@suggests_names
def load(source: str | Path, checkpoint: str = "best") -> Loaded:
    """Loads a run or a model.

        run = gg.load("runs/quickstart")
        prompt = jnp.full((4, 1), run.generator.vocabulary.bos_id)
        texts = gg.sample(run.generator, run.params, jax.random.key(0), prompt, jnp.ones((4, 1), bool), 20)
        print([run.tokenizer.decode(ids) for ids in texts.tokens])

    Args:
        source: a run folder, hf:FOLDER of a Hugging Face model, gguf:FILE, or hub:NAME[@REVISION].
        checkpoint: of a run: best, last, a phase (its best) or a step. The discriminator is that of the same
            checkpoint where it was trained by then, else that of the last phase that trained it.

    Raises:
        UserError: no such run, checkpoint or model.

    Example:
        >>> loaded = gg.load("hf:model")
        >>> type(loaded.generator.config).__name__, loaded.discriminator is None
        ('TransformerConfig', True)
    """
    from gptgan_jax.checkpoints.manager import Checkpoints
    from gptgan_jax.pretrained.hub import is_model
    from gptgan_jax.runs.folder import RunFolder
    from gptgan_jax.runs.pretrained import load_generator
    from gptgan_jax.runs.trained import restore_discriminator
    from gptgan_jax.scoring.token_scores import choose_detector, problem_of_discriminator

    name = str(source)
    run, params, _ = load_generator(name, checkpoint, conditional=False)
    discriminator: Discriminator | None = None
    of_discriminator: Params | None = None
    folder = RunFolder(Path(name))
    if not is_model(name) and problem_of_discriminator(folder, run.config) is None:
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
            saved = checkpoints.best("adversarial") or checkpoints.best("warmup")
            with contextlib.suppress(UserError):  # where that checkpoint has none yet
                saved = choose_detector(checkpoints, checkpoint)
            if saved is not None:
                of_discriminator = restore_discriminator(checkpoints, saved, run.config, run.discriminator)
                discriminator = run.discriminator
    return Loaded(run.generator, params, run.tokenizer, discriminator, of_discriminator, run.config)


@suggests_names
def save(folder: str | Path, generator: Generator, params: Params, tokenizer: "AnyTokenizer") -> None:
    """Writes a generator as a Hugging Face model, which `load("hf:FOLDER")` and `transformers` read.

    Args:
        folder: a new one.
        generator, params: a decoder-only Transformer and its parameters, without adapters (`gg.merged`).
        tokenizer: whose ids it knows.

    Raises:
        UserError: the folder exists, or Hugging Face has no layout for such a network.

    Example:
        >>> loaded = gg.load("hf:model")
        >>> gg.save("copy", loaded.generator, loaded.params, loaded.tokenizer)
        >>> gg.parameter_count(gg.load("hf:copy").params) == gg.parameter_count(loaded.params)
        True
    """
    from gptgan_jax.pretrained.families import family_of
    from gptgan_jax.pretrained.huggingface import save_model

    path = Path(folder)
    if path.exists():
        raise UserError(f"{path} exists; name a new folder")
    family_of(generator.config)
    path.mkdir(parents=True)
    save_model(path, generator, params, tokenizer)
