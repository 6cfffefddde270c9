"""What the audit found: leakage, near-duplicates, shortcuts, and which networks were frozen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from featurebench.errors import TileError
from featurebench.reporting.cohort import thumbnail
from featurebench.reporting.formats import count, counted, p_statement, percent
from featurebench.tiles import read_tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from featurebench.splits import SplitPlan
    from featurebench.tiles import TileManifest

    Found = Mapping[str, Any]

MAX_PAIRS = 10
MAX_PICTURES = 6
_NOUNS = {"patient_id": "patient", "slide_id": "slide"}


def audit_section(
    audit: Found | None,
    *,
    manifest: TileManifest,
    plan: SplitPlan,
    frozen: Sequence[Found] = (),
) -> dict[str, Any] | None:
    """Return what the report shows of the audit; None where there was none.

    Parameters
    ----------
    audit
        The content of ``audit.json``.
    manifest, plan
        The usable tiles, in the rows that the audit counts, and their folds.
    frozen
        What is known of each arm's network.

    Returns
    -------
    dict or None
        ``findings`` (what casts doubt on the scores), ``cleared`` (what was looked for and not
        found) and ``absent`` (what was not tested or cannot be told, and why), in sentences;
        ``separations``, ``duplicates``, ``shortcuts`` and
        ``frozen``, the rows of the tables. Pictures are there where the tiles can be read.
    """
    if audit is None:
        return None
    return {
        "findings": list(_findings(audit)),
        "cleared": list(_cleared(audit)),
        "absent": [*_on_entangled(audit["shortcuts"]), *_untested(audit), *audit["absent"]],
        "separations": [_unnamed(row, manifest) for row in _separation_rows(audit)],
        "duplicates": _duplicates(audit["duplicates"], manifest, plan),
        "shortcuts": [_shortcut_row(found) for found in audit["shortcuts"]],
        "frozen": [dict(proof) for proof in frozen],
    }


def audit_sentences(audit: Found | None) -> tuple[str, ...]:
    """Return what casts doubt on the scores, one sentence each; empty where nothing.

    That is what the audit found, and where class and another column cannot be told apart at all.
    """
    return () if audit is None else (*_findings(audit), *_on_entangled(audit["shortcuts"]))


def _findings(audit: Found) -> tuple[str, ...]:
    several = len({found["embedding"] for found in audit["shortcuts"]}) > 1
    return (
        *_on_separation(audit),
        *_on_duplicates(audit["duplicates"]),
        *(text for found in audit["shortcuts"] if (text := _on_shortcut(found, named=several))),
    )


def _on_separation(audit: Found) -> Iterator[str]:
    for row in _separation_rows(audit):
        if row["leaks"] and row["n_torn"]:
            yield (
                f"{count(row['n_torn'])} of {counted(row['n_values'], row['noun'])} "
                f"({counted(row['n_tiles'], 'tile')}) {_verb(row['n_torn'], 'stands', 'stand')} on "
                "both sides of a fold, so the scores are those of known "
                f"{row['noun']}s and too good."
            )


def _on_duplicates(found: Found | None) -> Iterator[str]:
    if found is None:
        return
    n = found["n_confirmed"]
    if n:
        shown = sum(pair["similarity"] >= found["threshold"] - 1e-6 for pair in found["worst"])
        least = "At least " if found["n_pairs"] > shown else ""
        text = f"{least}{counted(n, 'pair')} of near-identical tiles "
        yield f"{text}{_verb(n, 'lies', 'lie')} on both sides of folds."
    elif found["n_pairs"] and not found["n_checked"]:
        n = found["n_pairs"]
        yield (
            f"{counted(n, 'pair')} of tiles on both sides of folds {_verb(n, 'has', 'have')} "
            "nearly the same embedding; the tiles could not be read to compare their pictures."
        )


def _on_shortcut(found: Found, *, named: bool) -> str | None:
    if found["finding"] not in {"shortcut suspected", "site dominates"}:
        return None
    column, association = found["column"], found["association"]
    embedding = f"The embedding {found['embedding']}" if named else "The embedding"
    told = _told(found["site"])
    together = f"class and {column} are associated (V = {association['v'] or 0:.2f})"
    seen = _above_chance(found["site"]) and _above_chance(found["within"])
    if found["finding"] == "shortcut suspected" and seen:
        return f"{embedding} tells the {column} {told}, and {together}: a shortcut is suspected."
    low = (
        f"{embedding} groups tiles by {column} rather than by class (robustness index "
        f"{found['index'] or 0:.2f}, of random neighbours {_chance(found):.2f})"
    )
    if found["finding"] == "shortcut suspected":
        return f"{low}, and {together}: a shortcut is suspected."
    return f"{low}: how the arms do at another {column} is in doubt."


def _cleared(audit: Found) -> Iterator[str]:
    rows = [row for row in _separation_rows(audit) if row["leaks"]]
    clear = [row["noun"] for row in rows if row["n_values"] and not row["n_torn"]]
    if clear:
        yield f"No {' and no '.join(clear)} stands on both sides of a fold."
    found = audit["duplicates"]
    if found is not None and found["n_checked"] and not found["n_confirmed"]:
        pairs = counted(found["n_checked"], "pair")
        yield (
            "No two tiles on both sides of a fold are near-identical: the "
            f"{pairs} most alike to the network were compared as pictures."
        )
    elif found is not None and not found["n_pairs"] and not found["n_confirmed"]:
        yield "No two tiles on both sides of a fold have nearly the same embedding."
    yield from _cleared_of_shortcuts(audit["shortcuts"])


def _cleared_of_shortcuts(shortcuts: Sequence[Found]) -> Iterator[str]:
    several = len({found["embedding"] for found in shortcuts}) > 1
    for found in shortcuts:
        embedding = f"The embedding {found['embedding']}" if several else "The embedding"
        column, association = found["column"], found["association"]
        apart = (
            f"class and {column} are hardly associated (V = {association['v'] or 0:.2f}, "
            f"{p_statement(association['p_value'])})"
        )
        if found["finding"] == "site is told":
            yield f"{embedding} tells the {column} {_told(found['site'])}, but {apart}."
        elif found["finding"] == "none" and _above_chance(found["site"]):
            yield (
                f"{embedding} tells the {column} {_told(found['site'])}, but among tiles of one "
                f"class it was not shown to: {_measured(found['within'])}."
            )
        elif found["finding"] == "none":
            yield f"{embedding} was not shown to tell the {column}: {_measured(found['site'])}."


def _on_entangled(shortcuts: Sequence[Found]) -> Iterator[str]:
    """Say once for each column where class and column cannot be told apart."""
    for column in dict.fromkeys(found["column"] for found in shortcuts if found["entangled"]):
        rows = [found for found in shortcuts if found["column"] == column]
        told = [found["site"] for found in rows if _above_chance(found["site"])]
        by = ""
        if told:
            best = max(told, key=lambda site: site["accuracy"])
            by = f", and an embedding tells the {column} {_told(best)}"
        yield (
            f"{column[:1].upper()}{column[1:]} and class cannot be told apart on this cohort: "
            f"{rows[0]['entangled']}{by}. Whether arms see the class or the {column} is open."
        )


def _untested(audit: Found) -> Iterator[str]:
    """Say what was not tested, and why."""
    seen = {row["column"] for row in _separation_rows(audit) if row["n_values"]}
    unknown = [noun for column, noun in _NOUNS.items() if column not in seen]
    if "patient" in unknown:
        yield (
            f"Whether a {' or '.join(unknown)} stands on both sides of a fold was not tested: no "
            f"{' and no '.join(unknown)} is known."
        )
    several = len({found["embedding"] for found in audit["shortcuts"]}) > 1
    for found in audit["shortcuts"]:
        if found["finding"] == "not tested":
            embedding = f"embedding {found['embedding']}" if several else "embedding"
            yield f"Whether the {embedding} tells the {found['column']} {_why_untested(found)}."


def _why_untested(found: Found) -> str:
    within = _above_chance(found["site"])
    decisive = found["within"] if within else found["site"]
    scope = "among tiles of one class " if within else ""
    if decisive is None:
        few = "fewer than two of its values could be both trained on and tested"
        few = "no class has enough tested tiles of two of its values" if within else few
        return f"{scope}was not tested: {few}"
    if not _has_interval(decisive):
        return f"{scope}was not tested: too few patients were tested for an interval"
    return f"{scope}is open, the interval is too wide: {_measured(decisive)}"


def _told(site: Found | None) -> str:
    if site is None:
        return "not at all"
    return f"with {percent(site['accuracy'])} balanced accuracy (chance {percent(site['chance'])})"


def _measured(found: Found) -> str:
    interval = f"{percent(found['ci_low'])[:-2]} to {percent(found['ci_high'])}"
    return (
        f"{percent(found['accuracy'])} balanced accuracy (95 % CI {interval}, chance "
        f"{percent(found['chance'])})"
    )


def _has_interval(found: Found) -> bool:
    return found["ci_low"] is not None and math.isfinite(found["ci_low"])


def _above_chance(found: Found | None) -> bool:
    return bool(found and _has_interval(found) and found["ci_low"] > found["chance"])


def _chance(found: Found) -> float:
    robustness = found["robustness"]
    return float(robustness["chance"]) if robustness else float("nan")


def _separation_rows(audit: Found) -> list[dict[str, Any]]:
    """Put the repeats of each column together: the worst repeat stands for all."""
    rows: dict[str, dict[str, Any]] = {}
    for found in audit["separations"]:
        name = found["column"]
        row = rows.setdefault(
            name,
            {"column": name, "noun": _NOUNS.get(name, name), "n_repeats": 0, "n_torn": -1},
        )
        row["n_repeats"] += 1
        if found["n_torn"] > row["n_torn"]:
            row |= {key: found[key] for key in ("leaks", "n_values", "n_torn", "n_tiles", "worst")}
    return list(rows.values())


def _unnamed(row: dict[str, Any], manifest: TileManifest) -> dict[str, Any]:
    """Give patients a number for their id: reports are shown around, ids are not."""
    if row["column"] != "patient_id":
        return row
    numbers = _patient_numbers(manifest)
    worst = [{**each, "value": f"patient {numbers[each['value']]}"} for each in row["worst"]]
    return row | {"worst": worst}


def _patient_numbers(manifest: TileManifest) -> dict[str, int]:
    """Return for each patient its place among the ids, from 1, as the gallery of tiles does."""
    patients = manifest.column("patient_id")
    names = [] if patients is None else sorted({str(name) for name in patients})
    return {name: number for number, name in enumerate(names, 1)}


def _patient(manifest: TileManifest, row: int) -> str:
    known = "patient_id" in manifest.table
    return str(manifest.table["patient_id"].iloc[row]) if known else ""


def _duplicates(
    found: Found | None, manifest: TileManifest, plan: SplitPlan
) -> dict[str, Any] | None:
    if found is None:
        return None
    told = [
        pair
        for pair in found["worst"]
        if pair["similarity"] >= found["threshold"] - 1e-6
        or (pair["likeness"] or 0.0) >= found["alike"]
    ]
    pairs = [
        _pair(pair, manifest, plan, alike=found["alike"], picture=number < MAX_PICTURES)
        for number, pair in enumerate(told[:MAX_PAIRS])
    ]
    kept = {key: value for key, value in found.items() if key != "worst"}
    return kept | {"pairs": pairs, "n_told": len(told)}


def _pair(
    pair: Found, manifest: TileManifest, plan: SplitPlan, *, alike: float, picture: bool
) -> dict[str, Any]:
    numbers = _patient_numbers(manifest)
    labels = manifest.table["label"]
    rows = (int(pair["a"]), int(pair["b"]))
    sides = [[int(table[row]) for row in rows] for table in plan.test_fold]
    repeat = next(r for r, (a, b) in enumerate(sides) if a != b and max(a, b) >= 0)
    return {
        "tiles": [
            {
                "tile_id": str(manifest.table["tile_id"].iloc[row]),
                "patient": numbers.get(_patient(manifest, row)),
                "label": str(labels.iloc[row]),
                "image": _picture(manifest, row) if picture else None,
            }
            for row in rows
        ],
        "similarity": pair["similarity"],
        "likeness": pair["likeness"],
        "same_picture": None if pair["likeness"] is None else pair["likeness"] >= alike,
        "repeat": repeat,
        "folds": sides[repeat],
    }


def _picture(manifest: TileManifest, row: int) -> str | None:
    try:
        return thumbnail(read_tile(manifest.path_of(row)))
    except TileError:
        return None


def _shortcut_row(found: Found) -> dict[str, Any]:
    robustness = found["robustness"]
    return {
        **{
            key: found[key]
            for key in ("embedding", "column", "site", "within", "label", "finding", "k")
        },
        "v": found["association"]["v"],
        "p_value": found["association"]["p_value"],
        "n_units": found["association"]["n_units"],
        "index": found["index"],
        "chance": robustness["chance"] if robustness else None,
    }


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many
