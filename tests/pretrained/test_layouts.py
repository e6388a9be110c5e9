"""Each layout puts a parameter into another program's tensors and reads any part of it back, and no more than that."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.pretrained import layouts
from gptgan_jax.pretrained.layouts import Heads, Index, Layout, Plain, Stacked

QKV = ("q", "k", "v")
LAYOUTS: dict[str, tuple[Layout, tuple[int, ...]]] = {
    "plain": (Plain("a"), (4, 6)),
    "vector": (Plain("a"), (5,)),
    "transposed": (Plain("a", transposed=True), (4, 6)),
    "heads": (Heads(QKV, True, 2, 3, 2), (4, 20)),
    "bias of heads": (Heads(QKV, False, 2, 3, 2), (20,)),
    "heads in one": (Heads(("c",), False, 4, 1, 3), (5, 36)),
    "bias of heads in one": (Heads(("c",), False, 4, 1, 3), (36,)),
    "stacked": (Stacked([Heads(tuple(f"{i}{name}" for name in QKV), True, 1, 2, 2) for i in range(3)]), (3, 4, 8)),
}


class InMemory:
    """Tensors that count the numbers that are read of them."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.count = 0

    def read(self, name: str, index: Index) -> np.ndarray:
        part = self.tensors[name][index]
        self.count += part.size
        return part


@pytest.mark.parametrize("name", LAYOUTS)
@given(st.data())
def test_any_part_is_read_back_and_hardly_more(name: str, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Seven numbers at once: a row or two of the tensors, so that the last part is smaller than the others.
        patch.setattr(layouts, "AT_ONCE", data.draw(st.sampled_from([7, layouts.AT_ONCE])))
        read_back(name, data)


def read_back(name: str, data: st.DataObject) -> None:
    layout, shape = LAYOUTS[name]
    whole = np.arange(np.prod(shape)).reshape(shape)
    tensors = InMemory(layout.split(whole))
    assert {key: one.shape for key, one in tensors.tensors.items()} == layout.theirs(shape)
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in shape]
    index = tuple(slice(low, max(low + 1, high)) for low, high in bounds)
    part = np.empty([s.stop - s.start for s in index], whole.dtype)
    layout.read(tensors, index, part)
    np.testing.assert_array_equal(part, whole[index])
    # Heads are read whole: at most one more at either end.
    heads = layout.layers[0] if isinstance(layout, Stacked) else layout
    block = (heads.group + 2) * heads.size if isinstance(heads, Heads) else 1
    rest = part.size // part.shape[-1]
    assert tensors.count <= rest * (part.shape[-1] + 2 * (block - 1))


def test_heads_are_grouped_by_their_key_head() -> None:
    """Two key heads, each with two query heads of one feature; their columns are 0 to 3 of q, 0 and 1 of k and v."""
    tensors = {"q": np.array([0, 1, 2, 3]), "k": np.array([10, 11]), "v": np.array([20, 21])}
    layout = Heads(QKV, False, 2, 2, 1)
    read = np.empty(8, int)
    layout.read(InMemory(tensors), (slice(0, 8),), read)
    assert read.tolist() == [0, 1, 10, 20, 2, 3, 11, 21]
    assert {name: one.tolist() for name, one in layout.split(read).items()} == {
        name: one.tolist() for name, one in tensors.items()
    }
