"""The text that a run is evaluated on, saved in its folder, so that the run can be evaluated without its data files."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptgan_jax.data.encoding import Ragged, Sources, TokenisedSplit
from gptgan_jax.errors import UserError
from gptgan_jax.mixtures.splits import mixed_order
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import HELD_OUT_FILE
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.sources.oracle import Oracle
from gptgan_jax.sources.pcfg import PCFG
from gptgan_jax.system.atomic_files import whole_file
from gptgan_jax.types import Vocabulary

TRAINING_TEXTS = 20_000
# Attributes of a split, besides its texts, that are saved.
TOLD = ("prompt_keep", "unknown_tokens", "truncated_prompts", "cut_share")


@dataclass(frozen=True, eq=False)
class HeldOutText:
    """What a run is evaluated on.

    Attributes:
        test: the encoded test split.
        valid: the encoded validation split; the same as `test` if there is no test text.
        train: at most 20,000 random training texts (of a mixture, in its proportions), to train the models that score
            samples.
        split: the name of `test`: test, or valid if there is no test text.
        training_hashes: uint64 [N], sorted, of the training texts as the tokenizer decodes them.
        source: where the text comes from, if it knows exact probabilities.
        notes: one line each on text that was skipped, cut off or unknown.
        fingerprint: of the encoded training and validation text.
    """

    test: TokenisedSplit
    valid: TokenisedSplit
    train: TokenisedSplit
    split: str
    training_hashes: np.ndarray
    source: PCFG | Oracle | None
    notes: tuple[str, ...]
    fingerprint: str

    def copied(self, texts: Iterable[str]) -> np.ndarray:
        """Which texts occur in the training text, word for word: bool [N]."""
        return np.isin(text_hashes(texts), self.training_hashes)


def held_out_of(experiment: Experiment) -> HeldOutText:
    """The held-out text of an experiment."""
    train = experiment.train.targets
    texts = (experiment.tokenizer.decode(train[i].tolist()) for i in range(len(train)))
    # The same for every seed of a run, so that all are evaluated in the same way.
    chosen = np.random.default_rng(0).permutation(len(train))
    if (sources := experiment.train.sources) is not None:
        chosen = chosen[mixed_order(sources.of[chosen], sources.shares)]
    return HeldOutText(
        test=experiment.test,
        valid=experiment.valid,
        train=experiment.train.subset(np.sort(chosen[:TRAINING_TEXTS])),
        split="valid" if experiment.corpus.test is None else "test",
        training_hashes=np.unique(text_hashes(texts)),
        source=experiment.corpus.source,
        notes=experiment.notes,
        fingerprint=_fingerprint(experiment),
    )


def save_held_out(folder: Path, text: HeldOutText) -> None:
    """Writes held_out.npz into a run folder, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    splits = {"test": text.test, "train": text.train} | ({"valid": text.valid} if text.split == "test" else {})
    for name, split in splits.items():
        for part, ragged in (("target", split.targets), ("prompt", split.prompts)):
            if ragged is not None:
                arrays |= {f"{name}_{part}_tokens": ragged.tokens, f"{name}_{part}_offsets": ragged.offsets}
        if split.labels is not None:
            arrays[f"{name}_labels"] = split.labels
        if split.before is not None:
            arrays[f"{name}_before"] = split.before
        if split.sources is not None:
            arrays[f"{name}_sources"] = split.sources.of
        if split.answers is not None:
            arrays[f"{name}_answers"] = np.frombuffer(json.dumps(split.answers).encode(), np.uint8)
        if split.asked is not None:
            arrays[f"{name}_asked"] = np.frombuffer(json.dumps(split.asked).encode(), np.uint8)
    if isinstance(text.source, Oracle):
        arrays |= {f"oracle_{name}": np.asarray(array) for name, array in text.source.params.items()}
    facts = {
        "split": text.split,
        "source": type(text.source).__name__,
        "notes": text.notes,
        "fingerprint": text.fingerprint,
        "max_length": text.test.max_length,
        "max_prompt_length": text.test.max_prompt_length,
        "truncated_targets": {name: split.truncated_targets for name, split in splits.items()},
        "told": {name: {what: getattr(split, what) for what in TOLD} for name, split in splits.items()},
    }
    if (sources := text.test.sources) is not None:
        facts["sources"] = {"names": sources.names, "weights": sources.weights, "shares": sources.shares}
    arrays |= {"training_hashes": text.training_hashes, "facts": np.array(json.dumps(facts))}
    with whole_file(folder / HELD_OUT_FILE) as file:
        np.savez_compressed(file, **arrays)


