"""Both forms of a document show the same, literally, and the HTML needs nothing but itself."""

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from reported import Page, check_self_contained

from gptgan_jax.errors import UserError
from gptgan_jax.reports.document import (
    Block,
    Bold,
    Bullets,
    Code,
    Heading,
    Italic,
    Paragraph,
    Picture,
    Table,
    escape,
    to_html,
    to_markdown,
    write_document,
)

EVIL = [
    "<script>alert(1)</script>",
    "a | b",
    "`code`",
    "![x](y)",
    '"><img src=x onerror=alert(1)>',
    "*c* _d_ ~~e~~ $f$ # g",
    "[e](javascript:alert(1))",
    "<unk> &amp; \\|",
    "two\nlines \x1b[2J\u2028end",
]


def picture(name: str = "p.png", alt: str = "alt") -> Picture:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, 1])
    return Picture(name, alt, figure)


BLOCKS: dict[str, Callable[[str], Block]] = {
    "heading": lambda text: Heading(text),
    "paragraph": lambda text: Paragraph(text),
    "bullet": lambda text: Bullets((text,)),
    "head": lambda text: Table((text, "b"), (("c", "d"),)),
    "cell": lambda text: Table(("a", "b"), ((text, "d"),)),
    "bold": lambda text: Table(("a", "b"), ((Bold(text), "d"),)),
    "italic": lambda text: Table(("a", "b"), ((Italic(text), "d"),), right=[0]),
}


def unescaped(markdown: str) -> str:
    """What a reader of Markdown sees of one escaped text."""
    return html.unescape(re.sub(r"\\([\\*_\[\]~$#.+)-])", r"\1", markdown))


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("kind", BLOCKS)
def test_hostile_text_is_shown_and_does_nothing(kind: str, text: str) -> None:
    shown = text.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u2028", "\\u2028")
    page = check_self_contained(to_html(text, [BLOCKS[kind](text)]))
    assert [name for name, _ in page.attributes].count("src") == 0
    assert page.of("title") == [shown]
    assert shown in page.of("h2", "p", "li", "th", "td", "strong", "em")
    markdown = to_markdown([BLOCKS[kind](text)])
    assert not re.search(r"[<>`\x1b\u2028]", markdown)
    assert not re.search(r"(?<!\\)(\\\\)*[\[\]_~$]", markdown)
    assert shown in unescaped(markdown)
    if kind in ("head", "cell", "bold", "italic"):
        assert {line.count("|") for line in markdown.splitlines()} == {3}, "two columns, whatever is in them"
    else:
        assert len(markdown.splitlines()) == 1


@pytest.mark.parametrize("text", ["1. one", "12) two", "- dash", "-", "--- rule", "+ plus", "    code"])
def test_text_at_the_beginning_of_a_line_is_no_list_and_no_code(text: str) -> None:
    for block, before in ((Paragraph(text), ""), (Bullets((text,)), "- ")):
        line = to_markdown([block]).removeprefix(before).rstrip("\n")
        assert not re.match(r"\s|\d+[.)]\s|[-+*]", line)
        assert unescaped(line) == text.strip()
    assert to_markdown([Paragraph("0.5 nats")]) == "0.5 nats\n"


def test_escape_gives_entities_and_backslashes() -> None:
    assert escape("a man & <unk>") == "a man &amp; &lt;unk&gt;"
    assert escape("[x] `#|") == "\\[x\\] &#96;\\#&#124;"


@pytest.mark.parametrize("alt", EVIL)
def test_a_picture_is_a_file_beside_the_markdown_and_inside_the_html(alt: str) -> None:
    block = picture(alt=alt)
    page = check_self_contained(to_html("t", [block]))
    assert page.tags.count("img") == 1
    assert to_markdown([block]) == f"![{escape(alt)}](p.png)\n"
    assert block.png is block.png, "drawn once for both forms"


@pytest.mark.parametrize("name", ["../p.png", "p.jpg", "a b.png", "p).png", ".png"])
def test_a_picture_needs_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="no plain name"):
        picture(name)


