"""write_report(): the summary as pages, tables and figures, each file written atomically."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from featurebench.reporting import formats
from featurebench.reporting.answer import probability, split_verdict
from featurebench.reporting.checksums import write_checksums
from featurebench.reporting.confusion import tiles_shown
from featurebench.reporting.evidence_figures import evidence_figures
from featurebench.reporting.figures import figures
from featurebench.reporting.glossary import read_text, typeset, words_in
from featurebench.reporting.latex import latex_files
from featurebench.reporting.ledger import cost_columns
from featurebench.reporting.markdown import markdown
from featurebench.reporting.operating import MEASURES
from featurebench.reporting.ranking import in_order, ranked_arms, repeats_note, weights_note
from featurebench.reporting.svg_files import svg_files
from featurebench.reporting.tables import (
    arms_csv,
    checklist_csv,
    comparisons_csv,
    scores_csv,
    subgroups_csv,
)
from featurebench.results import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

FILTERS = (
    formats.patients_needed,
    formats.breakable,
    formats.score,
    formats.interval,
    formats.difference,
    formats.magnitude,
    formats.p_value,
    formats.p_statement,
    formats.ratio,
    formats.unsigned,
    probability,
    formats.seconds,
    formats.memory,
    formats.count,
    formats.counted,
    formats.percent,
    formats.metric_label,
    formats.metric_phrase,
    formats.plan_text,
    formats.prevalence_text,
    in_order,
)


def write_report(summary: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.html``, ``.md``, ``.json``, tables (CSV, LaTeX) and figures (SVG).

    Parameters
    ----------
    summary
        As `summarize` returns it.
    folder
        Made where it is absent; files of an earlier report are replaced, each in one step.

    Returns
    -------
    Path
        Of ``report.html``. Last of all come the checksums, by which `edited_files` notices a report
        that is not as it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.json": json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": markdown(summary),
        "arms.csv": arms_csv(summary),
        "comparisons.csv": comparisons_csv(summary),
        "scores.csv": scores_csv(summary),
        **({"subgroups.csv": subgroups_csv(summary)} if summary.get("subgroups") else {}),
        **({"checklist.csv": checklist_csv(summary)} if summary.get("checklist") else {}),
        **latex_files(summary),
        **svg_files(summary),
        "report.html": render_html(summary),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomically(folder / name, text)
    write_checksums(texts, folder)
    return folder / "report.html"


def render_html(summary: Mapping[str, Any]) -> str:
    """Return the report as one HTML document that loads nothing from elsewhere.

    It is rendered twice: the second time with the glossary of the words that the first one has.
    """
    shown: dict[str, Any] = {
        "s": summary,
        "verdict": split_verdict(summary["verdict"]),
        "arms": ranked_arms(summary),
        "ledger": cost_columns(ranked_arms(summary)),
        "repeats_note": repeats_note(summary),
        "weights_note": weights_note(summary),
        "labels": {arm["id"]: arm["label"] for arm in summary["arms"]},
        "figures": figures(summary),
        "evidence": evidence_figures(summary),
        "measures": MEASURES,
        "tiles_shown": tiles_shown(summary.get("gallery")),
        "settings": yaml.safe_dump(summary["settings"], sort_keys=False, allow_unicode=True),
        "provenance": [
            (key, value)
            for key, value in flatten(summary["provenance"])
            if ".preprocessing" not in key
        ],
    }
    words = words_in(read_text(render_page("report.html.j2", words=[], **shown)))
    return typeset(render_page("report.html.j2", words=words, **shown), words)


def render_page(template: str, **shown: object) -> str:
    """Return a page made from a template, with our own style and script and nothing else."""
    environment = Environment(
        loader=PackageLoader("featurebench.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in FILTERS})
    style, script = _asset("style.css"), _asset("report.js")
    return environment.get_template(template).render(
        **shown, style=style, script=script, policy=content_policy(style, script)
    )


def content_policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: our own style and script by hash, pictures as data."""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def flatten(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield the leaves of nested mappings and lists of mappings with their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from flatten(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from flatten(item, f"{key}.{number}")
    elif isinstance(value, list):
        yield key, ", ".join(str(item) for item in value)
    elif value is not None and value != {}:
        yield key, value


def _asset(name: str) -> Markup:
    file = resources.files("featurebench.reporting") / "templates" / name
    return Markup(file.read_text(encoding="utf-8"))


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"sha256-{digest}"