def load_held_out(folder: Path, vocabulary: Vocabulary) -> HeldOutText:
    """Reads what `save_held_out` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / HELD_OUT_FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
        facts = json.loads(str(arrays["facts"]))

        sources: dict[str, Any] = {name: tuple(values) for name, values in facts.get("sources", {}).items()}

        def split(name: str) -> TokenisedSplit:
            prompts = f"{name}_prompt_tokens"
            answers, asked = (arrays.get(f"{name}_{what}") for what in ("answers", "asked"))
            return TokenisedSplit(
                targets=Ragged(arrays[f"{name}_target_tokens"], arrays[f"{name}_target_offsets"]),
                prompts=Ragged(arrays[prompts], arrays[f"{name}_prompt_offsets"]) if prompts in arrays else None,
                labels=arrays.get(f"{name}_labels"),
                before=arrays.get(f"{name}_before"),
                sources=Sources(arrays[f"{name}_sources"], **sources) if sources else None,
                vocabulary=vocabulary,
                max_length=facts["max_length"],
                max_prompt_length=facts["max_prompt_length"],
                truncated_targets=facts["truncated_targets"][name],
                **facts.get("told", {}).get(name, {}),
                answers=None if answers is None else tuple(json.loads(answers.tobytes())),
                asked=None if asked is None else tuple(json.loads(asked.tobytes())),
            )

        test = split("test")
        valid = split("valid") if facts["split"] == "test" else test
        oracle = {name.removeprefix("oracle_"): arrays[name] for name in arrays if name.startswith("oracle_")}
        source = english_scenes() if facts["source"] == "PCFG" else Oracle(oracle) if oracle else None
        hashes, notes = arrays["training_hashes"], tuple(facts["notes"])
        return HeldOutText(
            test=test,
            valid=valid,
            train=split("train"),
            split=facts["split"],
            training_hashes=hashes,
            source=source,
            notes=notes,
            fingerprint=facts["fingerprint"],
        )
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the text that this run is evaluated on") from None
    except Exception as error:  # NumPy raises a dozen kinds here: bad zip, no data, an object array, ...
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:120]})") from None


def check_same_text(folder: Path, experiment: Experiment) -> None:
    """Raises UserError if a run would resume with other text than it began with."""
    kept = load_held_out(folder, experiment.generator.vocabulary)
    if kept.fingerprint != _fingerprint(experiment):
        raise UserError(
            f"the text behind data.train or data.valid has changed since {folder} began; "
            "bring the old text back, or choose another --name (a run that a version before 0.2 began goes on with "
            "--data.long_documents cut)"
        )


def same_held_out(one: Path, other: Path) -> bool:
    """Whether two run folders hold the same text for evaluation, token for token, and the same source of it."""
    digest = held_out_digest(one)
    return digest is not None and digest == held_out_digest(other)


def held_out_digest(folder: Path) -> str | None:
    """The digest of the text that a run folder holds, equal for runs on the same text; None if it can't be read."""
    try:
        with np.load(folder / HELD_OUT_FILE, allow_pickle=False) as file:
            arrays: dict[str, Any] = dict(file)
        facts = json.loads(str(arrays.pop("facts")))
    except Exception:  # as in `load_held_out`
        return None
    # Notes, such as on where the tokenizer comes from, don't matter.
    facts.pop("notes", None)
    if "test_answers" in arrays:
        # Nor do right answers to training prompts, which only runs with rewards keep.
        facts.pop("fingerprint", None)
        arrays.pop("train_answers", None)
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def text_hashes(texts: Iterable[str]) -> np.ndarray:
    """uint64 [N]: the first 8 bytes of each text's BLAKE2b."""
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def _fingerprint(experiment: Experiment) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for fingerprint in experiment.of_stores:
        digest.update(fingerprint.encode())
    for split in (experiment.train, experiment.valid):
        for ragged in (split.targets, split.prompts):
            if ragged is not None:
                digest.update(ragged.tokens.tobytes() + ragged.offsets.tobytes())
        for more in (split.labels, split.before):
            if more is not None:
                digest.update(more.tobytes())
        # Read by rewards and task metrics, but not part of the tokens.
        for told in (split.answers, split.asked, split.columns or None):
            if told is not None:
                digest.update(repr(told).encode())
    return digest.hexdigest()
