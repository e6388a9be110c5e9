"""A document as a list of blocks, rendered as Markdown with separate PNG files, and as one self-contained HTML file.

Texts in blocks are plain: any markup in them is shown literally, in both forms.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gptgan_jax.errors import UserError
from gptgan_jax.runs.records import one_line
from gptgan_jax.system.atomic_files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = 4
HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"


@dataclass(frozen=True)
class Bold:
    """Emphasised text of a table cell."""

    text: str


@dataclass(frozen=True)
class Italic:
    """Text of a table cell that is a remark instead of a value."""

    text: str


Cell = str | Bold | Italic


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the document's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text; small if it comments on what is above it."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list with one line per item."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are heads.

    Attributes:
        heads: of the columns.
        rows: the cells.
        right: indices of the columns of numbers, which are right-aligned.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: Collection[int] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """A matplotlib figure.

    Attributes:
        name: file name of the PNG.
        alt: what it shows, in words.
        figure: rendered once, when first needed.

    Raises:
        ValueError: the name is no plain file name ending in .png.
    """

    name: str
    alt: str
    figure: "Figure"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+\.png", self.name):
            raise ValueError(f"{self.name!r} is no plain name of a PNG file")

    @cached_property
    def png(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, dpi=100, format="png")
        return file.getvalue()


@dataclass(frozen=True)
class Code:
    """Lines for a machine, shown verbatim."""

    text: str
    language: str


class Shade(NamedTuple):
    """A part of a text with a background colour.

    Attributes:
        text: the part, with its spaces.
        level: from -`LEVELS` (orange) over 0 (none) to `LEVELS` (blue).
        note: shown when the pointer is over it.
        marked: whether it is emphasised; its note is then also shown without a pointer.
        wrong: whether it is underlined as an error.
        special: whether it is not text, such as the token that ends one.
    """

    text: str
    level: int
    note: str = ""
    marked: bool = False
    wrong: bool = False
    special: bool = False


@dataclass(frozen=True)
class Coloured:
    """A text whose parts are coloured, below a line about it."""

    head: str
    parts: tuple[Shade, ...]


Block = Heading | Paragraph | Bullets | Table | Picture | Code | Coloured


def escape(text: str) -> str:
    """One line of Markdown that shows the text literally, also in a table: no HTML, no markup."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;"}
    text = "".join(entities.get(char, char) for char in one_line(text))
    return re.sub(r"([\\*_\[\]~$#])(?<!&#)", r"\\\1", text).replace("\t", " ")