def test_a_fence_holds_whatever_the_code_contains() -> None:
    config = "prompt: |\n  ```\n  # not a heading\n  ````\n  <b>&amp;\n"
    fences = re.findall(r"^(`+)yaml\n(.*?\n)\1$", to_markdown([Code(config, "yaml")]), flags=re.DOTALL | re.MULTILINE)
    assert fences == [("`````", config)]
    assert Page(to_html("t", [Code(config, "yaml")])).of("code") == [config.rstrip("\n")]


def test_a_table_is_aligned_in_both_forms() -> None:
    table = Table(("a", "long head"), (("x", "1"), (Bold("y"), "22")), right=[1])
    assert to_markdown([table]).splitlines() == [
        "| a     | long head |",
        "| ----- | --------: |",
        "| x     |         1 |",
        "| **y** |        22 |",
    ]
    text = to_html("t", [table])
    assert '<th>a</th><th class="figure">long head</th>' in text
    assert '<td><strong>y</strong></td><td class="figure">22</td>' in text


def test_both_forms_have_the_same_content_in_the_same_order() -> None:
    blocks = [
        Heading("title", 1),
        Paragraph("some text"),
        Bullets(("one", "two")),
        Table(("head", "b"), (("cell", Italic("(empty)")),)),
        Code("x: 1", "yaml"),
        Paragraph("fine print", small=True),
    ]
    parts = ["title", "some text", "one", "two", "head", "b", "cell", "(empty)", "x: 1", "fine print"]
    assert [text for tag, text in Page(to_html("title", blocks)).texts if tag not in ("style", "title")] == parts
    markdown = to_markdown(blocks)
    positions = [markdown.index(part) for part in parts if part != "b"]
    assert positions == sorted(positions)
    assert markdown.startswith("# title\n\nsome text\n\n- one\n- two\n\n| head")
    assert 'class="small">fine print<' in to_html("t", blocks)


def test_the_page_suits_phones_and_dark_screens() -> None:
    text = to_html("t", [picture(), Table(("a",), (("b",),))])
    assert 'name="viewport" content="width=device-width' in text
    assert "color-scheme: light dark" in text
    assert "prefers-color-scheme: dark" in text
    assert text.count('<div class="wide">') == 2, "tables and pictures scroll by themselves"


def test_on_a_phone_pictures_fit_and_the_first_column_of_a_wide_table_stays() -> None:
    style = to_html("t", [])
    picture_rule, first_column = (
        re.search(pattern, style, re.MULTILINE) for pattern in (r"^img {(.*)}$", r"^.wide th:first-child.*{(.*)}$")
    )
    assert picture_rule
    assert "max-width: 100%" in picture_rule[1]
    assert "min-width" not in picture_rule[1], "wider than 390 px"
    assert first_column
    assert all(rule in first_column[1] for rule in ("position: sticky", "left: 0", "background: var(--page)"))
    assert style.count("--page: #") == 2, "a colour that covers what scrolls below, in both schemes"


def test_a_document_replaces_an_earlier_one_and_leaves_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    write_document(folder, "t", [picture("loss.png"), picture("frontier-2.png")], ("loss.png", "frontier-[0-9].png"))
    (folder / "mine.png").write_bytes(b"mine")
    path = write_document(folder, "t", [picture("loss.png"), Paragraph("new")], ("loss.png", "frontier-[0-9].png"))
    assert path == folder / "report.html"
    assert sorted(p.name for p in folder.iterdir()) == ["loss.png", "mine.png", "report.html", "report.md"]
    assert "new" in path.read_text(encoding="utf-8")
    assert "new" in (folder / "report.md").read_text(encoding="utf-8")
    assert len(np.unique(imread(folder / "loss.png").reshape(-1, 4), axis=0)) > 10


def test_a_write_that_fails_leaves_the_earlier_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_document(tmp_path, "t", [Paragraph("old")], ())
    opened = Path.open

    class Full(io.RawIOBase):
        """Takes half of what is written."""

        def __init__(self, path: Path) -> None:
            self.path = path

        def write(self, content: Any) -> int:
            with opened(self.path, "wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")

    def open_full(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return Full(path) if mode == "xb" else opened(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(UserError, match=r"can't be written \(No space left on device\); choose another folder"):
        write_document(tmp_path, "t", [Paragraph("new")], ())
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "old" in text
        assert text.rstrip().endswith(("</html>", "old"))


def test_a_folder_that_can_not_be_made_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another folder"):
        write_document(tmp_path / "file", "t", [], ())
