"""A file of a teacher's most likely tokens at each token of a training text, for distillation without the teacher.

It is in the safetensors format, so that any program with the teacher can write it. For N texts of M target tokens:

    target_tokens   int [M]         the texts' token ids one after another, with their ends
    target_lengths  int [N]         how many of them each text has
    ids             int [M, K]      the teacher's K most likely tokens in place of each target token
    log_probs       float [M, K]    natural logarithms of their probabilities, at temperature 1
    prompt_tokens, prompt_lengths   of texts with prompts: the prompts' ids in the same way (may be left out)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import write_whole

# How far the K probabilities of a token may sum to more than 1, from rounding to float16.
_SLACK = 0.02
_MEND = "write it again, with this run's text, tokenizer and lengths"


class Tokens(NamedTuple):
    """Sequences, concatenated.

    Attributes:
        tokens: int [M].
        lengths: int [N], with sum M.
    """

    tokens: np.ndarray
    lengths: np.ndarray


class StoredTopK(NamedTuple):
    """A teacher's most likely tokens at each of M target tokens.

    Attributes:
        ids: int32 [M, K].
        log_probs: float16 or float32 [M, K].
    """

    ids: np.ndarray
    log_probs: np.ndarray


def write_top_k(path: Path, top_k: StoredTopK, targets: Tokens, prompts: Tokens | None) -> None:
    """Writes the file, all or nothing."""
    from safetensors.numpy import save

    arrays = {"target_tokens": targets.tokens, "target_lengths": targets.lengths, **top_k._asdict()}
    if prompts is not None:
        arrays |= {"prompt_tokens": prompts.tokens, "prompt_lengths": prompts.lengths}
    write_whole(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_top_k(path: Path, targets: Tokens, prompts: Tokens | None, vocabulary: int) -> StoredTopK:
    """Reads the file, which must belong to these texts.

    Args:
        path: of the file.
        targets: of the training text.
        prompts: of the training text, if it has any.
        vocabulary: the number of ids.

    Raises:
        UserError: no such file, another kind of file, other texts, or arrays that are not log-probabilities.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: Mapping[str, np.ndarray] = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; gptgan data CONFIG --top-k K --out FILE writes one") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no safetensors file ({error})") from None
    missing = {"target_tokens", "target_lengths", "ids", "log_probs"} - found.keys()
    if missing:
        raise UserError(f"{path}: it lacks the arrays {', '.join(sorted(missing))}")
    _check_same(path, "text", targets, Tokens(found["target_tokens"], found["target_lengths"]))
    if "prompt_tokens" in found and "prompt_lengths" in found:
        theirs = Tokens(found["prompt_tokens"], found["prompt_lengths"])
        if prompts is not None:
            _check_same(path, "prompt", prompts, theirs)
        elif len(theirs.tokens):
            raise UserError(f"{path}: its texts answer prompts, and the training text has none; {_MEND}")
    ids, log_probs = found["ids"], found["log_probs"]
    _check_probabilities(path, ids, log_probs, len(targets.tokens), vocabulary)
    return StoredTopK(ids.astype(np.int32), log_probs)


def _check_same(path: Path, what: str, mine: Tokens, theirs: Tokens) -> None:
    if len(mine.lengths) != len(theirs.lengths):
        raise UserError(f"{path}: it is of {len(theirs.lengths):,} texts, and {len(mine.lengths):,} train; {_MEND}")
    other = mine.lengths != theirs.lengths
    if not other.any() and len(mine.tokens) == len(theirs.tokens):
        changed = mine.tokens != theirs.tokens
        if not changed.any():
            return
        first = int(np.searchsorted(np.cumsum(mine.lengths), np.argmax(changed), side="right"))
    else:
        first = int(np.argmax(other))
    raise UserError(f"{path}: its {what} {first + 1} has other tokens than the training text's; {_MEND}")


def _check_probabilities(path: Path, ids: np.ndarray, log_probs: np.ndarray, tokens: int, vocabulary: int) -> None:
    if ids.ndim != 2 or ids.shape != log_probs.shape or len(ids) != tokens or not 0 < ids.shape[1] <= vocabulary:
        raise UserError(
            f"{path}: ids {list(ids.shape)} and log_probs {list(log_probs.shape)} should both be [{tokens}, K], with K "
            f"from 1 to {vocabulary}"
        )
    if not np.issubdtype(ids.dtype, np.integer) or not np.issubdtype(log_probs.dtype, np.floating):
        raise UserError(f"{path}: ids should be integers and log_probs floats, not {ids.dtype} and {log_probs.dtype}")
    ordered = np.sort(ids, axis=1)
    wrong = {
        f"an id that is not from 0 to {vocabulary - 1}": ((ids < 0) | (ids >= vocabulary)).any(axis=1),
        "an id twice": (ordered[:, 1:] == ordered[:, :-1]).any(axis=1),
        "a log-probability that is no number, or infinite": ~np.isfinite(log_probs).all(axis=1),
        "probabilities of more than 1 together": np.exp(log_probs.astype(np.float32)).sum(axis=1) > 1 + _SLACK,
    }
    for what, rows in wrong.items():
        if rows.any():
            raise UserError(f"{path}: row {int(np.argmax(rows))} has {what}")