def to_markdown(blocks: Iterable[Block]) -> str:
    """The blocks as Markdown, separated by empty lines; tables are also readable as plain text."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def to_html(title: str, blocks: Iterable[Block]) -> str:
    """The blocks as one self-contained HTML file: embedded pictures, no script, no requests."""
    body = "\n".join(map(_html, blocks))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_literal(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_document(folder: Path, title: str, blocks: Sequence[Block], pictures: Collection[str]) -> Path:
    """Writes report.html, report.md and its PNGs into a folder, each all or nothing, over those of an earlier report.

    Args:
        folder: created if it does not exist.
        title: of the browser's tab.
        blocks: the document.
        pictures: glob patterns of all pictures that reports in this folder can have; those not in this one are deleted.

    Returns: the path of report.html.

    Raises:
        UserError: the folder can't be written.
    """
    files = {block.name: block.png for block in blocks if isinstance(block, Picture)}
    files |= {MARKDOWN_FILE: to_markdown(blocks).encode(), HTML_FILE: to_html(title, blocks).encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(folder / name, content)
        for stale in {path for pattern in pictures for path in folder.glob(pattern)}:
            if stale.name not in files:
                stale.unlink()
    except OSError as error:
        raise UserError(f"{folder}: the report can't be written ({error.strerror}); choose another folder") from None
    return folder / HTML_FILE


# ---- Markdown


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text):
            return _running(text)
        case Bullets(items):
            return "\n".join(f"- {_running(item)}" for item in items)
        case Table(heads, rows, right):
            heads = tuple(map(escape, heads))
            return _plain_table([heads, *(tuple(map(_markdown_cell, row)) for row in rows)], right)
        case Picture(name, alt):
            return f"![{escape(alt)}]({name})"
        case Code(text, language):
            longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}{language}\n{_without_outer_lines(text)}\n{fence}"
        case Coloured(head, parts):
            return f"- {_running(head)}: {''.join(map(_markdown_part, parts)).strip()}"


def _markdown_part(part: Shade) -> str:
    """The part without its colour; marked ones are bold, with their note, and wrong ones are struck through."""
    text = escape(part.text)
    bare = text.strip()
    if bare and part.wrong:
        text = text.replace(bare, f"~~{bare}~~")
    if not part.marked:
        return f" {text}" if part.special else text
    space = " " if part.special or text[:1].isspace() else ""
    return f"{space}**{text.strip() or '␣'}** ({escape(part.note)})"


def _running(text: str) -> str:
    """Text at the beginning of a line, where "1." or "-" would start a list and four spaces code."""
    return re.sub(r"^(\d{0,9})(-|[+.)](?=\s|$))", r"\1\\\2", escape(text).strip())


def _markdown_cell(cell: Cell) -> str:
    match cell:
        case Bold(text):
            return f"**{escape(text)}**"
        case Italic(text):
            return f"*{escape(text)}*"
        case _:
            return escape(cell)


def _plain_table(rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A Markdown table; its first row has the heads, and the columns in `right` are right-aligned."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * (w - 1) + (":" if i in right else "-") for i, w in enumerate(widths)]
    pad: list[Callable[[str, int], str]] = [str.rjust if i in right else str.ljust for i in range(len(widths))]
    lines = (map(lambda p, c, w: p(c, w), pad, row, widths) for row in [rows[0], rule, *rows[1:]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _without_outer_lines(text: str) -> str:
    return text.strip("\n")


# ---- HTML


def _literal(text: str) -> str:
    return html.escape(one_line(text))


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_literal(text)}</h{level}>"
        case Paragraph(text, small):
            return f'<p class="small">{_literal(text)}</p>' if small else f"<p>{_literal(text)}</p>"
        case Bullets(items):
            return "<ul>\n" + "\n".join(f"<li>{_literal(item)}</li>" for item in items) + "\n</ul>"
        case Table(heads, rows, right):
            head = "".join(f"<th{_kind(text, i in right)}>{_literal(text)}</th>" for i, text in enumerate(heads))
            lines = [
                "".join(f"<td{_kind(cell, i in right)}>{_html_cell(cell)}</td>" for i, cell in enumerate(row))
                for row in rows
            ]
            body = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
        case Picture(_, alt):
            data = base64.b64encode(block.png).decode()
            return f'<div class="wide"><img alt="{_literal(alt)}" src="data:image/png;base64,{data}"></div>'
        case Code(text, _):
            return f"<pre><code>{html.escape(_without_outer_lines(text))}</code></pre>"
        case Coloured(head, parts):
            spans = "".join(map(_html_part, parts))
            return f'<div class="coloured"><div class="small">{_literal(head)}</div><p dir="auto">{spans}</p></div>'


def _html_part(part: Shade) -> str:
    side = "fall" if part.level < 0 else "rise"
    shades = [f"{side}{abs(part.level)}"] if part.level else []
    names = [*shades, *(name for name in ("marked", "wrong", "special") if getattr(part, name))]
    kind = f' class="{" ".join(names)}"' if names else ""
    title = f' title="{_literal(part.note)}"' if part.note else ""
    return f"<span{kind}{title}>{_literal(part.text)}</span>"


def _kind(cell: Cell, right: bool) -> str:
    """A cell's style: numbers stay on one line, longer texts get room."""
    length = len(cell if isinstance(cell, str) else cell.text)
    kind = "figure" if right else "long" if length > 50 else "text" if length > 18 else ""
    return f' class="{kind}"' if kind else ""


def _html_cell(cell: Cell) -> str:
    match cell:
        case Bold(text):
            return f"<strong>{_literal(text)}</strong>"
        case Italic(text):
            return f"<em>{_literal(text)}</em>"
        case _:
            return _literal(cell)


# Wide tables scroll separately, with a fixed first column, and pictures fit, so that text is readable on a phone.
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --line: #d5d9de; --soft: #f4f5f7; --grey: #5b626b; }
@media (prefers-color-scheme: dark) { :root { --page: #121212; --line: #3d444d; --soft: #1e2329; --grey: #a0a8b2; } }
body { background: var(--page); font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
p, li { max-width: 50rem; overflow-wrap: anywhere; }
.small { font-size: .8rem; color: var(--grey); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .8rem; line-height: 1.35; }
th, td { padding: .3rem .45rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { max-width: 24rem; overflow-wrap: break-word; }
td.text { min-width: 8rem; }
td.long { min-width: 13rem; }
th { background: var(--soft); vertical-align: bottom; }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; background: var(--page); }
.wide th:first-child { background: var(--soft); }
@media (max-width: 40rem) {
  .wide td:first-child, .wide th:first-child { max-width: 9rem; overflow-wrap: anywhere; }
  td.long { min-width: 11rem; }
}
.figure { text-align: right; font-variant-numeric: tabular-nums; }
td.figure { white-space: nowrap; }
img { display: block; width: 800px; max-width: 100%; height: auto; background: #fff; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .8rem; line-height: 1.35; }
.coloured { margin: 1rem 0; }
.coloured p { margin: .2rem 0; white-space: pre-wrap; line-height: 1.9; }
.coloured span { border-radius: .2rem; padding: .15rem 0; }
.coloured .marked { font-weight: bold; outline: 2px solid currentcolor; }
.coloured .wrong { text-decoration: underline wavy 2px; text-underline-offset: .25rem; }
.coloured .special { font-size: .8rem; font-style: italic; margin-inline-start: .4rem; }
""" + "".join(
    f".{side}{level} {{ background: rgb({colour} / {0.15 * level:.2f}); }}\n"
    for side, colour in (("fall", "230 97 1"), ("rise", "0 90 181"))
    for level in range(1, LEVELS + 1)
)
