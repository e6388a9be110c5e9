"""A Hugging Face model used as it came: its configuration, tokenizer, network and parameters, as a run has them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gptgan_jax.config import Config
from gptgan_jax.config.checking import config_from
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.families import CONFIG_FILE, read_network
from gptgan_jax.pretrained.hub import is_model, model_folder
from gptgan_jax.runs.experiment import for_prompts, load_start
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import Writer, build_networks, load_params, load_writer
from gptgan_jax.types import Params

# In tokens, where the model has positions enough.
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
    """The generator of a run, or a model.

    Args:
        name: a run folder, hf:FOLDER, gguf:FILE or hub:NAME.
        checkpoint: of a run, as `Checkpoints.choose` takes it.
        longest_prompt, longest: of a model, the longest prompt and text in tokens; None for what its positions allow,
            512 and 256 at most. A run has its own.
        conditional: of a model, whether it answers prompts, by its chat template where it has one.
        check: raises where the run is of no use, before a large model is read.

    Raises:
        UserError: no such run, checkpoint or model, or settings that are not for it.
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
    tokenizer = for_prompts(config, start.tokenizer) if conditional else start.tokenizer
    run = Writer(config, tokenizer, *build_networks(config, tokenizer.vocabulary))
    check(run)
    return Loaded(run, start.params(), name)


def _config(name: str, longest_prompt: int | None, longest: int | None, conditional: bool) -> Config:
    """The configuration of a run that would use the model as it is."""
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
