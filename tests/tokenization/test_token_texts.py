"""Token ids become the text that their bytes spell, however it is cut."""

import pytest
import tokenizers
from chat_folders import backend_of
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.tokenization.token_texts import decoder_of

BACKENDS = {kind: backend_of(kind) for kind in ("bytes", "first", "legacy")}
TEXT = st.text(st.sampled_from("aหนังสือज्ञان漢🙂 \nwol"), min_size=1, max_size=12)


def spelt(backend: tokenizers.Tokenizer, ids: list[int]) -> bytes:
    """The bytes of a SentencePiece model's tokens, by their names."""
    names = [backend.id_to_token(i) for i in ids]
    parts = [bytes([int(name[3:5], 16)]) if name.startswith("<0x") else name.encode() for name in names]
    return b"".join(parts).replace("▁".encode(), b" ")


@pytest.mark.parametrize("kind", ["first", "legacy"])
@given(text=TEXT, cuts=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_a_cut_within_a_character_loses_that_character_alone(kind: str, text: str, cuts: tuple[int, int]) -> None:
    backend = BACKENDS[kind]
    ids = backend.encode(text, add_special_tokens=False).ids[min(cuts) : max(cuts)]
    expected = spelt(backend, ids).decode(errors="replace")
    assert decoder_of(backend)(ids) == expected.removeprefix(" ")


@pytest.mark.parametrize("kind", BACKENDS)
@given(text=TEXT)
def test_whole_texts_are_decoded_as_by_the_library(kind: str, text: str) -> None:
    backend = BACKENDS[kind]
    ids = backend.encode(text, add_special_tokens=False).ids
    assert decoder_of(backend)(ids) == backend.decode(ids, skip_special_tokens=False)
