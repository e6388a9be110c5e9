"""How many texts are computed at once: no more than are asked for, and no more than there is room for their logits."""

LOGITS_BYTES = 256_000_000
"""The most bytes of float32 logits that are held at once."""


def rows_at_once(batch_size: int, count: int, logits: int = 1) -> int:
    """Rows of a batch, from 1 on.

    Args:
        batch_size: that is asked for.
        count: of all texts.
        logits: numbers that are held for each row, such as T * V.

    Returns:
        where not all fit, a divisor of the batch size if one is near, so that devices that share it still can.
    """
    asked = max(min(batch_size, count), 1)
    fits = max(LOGITS_BYTES // (4 * logits), 1)
    if asked <= fits:
        return asked
    divisor = max(size for size in range(1, fits + 1) if asked % size == 0)
    return divisor if 2 * divisor >= fits else fits
