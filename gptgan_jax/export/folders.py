"""`gptgan export`: writes a run's generator to a new folder, in a format for other programs. All or nothing."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.export import saved_model, stablehlo
from gptgan_jax.export.card import model_card
from gptgan_jax.layers.lora import LoraConfig, merged
from gptgan_jax.models.generators import build_generator
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.families import family_of
from gptgan_jax.pretrained.huggingface import save_model
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.trained import Writer, load_params, load_writer
from gptgan_jax.system.atomic_files import whole_folder, write_whole
from gptgan_jax.types import Params

CARD_FILE = "README.md"
HF_USE = """\
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

# AutoTokenizer of transformers 5 would make any tokenizer of a Qwen2 that of Qwen2 itself.
model, tokenizer = (kind.from_pretrained(".") for kind in (AutoModelForCausalLM, PreTrainedTokenizerFast))
prompt = tokenizer([""], return_tensors="pt", return_token_type_ids=False)  # or what the texts begin with
written = model.generate(**prompt, max_new_tokens=LENGTH, do_sample=True, top_k=0)
print(tokenizer.batch_decode(written, skip_special_tokens=True))
"""
CHAT_USE = """\
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

# AutoTokenizer of transformers 5 would make any tokenizer of a Qwen2 that of Qwen2 itself.
model, tokenizer = (kind.from_pretrained(".") for kind in (AutoModelForCausalLM, PreTrainedTokenizerFast))
messages = [{"role": "user", "content": "Hello"}]  # what is asked
prompt = tokenizer.apply_chat_template(messages, OPTIONS, return_tensors="pt", return_dict=True)
written = model.generate(**prompt, max_new_tokens=LENGTH, do_sample=True, top_k=0)
print(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Format:
    """A way to export.

    Attributes:
        check: raises UserError if a run can't be exported in this format.
        write: (folder, run, parameters).
        use: a Python program that generates a text; BOS and LENGTH in it are replaced by numbers.
    """

    check: Callable[[Writer], object]
    write: Callable[[Path, Writer, Params], None]
    use: str


def _save_hf(folder: Path, run: Writer, params: Params) -> None:
    save_model(folder, run.generator, params, run.tokenizer, prompts=run.conditional)


def _save_stablehlo(folder: Path, run: Writer, params: Params) -> None:
    stablehlo.save_stablehlo(folder, run.generator, params, run.config.data.max_length)
    run.tokenizer.save(folder)


def _save_saved_model(folder: Path, run: Writer, params: Params) -> None:
    saved_model.save_saved_model(folder, run.generator, params, run.config.data.max_length)
    run.tokenizer.save(folder)


FORMATS: dict[str, Format] = {
    "hf": Format(lambda run: family_of(run.generator.config), _save_hf, HF_USE),
    "stablehlo": Format(lambda run: stablehlo.check_available(), _save_stablehlo, stablehlo.USE),
    "savedmodel": Format(lambda run: saved_model.check_available(), _save_saved_model, saved_model.USE),
}


def export_run(folder: RunFolder, kind: str, out: Path | None = None, checkpoint: str = "best") -> Path:
    """Writes a run's generator into a new folder.

    Args:
        folder: of the run.
        kind: a key of `FORMATS`.
        out: the new folder; by default RUN/export/KIND.
        checkpoint: best, last, a phase or a step.

    Returns:
        the new folder.

    Raises:
        UserError: no such run or checkpoint, a generator that the format does not support, a missing package, or a
            folder that exists or can't be written. Nothing is left behind then.
    """
    run = load_writer(folder)
    form = FORMATS[kind]
    try:
        form.check(run)
    except UserError as error:
        raise UserError(f"{folder.path} --to {kind}: {error}") from None
    if out is None:
        out = folder.path / "export" / kind
        if out.parent.is_symlink():
            raise UserError(f"{out.parent} is a symbolic link; name another folder with --out, or remove it")
    if os.path.lexists(out):  # unlike Path.exists, it does not raise for a name that is too long
        raise UserError(f"{out} exists; name another folder with --out, or remove it")
    evaluation = Evaluation.load(folder.path)
    params, saved = load_params(folder, run, checkpoint)
    run, params = alone(run, params)
    use = _chat_use(run) if kind == "hf" and run.chat else form.use
    if run.conditional and not run.chat:
        use = use.replace('tokenizer([""]', 'tokenizer(["What is asked"]')  # if prompts have no BOS, "" would be empty
    use = use.replace("BOS]", f"{run.generator.vocabulary.bos_id}]")
    use = use.replace("LENGTH", str(run.config.data.max_length))
    card = model_card(kind, run.config, params, saved, evaluation, use)
    with whole_folder(out) as unfinished:
        form.write(unfinished, run, params)
        write_whole(unfinished / CARD_FILE, card.encode())
    return out


def _chat_use(run: Writer) -> str:
    """A program that uses the chat template."""
    template = getattr(run.tokenizer, "chat_template", None)
    options = {"add_generation_prompt": True} | dict(template.options if template else ())
    return CHAT_USE.replace("OPTIONS", ", ".join(f"{name}={value!r}" for name, value in options.items()))


def alone(run: Writer, params: Params) -> tuple[Writer, Params]:
    """The run with a generator that other programs can read, and its parameters: adapters are merged into the weights,
    and attention is dense, as a kernel's blocks fit only one length of prompt.

    The run's configuration stays as it is: it documents how the weights were trained.
    """
    network = run.config.generator
    plain = replace(network, lora=LoraConfig())
    if isinstance(plain, TransformerConfig):
        plain = replace(plain, attention="dense")
    if plain == network:
        return run, params
    generator = build_generator(plain, run.generator.vocabulary)
    return replace(run, generator=generator), merged(params, network.lora) if network.lora.rank else params
