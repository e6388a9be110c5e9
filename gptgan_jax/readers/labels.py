"""Labels of rows as numbers of classes."""

from collections.abc import Sequence

import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import as_label
from gptgan_jax.readers.documents import Table


def check_classes(classes: Sequence[str]) -> None:
    """Raises UserError for names of classes that no label can have, or several."""
    if len(set(classes)) < len(classes):
        raise UserError("data.classes: a name stands there twice; leave one out")
    for name in classes:
        if as_label(name) is None:
            raise UserError(
                f"data.classes: {name!r} in a row means no label; call that class otherwise, in the rows too"
            )


def class_ids(where: str, table: Table, classes: Sequence[str], whose: str) -> np.ndarray | None:
    """Labels as int32 [N], indices into the classes, -1 for no label.

    Args:
        where: the source, for messages.
        table: its rows.
        classes: by default those of the training rows (including held-out ones).
        whose: the origin of the classes, for messages.

    Raises:
        UserError: no label at all, or one that is not among the classes.
    """
    if table.labels is None:
        return None
    if not classes:
        raise UserError(f"{where}: no row of it has a label; leave data.label_column out")
    ids = {name: i for i, name in enumerate(classes)}
    for place, label in zip(table.places, table.labels, strict=True):
        if label is not None and label not in ids:
            raise UserError(f"{where}, {place}: label {label!r} is none of the {whose}: {', '.join(ids)}")
    return np.array([-1 if label is None else ids[label] for label in table.labels], np.int32)
