"""What must be equal in all processes of a run: packages, code, configuration, text, tokenizer, start.

Large things are compared by their digests, so that each process can name what differs before anything is written.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import yaml

from gptgan_jax.checkpoints.checksums import CHECKSUMS_FILE
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import finished_steps
from gptgan_jax.config import Config
from gptgan_jax.config.estimators import CustomConfig, DistillConfig
from gptgan_jax.config.files import to_yaml
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.pretrained.hub import FILES, HUB, is_model, model_folder
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import START_FILE, TEACHER_FILE, RunFolder
from gptgan_jax.system.atomic_files import write_whole

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "datasets")
MODULES = {"orbax-checkpoint": "orbax.checkpoint"}
PACKAGE = Path(__file__).parents[1]
JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
)
PATHS = (
    "runs_folder",
    "init_from",
    "tokenizer.path",
    "checkpoints.folder",
    "objective.estimator.teacher",
    "objective.estimator.top_k_file",
    *(f"data.{name}" for name in ("path", "train", "valid", "test", "unlabelled")),
)
"""Keys of the configuration that are paths. Hosts may mount a shared disk at different paths, so what is read there is
compared instead."""
BLOCKS, BLOCK_BYTES = 64, 2**20
"""Number and size of the evenly spread parts of a weights file that are read: different weights differ in all."""


def fingerprint(experiment: Experiment, folder: RunFolder) -> dict[str, str]:
    """The values that processes compare, by name: in words, or a digest that begins with "#".

    Args:
        experiment: what this process loaded.
        folder: the run folder.
    """
    config, corpus = experiment.config, experiment.corpus
    facts = {**_versions(), "code of gptgan_jax": code_digest(PACKAGE)}
    if isinstance(config.objective.estimator, CustomConfig):
        facts |= _module(config.objective.estimator.factory.partition(":")[0])
    for reward in config.objective.rewards:
        if not reward.is_built_in:
            facts |= _module(reward.function.partition(":")[0])
    facts |= {f"setting {name}": str(getattr(jax.config, name, None)) for name in JAX_SETTINGS}
    facts |= _keys(config)
    texts: dict[str, list[str]] = {}
    for name, split in (("train", corpus.train), ("valid", corpus.valid), ("test", corpus.test)):
        if split is not None:
            # A split that no key names is held out from data.train.
            named = "sources" if corpus.parts else name if getattr(config.data, name, None) else "train"
            texts.setdefault(f"text of data.{named}", []).append(text_digest(split))
    facts |= {name: _digest(digest.encode() for digest in digests) for name, digests in texts.items()}
    facts["names of the classes"] = _digest([json.dumps(corpus.classes).encode()])
    facts["tokenizer"] = tokenizer_digest(experiment.tokenizer)
    encoded = (experiment.train, experiment.valid, experiment.test)
    if experiment.stores:
        facts["text of data.store"] = _digest(store.fingerprint.encode() for store in experiment.stores)
    facts["text as token ids"] = _digest(tokens_digest(split).encode() for split in encoded)
    if experiment.start is not None:
        facts["model behind init_from"] = _start(config)
    if (taught := teacher_digest(config)) is not None:
        facts["teacher of objective.estimator"] = taught
    there = finished_steps(folder.checkpoints_of(config))
    facts["run to go on with"] = f"step {there[-1][0]}" if there else "none"
    return facts


def teacher_digest(config: Config) -> str | None:
    """The digest of what a run is distilled from: a model's files, a run's checkpoint, or a file of likely tokens.

    None without a teacher. One that can't be read has the digest of nothing; loading it reports the error.
    """
    estimator = config.objective.estimator
    if not isinstance(estimator, DistillConfig) or not config.adversarial.steps:
        return None
    if estimator.top_k_file is not None:
        return weights_digest(path for path in (Path(estimator.top_k_file),) if path.is_file())
    if estimator.teacher is None:
        return None
    try:
        if is_model(estimator.teacher):
            return _model(estimator.teacher)
        return _checkpoint(estimator.teacher, estimator.teacher_checkpoint)
    except UserError:
        return _digest([])


def keep_teacher(folder: Path, config: Config) -> None:
    """Writes the digest of a run's teacher to the run folder, if it has one."""
    _keep(folder / TEACHER_FILE, teacher_digest(config))


