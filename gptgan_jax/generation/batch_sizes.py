"""How many texts are computed at once: limited by the requested number and by the memory for their logits."""

LOGITS_BYTES = 256_000_000
"""The most bytes of float32 logits that are held at once."""


def rows_at_once(batch_size: int, count: int, logits: int = 1) -> int:
    """The number of rows of a batch, at least 1.

    Args:
        batch_size: the requested size.
        count: the number of all texts.
        logits: the numbers in memory for each row, such as T * V.

    Returns:
        if not all fit, a nearby divisor of the batch size if there is one, so that devices can still share the batch.
    """
    asked = max(min(batch_size, count), 1)
    fits = max(LOGITS_BYTES // (4 * logits), 1)
    if asked <= fits:
        return asked
    divisor = max(size for size in range(1, fits + 1) if asked % size == 0)
    return divisor if 2 * divisor >= fits else fits
