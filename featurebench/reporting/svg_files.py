"""The report's figures as SVG files that show right by themselves, in a paper or a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from featurebench.reporting import formats
from featurebench.reporting.evidence_figures import evidence_figures
from featurebench.reporting.figures import figures
from featurebench.reporting.svg import Attributes, element
from featurebench.reporting.svg_style import style_of

Summary = Mapping[str, Any]
Legend = Sequence[tuple[Markup, str]]

FOLDER = "figures"
WIDTH, EDGE = 800.0, 20.0
ROW, NAMES = 36.0, 270.0
_LINE = 20.0
_PER_LETTER, _PER_TITLE_LETTER = 7.0, 8.5
_ROOT = re.compile(r"<svg\b[^>]*>")


@dataclass(frozen=True)
class _Piece:
    """A part of a figure with the room that it takes."""

    markup: Markup
    height: float
    width: float


def svg_files(summary: Summary) -> dict[str, str]:
    """Return every figure by its file name below the report's folder.

    Parameters
    ----------
    summary
        As `summarize` returns it.

    Returns
    -------
    dict
        ``figures/differences.svg`` and so on; a figure that the report does not have has no file.
    """
    found = {name: text for name, text in _figures(summary) if text}
    return {f"{FOLDER}/{name}.svg": text for name, text in found.items()}


def _figures(summary: Summary) -> Iterator[tuple[str, str]]:
    charts, evidence = figures(summary), evidence_figures(summary)
    metric = summary["metric"]
    yield from _row_figures(summary, charts)
    for number, each in enumerate(evidence["pareto"]):
        key = [(Markup(), f"{place} {arm.label}") for place, arm in each["front"]]
        name = "cost" if number == 0 else "cost-cpu"
        yield name, alone(f"{metric['label']} against {each['axis']}", each["chart"], key)
    yield from _curve_figures(summary, evidence)
    for each in charts["few_labels"]:
        title = f"{metric['label']} by labelled {each['panel']['unit']}"
        yield f"few-labels-{slug(each['panel']['unit'])}", alone(title, *_parts(each))
    for number, each in enumerate(charts["drift"], 1):
        title = f"Similarity to the network before fine-tuning (linear CKA), {each['title']}"
        yield f"drift-{number}", alone(title, *_parts(each))
    if evidence["patients"] is not None:
        of = summary["patients"]["metric"]
        unit = ", percentage points" if formats.unit_of(of) else ""
        title = f"Difference of each patient in {formats.metric_phrase(of)}{unit}"
        yield "patients", alone(title, evidence["patients"])
    for each in evidence["map"]:
        title = f"Embedding map by {each['title']}"
        yield f"map-{slug(each['title'])}", alone(title, *_parts(each))
    yield "folds-plan", alone("Tested tiles per fold", charts["plan"], charts["class_key"])


def _curve_figures(summary: Summary, evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    bands, decision = evidence["bands"], evidence["decision"]
    labels = _labels(summary)
    if bands is not None:
        key = [(sample, labels.get(name, name)) for sample, name in bands["legend"]]
        is_binary = len(summary["data"]["classes"]) == 2
        for panel in bands["panels"]:
            ending = "" if is_binary else f"-{slug(panel['of'])}"
            yield f"roc{ending}", alone(f"ROC of {panel['of']}", panel["roc"], key)
            title = f"Precision and recall of {panel['of']}"
            yield f"precision-recall{ending}", alone(title, panel["pr"], key)
        drawn = {arm["label"] for arm in summary["bands"]["calibration"]}
        leads = [(sample, text) for sample, text in key if text in drawn]
        yield "calibration", alone("Calibration", bands["calibration"], leads)
    if decision is not None:
        key = [(sample, arm["label"]) for sample, arm in decision["legend"]]
        yield "decision", alone("Net benefit by threshold", decision["chart"], key)


def _row_figures(summary: Summary, charts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the report shows as marks in the rows of a table."""
    metric = summary["metric"]
    if charts["forest"] is not None:
        reference = _labels(summary).get(summary["reference"], summary["reference"])
        unit = f", {metric['unit']}" if metric["unit"] else ""
        title = f"Difference in {formats.metric_phrase(metric['name'])}{unit}, minus {reference}"
        rows = [
            (row.arm["label"], row.plot, _difference(row.contrast, metric["name"]))
            for row in charts["forest"].rows
            if row.contrast is not None
        ]
        band = "; band: the margin" if metric["margin"] else ""
        sites = "; dashed: over sites" if "by_sites" in charts["forest"].tests else ""
        note = (
            f"Thick: over {summary['unit']}; thin: over folds{sites}{band}. Numbers: the interval "
            "that holds those of all tests that a claim asks for."
        )
        yield "differences", _rows(title, rows, charts["forest"].axis, note)
    for name, title in (("folds", "in every fold"), ("seeds", "with every seed")):
        strips = charts[name]
        if strips is not None and strips.rows:
            shown = [(row.arm["label"], row.plot, formats.score(row.value)) for row in strips.rows]
            yield name, _rows(f"{metric['label']} {title}", shown, strips.axis, "Bar: the mean.")


