"""The embedding map: every tile as a dot, once for each thing that could colour it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from featurebench.reporting.svg import element, framed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from markupsafe import Markup

    from featurebench.tiles import TileManifest

MAX_POINTS = 3000
MAX_PATIENTS = 12
MAX_GROUPS = 8
# Coordinates are whole numbers of this many units on a side.
SIDE, EDGE = 600, 14
# One drawing for each group besides its colour: "dot" and "square" are caps of a line without
# length, the others are strokes around the point.
SHAPES = ("dot", "square", "cross", "plus", "triangle", "ring", "minus", "bar")
_STROKES = {
    "dot": "h0",
    "square": "h0",
    "cross": "m-5-5l10 10m0-10l-10 10",
    "plus": "m-6 0h12m-6-6v12",
    "triangle": "m0-6l6 11h-12z",
    "ring": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "minus": "m-6 0h12",
    "bar": "m0-6v12",
}


def map_section(found: Mapping[str, Any] | None, manifest: TileManifest) -> dict[str, Any] | None:
    """Return the map's points and what they are coloured by; None where there is no map.

    Parameters
    ----------
    found
        ``rows`` of the tiles, their coordinates (``x`` and ``y``, or ``xy`` in pairs), and
        optionally the shares of variance ``explained`` by the two axes, the ``embedding`` and the
        ``method``.
    manifest
        The tiles.

    Returns
    -------
    dict or None
        ``x`` and ``y`` as whole numbers, ``panels`` of ``title``, ``names`` and ``codes``, and
        ``omitted``: why a panel is not there. Patients are not named, and are told apart only
        where they are few.
    """
    if not found or not len(found["rows"]):
        return None
    kept = _thinned(len(found["rows"]))
    rows = np.asarray(found["rows"], dtype=np.intp)[kept]
    pairs = found["xy"] if "xy" in found else np.stack([found["x"], found["y"]], axis=1)
    x, y = (_placed(axis) for axis in np.asarray(pairs, dtype=np.float64)[kept].T)
    y = SIDE - y
    panels = [_panel("Class", np.array(manifest.classes, dtype=object)[manifest.labels[rows]])]
    omitted = []
    sites, patients = manifest.column("site"), manifest.column("patient_id")
    if sites is None:
        omitted.append("No site is recorded, so there is no panel of sites.")
    else:
        panels.append(_panel("Site", sites[rows]))
    if patients is not None:
        codes = np.unique(patients.astype(str), return_inverse=True)[1][rows]
        n_patients = len(np.unique(codes))
        if n_patients <= MAX_PATIENTS:
            panels.append(_panel("Patient", np.array([f"{c + 1}" for c in codes], dtype=object)))
        else:
            omitted.append(
                f"{n_patients} patients are too many to be told apart by colour, so there is no "
                "panel of patients."
            )
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "explained": _known(found.get("explained") or ()),
        "embedding": found.get("embedding"),
        "method": found.get("method"),
        "n": len(rows),
        "n_all": len(found["rows"]),
        "panels": panels,
        "omitted": omitted,
    }


def _known(shares: Sequence[float]) -> list[float]:
    """Return the shares; none where they are undefined, as for axes that are no components."""
    known = [float(share) for share in shares if share is not None and np.isfinite(share)]
    return known if len(known) == len(shares) else []


def map_panels(section: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each panel's chart with its legend: shape, colour and name of every group."""
    if section is None:
        return []
    return [
        {
            "title": panel["title"],
            "chart": _chart(section, panel),
            "legend": [(_sample(code), name) for code, name in enumerate(panel["names"])],
        }
        for panel in section["panels"]
    ]


def _chart(section: Mapping[str, Any], panel: Mapping[str, Any]) -> Markup:
    codes = np.asarray(panel["codes"])
    x, y = np.asarray(section["x"]), np.asarray(section["y"])
    paths = []
    for code, name in enumerate(panel["names"]):
        inside = codes == code
        if inside.any():
            title = element("title", f"{name}: {int(inside.sum())}")
            data = _path(x[inside], y[inside], SHAPES[code % len(SHAPES)])
            paths.append(element("path", title, class_=_classes(code), d=data))
    frame = element("rect", class_="frame", x=0, y=0, width=SIDE, height=SIDE)
    label = f"Map of {section['n']} tiles by {panel['title'].lower()}"
    return framed(frame, *paths, width=SIDE, height=SIDE, label=label, class_="map")


def _path(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], shape: str) -> str:
    stroke = _STROKES[shape]
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return "".join(f"M{a} {b}{stroke}" for a, b in pairs)


def _classes(code: int) -> str:
    shape = SHAPES[code % len(SHAPES)]
    return f"pts {shape} s{code % len(SHAPES)}"


def _sample(code: int) -> Markup:
    mark = element("path", class_=_classes(code), d=f"M14 14{_STROKES[SHAPES[code % len(SHAPES)]]}")
    return element(
        "svg", mark, class_="swatch map", width=14, height=14, viewBox="4 4 20 20",
        aria_hidden="true",
    )  # fmt: skip


def _panel(title: str, values: npt.NDArray[np.object_]) -> dict[str, Any]:
    """Code the values by name; beyond eight the smallest groups share the last code."""
    texts = [str(value) or "not recorded" for value in values]
    names, counts = np.unique(texts, return_counts=True)
    most = MAX_PATIENTS if title == "Patient" else MAX_GROUPS
    kept: Sequence[str] = sorted(names.tolist(), key=_natural)
    if len(kept) > most:
        order = np.lexsort((names, -counts))
        kept = sorted(names[order[: most - 1]].tolist(), key=_natural)
        kept = [*kept, f"{len(names) - most + 1} others"]
    places = {name: code for code, name in enumerate(kept)}
    return {
        "title": title,
        "names": list(kept),
        "codes": [places.get(text, len(kept) - 1) for text in texts],
    }


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)


def _thinned(n: int) -> npt.NDArray[np.intp]:
    """Keep at most `MAX_POINTS` of the points, at even distances."""
    if n <= MAX_POINTS:
        return np.arange(n, dtype=np.intp)
    return np.linspace(0, n - 1, MAX_POINTS).astype(np.intp)


def _placed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    share = np.full(len(values), 0.5) if high == low else (values - low) / (high - low)
    return np.rint(EDGE + share * (SIDE - 2 * EDGE)).astype(np.int64)