def check_same_teacher(folder: Path, config: Config) -> None:
    """Raises UserError if a run would resume with another teacher than it began with."""
    if _kept(folder / TEACHER_FILE) not in (None, teacher_digest(config)):
        raise UserError(
            f"what objective.estimator distils from has changed since {folder} began; bring the old teacher back (of a "
            "run, teacher_checkpoint can name a step), or choose another --name"
        )


def start_digest(config: Config) -> str | None:
    """The digest of the checkpoint of another run, or of the files of a model, that a run starts from.

    None if it starts from neither, from a model of the hub, which would be downloaded for it, or from what can't be
    read, such as a run that is gone.
    """
    if config.init_from is None or config.init_from.startswith(HUB):
        return None
    try:
        if is_model(config.init_from):
            return _model(config.init_from)
        return _checkpoint(config.init_from, config.init_checkpoint)
    except UserError:
        return None


def keep_start(folder: Path, config: Config) -> None:
    """Writes the digest of what a new run starts from to the run folder, if `start_digest` knows it."""
    _keep(folder / START_FILE, start_digest(config))


def is_other_start(folder: Path, config: Config, gone: bool = False) -> bool:
    """Whether `init_from` has another checkpoint to start from, or other weights, than when the run in a folder began.

    Args:
        folder: of the run. Of one that an earlier version began, this is not known, and not said.
        config: of the run.
        gone: the answer if there is nothing to start from any more; a run itself does without.
    """
    kept = _kept(folder / START_FILE)
    if kept is None:
        return False
    now = start_digest(config)
    return gone if now is None else now != kept


def check_starts(configs: Iterable[Config]) -> None:
    """Raises UserError, with a line for each, if runs that are begun can't be compared with others of their start.

    A run without likelihood training of its own is compared with its start: `init_from` has another checkpoint now, or
    will have, once the run that is missing is trained again. Others are compared with each other: if some have yet to
    begin, these would start from something else.
    """
    runs = [(RunFolder.of(config), config) for config in configs]
    new = any(config.likelihood.steps and not folder.config_file.exists() for folder, config in runs)
    lines = [
        _other_start(folder.path, config)
        for folder, config in runs
        if (new or not config.likelihood.steps)
        and is_other_start(folder.path, config, gone=not config.likelihood.steps)
    ]
    if lines:
        raise UserError("\n".join(lines))


def check_same_start(folder: Path, config: Config) -> None:
    """Raises UserError if a run is to be used again beside its start, which has another checkpoint now.

    A start that is gone is not missed, as the run has its parameters. A run with likelihood training of its own may be
    used in any case: it is compared with others of the same training, and not with its start.
    """
    if not config.likelihood.steps and is_other_start(folder, config):
        raise UserError(_other_start(folder, config))


def _other_start(folder: Path, config: Config) -> str:
    what = "weights" if is_model(config.init_from) else "a checkpoint"
    return (
        f"{folder} began from {what} that {config.init_from} no longer has; bring that back, or remove {folder} "
        "too, and it is trained anew"
    )


def _keep(file: Path, digest: str | None) -> None:
    """Writes a digest to a file of a run folder, if there is one."""
    if digest is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, f"{digest}\n".encode())


def _kept(file: Path) -> str | None:
    return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else None


def _checkpoint(run: str, wanted: str) -> str:
    """The digest of the name and the checksums of a run's checkpoint, as `Checkpoints.choose` finds it."""
    checkpoints = RunFolder(Path(run)).checkpoints
    with Checkpoints(checkpoints, read_only=True) as there:
        saved = there.choose(wanted)
    file = checkpoints / saved.phase / str(saved.step) / CHECKSUMS_FILE
    return _digest([f"{saved.phase}/{saved.step}".encode(), file.read_bytes() if file.exists() else b""])