def alone(title: str, chart: Markup, legend: Legend = ()) -> str:
    """Return a chart as a document of its own, with its title and its legend.

    Parameters
    ----------
    title
        Stands above the chart, and is what a screen reader says.
    chart
        As the report shows it.
    legend
        Samples and what they stand for.
    """
    return _document(title, [_placed(chart), *_legend(legend)])


def slug(text: str) -> str:
    """Return a text as part of a file name: ``Site A`` becomes ``site-a``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "other"


def _rows(title: str, rows: Sequence[tuple[str, Markup, str]], axis: Markup, note: str) -> str:
    numbers = _PER_LETTER * max(len(number) for _, _, number in rows)
    room = WIDTH - NAMES - numbers - 36
    pieces = [_row(*row, room) for row in [*rows, ("", axis, "")]]
    return _document(title, [*pieces, *_legend([(Markup(), note)])])


def _row(name: str, plot: Markup, number: str, room: float) -> _Piece:
    middle = ROW / 2 + 4
    letters = int((NAMES - 8) / _PER_LETTER)
    box: Attributes = {"x": NAMES, "width": room, "height": ROW}
    return _Piece(
        element(
            "g",
            element("text", formats.shorten(name, letters), class_="name", x=0, y=middle),
            element("svg", plot, overflow="visible", **box),
            element("text", number, class_="name", x=WIDTH, y=middle, text_anchor="end"),
        ),
        ROW,
        WIDTH,
    )


def _placed(chart: Markup) -> _Piece:
    """Put a chart into a box: of its own size, or of the document's width where it has none."""
    root = _ROOT.match(str(chart))
    width, height = (_size(root[0] if root else "", name) for name in ("width", "height"))
    box: Attributes = {"width": width or WIDTH, "height": height or 300.0}
    markup = element("svg", chart, overflow="visible", **box)
    return _Piece(markup, (height or 300.0) + 8, width or WIDTH)


def _size(root: str, name: str) -> float | None:
    found = re.search(rf'\s{name}="([\d.]+)"', root)
    return float(found[1]) if found else None


def _legend(legend: Legend) -> list[_Piece]:
    pieces = []
    for sample, text in legend:
        indent = 34 if sample else 0
        mark = element("svg", sample, y=4, width=30, height=14) if sample else Markup()
        words = element("text", text, class_="name", x=indent, y=15)
        pieces.append(_Piece(element("g", mark, words), _LINE, indent + _PER_LETTER * len(text)))
    return pieces


def _document(title: str, pieces: Sequence[_Piece]) -> str:
    parts, y = [], 34.0
    for piece in pieces:
        parts.append(element("g", piece.markup, transform=f"translate(0 {y:g})"))
        y += piece.height
    body = Markup("").join(parts)
    inner = max([_PER_TITLE_LETTER * len(title), *(piece.width for piece in pieces)])
    width, height = inner + 2 * EDGE, y + 2 * EDGE
    heading = element("text", title, class_="title", x=0, y=14)
    inside = element("g", heading, body, transform=f"translate({EDGE:g} {EDGE:g})")
    page = element("rect", width="100%", height="100%", fill="#ffffff")
    style = element("style", Markup(style_of(str(inside))))
    shape: Attributes = {"width": width, "height": height, "viewBox": f"0 0 {width:g} {height:g}"}
    root = element("svg", element("title", title), style, page, inside, role="img", **shape)
    named = str(root).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{named}\n'


def _difference(contrast: Mapping[str, Any], metric: str) -> str:
    ends = contrast["difference"], contrast["ci_low"], contrast["ci_high"]
    return formats.difference(*ends, metric, unit=False)


def _labels(summary: Summary) -> dict[str, str]:
    return {arm["id"]: arm["label"] for arm in summary["arms"]}


def _parts(panel: Mapping[str, Any]) -> tuple[Markup, Legend]:
    return panel["chart"], panel["legend"]
