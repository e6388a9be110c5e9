"""`gptgan export`: a run's generator in a folder of its own, as other programs read it. All of it, or nothing."""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

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
from gptgan_jax.system.atomic_files import write_whole
from gptgan_jax.types import Params

CARD_FILE = "README.md"
HF_USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained(".") for kind in (AutoModelForCausalLM, AutoTokenizer))
prompt = tokenizer([""], return_tensors="pt", return_token_type_ids=False)  # or what the texts begin with
written = model.generate(**prompt, max_new_tokens=LENGTH, do_sample=True, top_k=0)
print(tokenizer.batch_decode(written, skip_special_tokens=True))
"""
CHAT_USE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained(".") for kind in (AutoModelForCausalLM, AutoTokenizer))
messages = [{"role": "user", "content": "Hello"}]  # what is asked
prompt = tokenizer.apply_chat_template(messages, OPTIONS, return_tensors="pt", return_dict=True)
written = model.generate(**prompt, max_new_tokens=LENGTH, do_sample=True, top_k=0)
print(tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


@dataclass(frozen=True)
class Format:
    """A way to export.

    Attributes:
        check: raises UserError where a run can't be exported so.
        write: (folder, run, parameters).
        use: a Python program that writes a text; in it BOS and LENGTH stand for numbers.
    """

    check: Callable[[Writer], object]
    write: Callable[[Path, Writer, Params], None]
    use: str


def _save_hf(folder: Path, run: Writer, params: Params) -> None:
    save_model(folder, run.generator, params, run.tokenizer)


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
        UserError: where there is no such run or checkpoint, the format has no place for this generator, what it takes
            is not installed, or the folder exists or can't be written. Nothing is left of it then.
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
    if os.path.lexists(out):  # unlike Path.exists, not of a name that is too long
        raise UserError(f"{out} exists; name another folder with --out, or remove it")
    evaluation = Evaluation.load(folder.path)
    params, saved = load_params(folder, run, checkpoint)
    run, params = alone(run, params)
    use = _chat_use(run) if kind == "hf" and run.chat else form.use
    use = use.replace("BOS]", f"{run.generator.vocabulary.bos_id}]")
    use = use.replace("LENGTH", str(run.config.data.max_length))
    card = model_card(kind, run.config, params, saved, evaluation, use)
    _write(out, lambda folder: form.write(folder, run, params), card)
    return out


def _chat_use(run: Writer) -> str:
    """A program that asks by the chat template."""
    template = getattr(run.tokenizer, "chat_template", None)
    options = {"add_generation_prompt": True} | dict(template.options if template else ())
    return CHAT_USE.replace("OPTIONS", ", ".join(f"{name}={value!r}" for name, value in options.items()))


def alone(run: Writer, params: Params) -> tuple[Writer, Params]:
    """The run with a generator that others can read, and its parameters: adapters are merged into what they adapt, and
    attention is dense, as a kernel's blocks are of one length of prompt and the program is of all.

    The run's configuration stays as it is: it says how the weights came to be.
    """
    network = run.config.generator
    plain = replace(network, lora=LoraConfig())
    if isinstance(plain, TransformerConfig):
        plain = replace(plain, attention="dense")
    if plain == network:
        return run, params
    generator = build_generator(plain, run.generator.vocabulary)
    return replace(run, generator=generator), merged(params, network.lora) if network.lora.rank else params


def _write(out: Path, write: Callable[[Path], None], card: str) -> None:
    """Makes a folder by one rename; whatever goes wrong before leaves nothing behind."""
    parents = [folder for folder in out.absolute().parents if not os.path.lexists(folder)]
    temporary = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        write_whole(temporary / CARD_FILE, card.encode())
        temporary.rename(out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            for folder in parents:
                folder.rmdir()
        if not isinstance(error, OSError | SafetensorError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise UserError(f"{out} can't be written ({reason}); name another folder with --out") from error
