"""Trained networks for your own programs: functions and parameters from a run folder or a Hugging Face model."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.models.generators import Generator
from gptgan_jax.types import Params

if TYPE_CHECKING:  # imported only where it is needed
    from gptgan_jax.config import Config
    from gptgan_jax.data.tokenizers import AnyTokenizer


@suggests_names
class Loaded(NamedTuple):
    """A trained generator, and the discriminator that was trained against it.

    Attributes:
        generator, params: the network and its parameters, on this process's first device; the moving average if the run
            keeps one.
        tokenizer: from text to token ids and back: encode, decode, encode_batch.
        discriminator, discriminator_params: the same for the discriminator; None if it was never trained, and for a
            pre-trained model.
        config: of the run; for a model, that of a run that would use it unchanged.

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
        checkpoint: of a run: best, last, a phase (its best) or a step. The discriminator is taken from the same
            checkpoint if it was trained by then, otherwise from the last phase that trained it.

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
            with contextlib.suppress(UserError):  # that checkpoint may not have one yet
                saved = choose_detector(checkpoints, checkpoint)
            if saved is not None:
                of_discriminator = restore_discriminator(checkpoints, saved, run.config, run.discriminator)
                discriminator = run.discriminator
    return Loaded(run.generator, params, run.tokenizer, discriminator, of_discriminator, run.config)


@suggests_names
def save(folder: str | Path, generator: Generator, params: Params, tokenizer: "AnyTokenizer") -> None:
    """Saves a generator as a Hugging Face model, which `load("hf:FOLDER")` and `transformers` read.

    Args:
        folder: a new folder.
        generator, params: a decoder-only Transformer and its parameters, without adapters (see `gg.merged`).
        tokenizer: of the generator's token ids.

    Raises:
        UserError: the folder exists or can't be written, or Hugging Face has no layout for such a network. Nothing is
            left behind in that case.

    Example:
        >>> loaded = gg.load("hf:model")
        >>> gg.save("copy", loaded.generator, loaded.params, loaded.tokenizer)
        >>> gg.parameter_count(gg.load("hf:copy").params) == gg.parameter_count(loaded.params)
        True
    """
    from gptgan_jax.pretrained.families import family_of
    from gptgan_jax.pretrained.huggingface import save_model
    from gptgan_jax.system.atomic_files import whole_folder

    path = Path(folder)
    if path.exists():
        raise UserError(f"{path} exists; name a new folder")
    family_of(generator.config)
    with whole_folder(path) as unfinished:
        save_model(unfinished, generator, params, tokenizer)
