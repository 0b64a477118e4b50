"""Documents as plain text: prose out of HTML pages, Python files that are code, not tables."""

import re
import unicodedata
from html.parser import HTMLParser

__all__ = ["clean_code", "is_code", "is_prose", "prose_of_html"]

SKIPPED = {"pre", "script", "style", "nav", "table", "svg", "head", "dt", "form", "button"}
SKIPPED_CLASSES = {"sphinxsidebar", "related", "highlight", "navheader", "navfooter", "headerlink",
                   "toctree-wrapper", "toc", "list-of-tables", "list-of-figures", "footer",
                   "searchmenu", "menu", "versionmodified", "synopsis", "codeblock", "footnotes",
                   "desktoponly", "mobileonly", "hd_toc", "contents", "rightsidebar", "screen",
                   "refsynopsisdiv", "programlisting"}
BLOCKS = {"p", "li", "dd", "h1", "h2", "h3", "h4", "h5", "h6", "div", "ul", "ol", "dl", "section",
          "blockquote", "body", "br", "hr"}
VOID = {"br", "hr", "img", "meta", "link", "input", "col", "area", "base", "wbr", "source"}
PUNCTUATION = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": " - ",
    "\u2026": "...", "\u00b6": "", "\u00a0": " ", "\u00ad": "", "\u2192": "->", "\u00d7": "x",
    "\u2212": "-", "\u2022": "", "\u2122": "", "\u200b": ""})
NUMBERING = re.compile(r"^(Chapter\s+)?([A-Z]\.)?(\d+\.)+(\d+)?\s*")


class _Paragraphs(HTMLParser):
    """Collects ``(tag, text)`` of the blocks outside code, tables and navigation."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._tag = ""

    def _flush(self) -> None:
        text = re.sub(r"\s+", " ", "".join(self._text)).strip()
        if text:
            self.blocks.append((self._tag, text))
        self._text.clear()

    def _hidden(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = set((dict(attrs).get("class") or "").split())
        if tag in BLOCKS or tag in SKIPPED:
            self._flush()
            self._tag = tag
        if tag in VOID:
            return
        if tag in {"p", "li", "dd", "dt"} and self._open and self._open[-1][0] == tag:
            self._open.pop()
        hide = self._hidden() or tag in SKIPPED or any(
            name in SKIPPED_CLASSES or name.startswith("highlight") for name in classes)
        self._open.append((tag, hide))

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS or tag in SKIPPED:
            self._flush()
        depth = next((i for i in range(len(self._open) - 1, -1, -1)
                      if self._open[i][0] == tag), None)
        if depth is not None:
            del self._open[depth:]

    def handle_data(self, data: str) -> None:
        if not self._hidden():
            self._text.append(data)

    def close(self) -> None:
        super().close()
        self._flush()


def is_prose(text: str) -> bool:
    """Whether a paragraph reads as a sentence: five words or more, mostly plain letters, not an
    entry of a table of contents."""
    if NUMBERING.match(text) and text[-1] not in ".:;!?":
        return False
    letters = sum(c.isascii() and (c.isalpha() or c == " ") for c in text)
    return len(text.split()) >= 5 and letters >= 0.8 * len(text)


def prose_of_html(page: str) -> str:
    """Headings and prose paragraphs of an HTML page, one a line, a blank line between them.

    Code blocks, tables, signatures, navigation and indices are left out; typographic quotes and
    dashes become ASCII. A heading stays only if prose follows it. Empty if the page has no prose.
    """
    parser = _Paragraphs()
    parser.feed(page)
    parser.close()
    lines: list[str] = []
    heading = ""
    for tag, raw in parser.blocks:
        text = unicodedata.normalize("NFKC", raw.translate(PUNCTUATION))
        text = re.sub(r"\s+", " ", text).strip()
        if re.fullmatch(r"h[1-6]", tag) and len(text) <= 100:
            heading = NUMBERING.sub("", text)
        elif is_prose(text):
            if heading:
                lines.append(heading)
                heading = ""
            lines.append(text)
    return "\n\n".join(lines) + "\n" if lines else ""


def is_code(text: str) -> bool:
    """Whether a Python file reads as code: no overlong lines, not a table of numbers."""
    body = text.replace(" ", "").replace("\n", "")
    if len(body) < 100:
        return False
    digits = sum(c.isdigit() for c in body)
    return digits < 0.15 * len(body) and max(map(len, text.splitlines())) <= 200


def clean_code(text: str) -> str:
    """Tabs expanded, ends of lines stripped, two blank lines at most, one newline at the end."""
    lines = [line.rstrip() for line in text.expandtabs(8).splitlines()]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip("\n") + "\n"