def text_digest(split: Split) -> str:
    """The digest of documents in their order, with prompts, labels and answers."""

    def parts() -> Iterator[bytes]:
        for texts in (split.texts, split.prompts, split.answers):
            for text in texts or ():
                yield text.encode() if isinstance(text, str) else repr(text).encode()
            yield b""
        for array in (split.labels, split.tokens):
            yield b"" if array is None else np.ascontiguousarray(array).tobytes()
        if split.columns:
            yield repr(split.columns).encode()

    return _digest(parts())


def tokens_digest(split: TokenisedSplit) -> str:
    """The digest of the token ids of documents and prompts."""
    ragged = [part for part in (split.targets, split.prompts) if part is not None]
    return _digest(np.ascontiguousarray(array).tobytes() for part in ragged for array in (part.tokens, part.offsets))


def tokenizer_digest(tokenizer: AnyTokenizer) -> str:
    """The digest of the files in which it is saved."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return _digest(_contents(Path(folder), "*"))


def code_digest(folder: Path) -> str:
    """The digest of the Python files in a folder, at any depth."""
    return _digest(_contents(folder, "*.py"))


def weights_digest(paths: Iterable[Path]) -> str:
    """The digest of files by their names, sizes and `BLOCKS` parts of their bytes."""

    def parts() -> Iterator[bytes]:
        for path in paths:
            size = path.stat().st_size
            yield f"{path.name} {size}".encode()
            with path.open("rb") as file:
                for place in sorted({size * i // BLOCKS for i in range(BLOCKS)} | {max(0, size - BLOCK_BYTES)}):
                    file.seek(place)
                    yield file.read(BLOCK_BYTES)

    return _digest(parts())


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version().rpartition(".")[0]}
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        # The imported package may be another copy than the installed one.
        imported = getattr(sys.modules.get(MODULES.get(name, name)), "__version__", version)
        found[name] = version if imported == version else f"{version}, imported {imported}"
    return found


def _module(name: str) -> dict[str, str]:
    """The digest of a module of the user's."""
    spec = importlib.util.find_spec(name)
    file = None if spec is None or spec.origin is None else Path(spec.origin)
    return {f"code of {name}": "none" if file is None else _digest([file.read_bytes()])}


def _keys(config: Config) -> dict[str, str]:
    """Every key of the configuration with its value, except for `PATHS`."""

    def flat(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in tree.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                value = {str(i): one for i, one in enumerate(value)}
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            elif re.sub(r"^data\.sources\.\d+\.", "data.", f"{prefix}{name}") not in PATHS:
                yield f"{prefix}{name}", json.dumps(value)

    return dict(flat(yaml.safe_load(to_yaml(config)), ""))


def _start(config: Config) -> str:
    """The digest of the model's files, or of the checksums of the other run's checkpoints."""
    assert config.init_from is not None
    if is_model(config.init_from):
        return _model(config.init_from)
    checkpoints = RunFolder(Path(config.init_from)).checkpoints
    files = [checkpoints / phase / str(step) / CHECKSUMS_FILE for step, phase in finished_steps(checkpoints)]
    return _digest(file.read_bytes() if file.exists() else b"" for file in files)


def _model(name: str) -> str:
    """The digest of a model's files."""
    place = model_folder(name)
    return weights_digest(sorted({path for pattern in FILES for path in place.glob(pattern)}))


def _contents(folder: Path, pattern: str) -> Iterator[bytes]:
    for path in sorted(folder.rglob(pattern)):
        if path.is_file():
            yield str(path.relative_to(folder)).encode()
            yield path.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    """The digest of byte strings, with their boundaries."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return f"#{digest.hexdigest()}"
