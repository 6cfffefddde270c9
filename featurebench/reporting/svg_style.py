"""The report's style sheet as a figure needs it that stands alone: light colours, no variables."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from featurebench.reporting.legend import COLOURS

Rule = tuple[str, str]

# What an SVG element can be given; everything else in the sheet is about the page.
_PROPERTIES = re.compile(r"(fill|stroke|font|paint-order|opacity|white-space)")
_CLASS = re.compile(r"\.([A-Za-z_][\w-]*)")
_PAGE = re.compile(r"(^|[\s>+~])(?!svg|text|path|line|rect|circle|g\b)[a-z]\w*|[#:\[>+~*]")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_LIGHT = re.compile(r"light-dark\(\s*([^,()]+)\s*,[^()]*\)")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")
_REM = re.compile(r"(\d*\.?\d+)rem")
_FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


def style_of(markup: str) -> str:
    """Return the rules for the classes that a figure uses, as CSS that any viewer knows.

    Parameters
    ----------
    markup
        The figure's SVG.

    Returns
    -------
    str
        Variables are replaced by what they stand for in the light theme, and a colour that comes
        by its number (``s3``) by a rule for each number that occurs.
    """
    used = {name for text in re.findall(r'class="([^"]*)"', markup) for name in text.split()}
    rules = [
        f"{selector}{{{body}}}"
        for selector, body in _rules()
        if set(_CLASS.findall(selector)) <= used
    ]
    ink, small = _variables()["--ink"], _plain("var(--small)")
    base = [
        f"text{{font-family:{_FONT};font-size:12px;fill:{ink}}}",
        f".title{{font-size:15px;font-weight:650}}.name{{font-size:{small}}}",
    ]
    return "".join([*base, *rules])


@cache
def _rules() -> tuple[Rule, ...]:
    """Read the rules of the sheet that concern figures, one selector each, in their order."""
    found: list[Rule] = []
    for selectors, body in _RULE.findall(_screen(_sheet())):
        declared = [part.strip() for part in body.split(";") if _PROPERTIES.match(part.strip())]
        kept = [part for part in declared if "var(--c)" in part or "var(" not in _plain(part)]
        if not kept:
            continue
        for selector in (" ".join(each.split()) for each in selectors.split(",")):
            if "." in selector and not _PAGE.search(selector):
                found += _expanded(selector, ";".join(kept))
    return tuple(found)


def _expanded(selector: str, body: str) -> list[Rule]:
    """Write a rule out for every colour, where its colour comes by number."""
    if "var(--c)" not in body:
        return [(selector, _plain(body))]
    head, _, last = selector.rpartition(" ")
    before = f"{head} " if head else ""
    found = []
    for number in range(COLOURS):
        text = _plain(body.replace("var(--c)", f"var(--c{number})"))
        own, inherited = f"{before}{last}.s{number}", f"{before}.s{number} {last}"
        # A rule may name the number itself, such as ".groups .s1 .point".
        if re.search(r"\.s\d", selector):
            if f".s{number}" in selector:
                found.append((selector, text))
            continue
        found += [(own, text), (inherited, text)]
    return found


def _plain(text: str) -> str:
    """Replace variables and relative sizes."""
    variables = _variables()
    for _ in range(3):
        text = _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)
    return _REM.sub(lambda match: f"{16 * float(match[1]):g}px", text).replace(": ", ":")


@cache
def _variables() -> dict[str, str]:
    root = re.search(r":root\s*\{(.*?)\n\}", _sheet(), re.DOTALL)
    parts = _LIGHT.sub(r"\1", root[1] if root else "").split(";")
    pairs = (part.split(":", 1) for part in parts if ":" in part)
    return {name.strip(): value.strip() for name, value in pairs}


def _screen(sheet: str) -> str:
    """Return the sheet without its rules for media, which are about the page."""
    kept, depth, start = [], 0, 0
    for match in re.finditer(r"@media[^{]*\{|[{}]", sheet):
        if match[0].startswith("@media") and depth == 0:
            kept.append(sheet[start : match.start()])
            depth = 1
        elif depth:
            depth += 1 if match[0].endswith("{") else -1
            start = match.end()
    return "".join([*kept, sheet[start:]])


@cache
def _sheet() -> str:
    file = resources.files("featurebench.reporting") / "templates" / "style.css"
    return _COMMENT.sub("", file.read_text(encoding="utf-8"))
