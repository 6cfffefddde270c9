"""What an experiment's own record answers of the reporting checklists, and what it leaves open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

from featurebench.reporting import formats
from featurebench.reporting.checklist_items import ITEMS, SOURCES
from featurebench.reporting.forest import tests_of
from featurebench.reporting.limits import given_side

Summary = Mapping[str, Any]
State = Literal["answered", "in part", "open"]
Answer = tuple[State, str]

STATES: tuple[State, ...] = ("answered", "in part", "open")
OPEN: Answer = ("open", "")
_NAMED = 4


def checklist_section(summary: Summary) -> dict[str, Any]:
    """Return every item of TRIPOD+AI and CLAIM with what the record says to it.

    Parameters
    ----------
    summary
        As `featurebench.reporting.summary.summarize` returns it, but for this section.

    Returns
    -------
    dict
        ``rows``: ``checklist``, ``item`` (its number), ``topic``, ``state`` (``answered``; ``in
        part``, where the author must add what only they know; ``open``) and ``answer``; ``counts``
        of the states by checklist; ``sources`` of the numbering.
    """
    answers = {name: answer(summary) for name, answer in ANSWERS.items()}
    rows = []
    for item in ITEMS:
        state, text = answers.get(item.answer, OPEN)
        row = {"checklist": item.checklist, "item": item.number, "topic": item.topic}
        rows.append(row | {"state": state, "answer": text})
    found = Counter((row["checklist"], row["state"]) for row in rows)
    counts = {name: {state: found[name, state] for state in STATES} for name in SOURCES}
    return {"rows": rows, "counts": counts, "sources": dict(SOURCES)}


def checklist_sentence(section: Mapping[str, Any]) -> str:
    """Say how many items are answered, in part and open."""
    parts = [
        f"{name}: {found['answered']} answered, {found['in part']} in part, {found['open']} open"
        for name, found in section["counts"].items()
    ]
    return f"Checklist items, {'; '.join(parts)}."


def _declared(s: Summary) -> Answer:
    metric = s["metric"]
    text = (
        "Comparison of frozen probes and fine-tuned networks in "
        f"{formats.metric_phrase(metric['name'])}, with {_margin(metric)} and alpha "
        f"{metric['alpha']:g}, as declared in the experiment file."
    )
    return "in part", text


def _margin(metric: Mapping[str, Any]) -> str:
    if not metric["margin"]:
        return "no margin"
    return f"a margin of {formats.magnitude(metric['margin'], metric['name'])}"


def _data(s: Summary) -> Answer:
    data, source = s["data"], s["settings"].get("data") or {}
    kinds = ("synthetic", "medmnist", "folder", "manifest")
    kind = next((name for name in kinds if source.get(name)), None)
    if kind == "synthetic":
        return "answered", f"Drawn by a program: {_cohort(data)}."
    told = {"medmnist": "a MedMNIST file", "folder": "a folder", "manifest": "a manifest"}
    return "in part", f"{_cohort(data)}, from {told.get(kind or '', 'the tiles given')}."


def _cohort(data: Mapping[str, Any]) -> str:
    parts = [formats.counted(data["n_tiles"], "tile")]
    if data["n_patients"] is not None:
        parts.append(formats.counted(data["n_patients"], "patient"))
    if data["n_sites"] is not None:
        parts.append(formats.counted(data["n_sites"], "site"))
    return ", ".join(parts)


def _sites(s: Summary) -> Answer:
    number = s["data"]["n_sites"]
    return OPEN if number is None else ("in part", f"{formats.counted(number, 'site')} recorded.")


def _preparation(s: Summary) -> Answer:
    n_bad = len(s["data"]["bad_tiles"])
    text = f"{formats.counted(n_bad, 'tile')} could not be used. " if n_bad else ""
    told = "Input sizes and preprocessing of networks are under Settings." if s["inputs"] else ""
    return ("in part", (text + told).strip()) if text or told else OPEN


def _classes(s: Summary) -> Answer:
    return "in part", f"Classes: {_listed(s['data']['classes'])}, as labelled in the manifest."


def _predictors(s: Summary) -> Answer:
    sources = list(dict.fromkeys(arm["source"] for arm in s["arms"] if arm["source"]))
    used = f" ({_listed(sources)})" if sources else ""
    return "in part", f"The pixels of each tile, as embeddings or fine-tuned networks{used}."


def _sample(s: Summary) -> Answer:
    metric, primary = s["metric"], _primary(s)
    size = formats.magnitude(metric["margin"], metric["name"])
    text = f"{_cohort(s['data'])}; no sample size was planned here."
    if primary is not None and primary["detectable"] is not None:
        found = formats.unsigned(primary["detectable"], metric["name"])
        text += f" With 80 % power a difference of {found} could have been found"
        if primary["n_needed_high"] is not None:
            text += f"; the margin of {size} takes {formats.patients_needed(primary)} patients"
        text += "."
    return "in part", text


def _missing(s: Summary) -> Answer:
    bad = s["data"]["bad_tiles"]
    if not bad:
        return "in part", "No tile was left out; missing entries of the manifest are not examined."
    reasons = [reason for reason, _ in Counter(tile["reason"] for tile in bad).most_common()]
    return "in part", f"{formats.counted(len(bad), 'tile')} left out: {_listed(reasons)}."


def _partition(s: Summary) -> Answer:
    plan = s["plan"]
    text = f"{formats.plan_text(plan)}, seed {plan['seed']}, plan {plan['id']}; every arm on the "
    return "answered", _capital(f"{text}same folds, scored on tiles that it was not trained on.")


def _disjoint(s: Summary) -> Answer:
    found = (s.get("audit") or {}).get("separations") or []
    torn = [row for row in found if row["leaks"] and row["n_torn"]]
    if torn:
        told = [f"{row['n_torn']} of {row['n_values']} ({row['column']})" for row in torn]
        return "answered", f"NOT disjoint: on both sides of a fold are {_listed(told)}."
    if not s["plan"]["group"]:
        return "answered", "Tiles: no patient is known, so those of one patient may be separated."
    checked = [row["column"] for row in found if row["leaks"]]
    proof = f"; none of {_listed(checked)} is on both sides of a fold" if checked else ""
    return "answered", f"Folds are disjoint in {s['plan']['group']}{proof}."


def _weights(s: Summary) -> Answer:
    frozen = (s.get("audit") or {}).get("frozen") or []
    known = {row["network"]: row["sha256"] for row in frozen if row["sha256"]}
    for entry in s["provenance"].get("embeddings") or []:
        known.setdefault(entry["name"], entry["weights_sha256"])
    if not known:
        return OPEN
    named = [f"{name} (SHA-256 {digest[:16]})" for name, digest in known.items() if digest]
    return "in part", f"Networks and their weights: {_listed(named)}. Heads: see Settings."


def _initial(s: Summary) -> Answer:
    tuned = s["settings"].get("finetune") or []
    if not tuned:
        return "answered", "No network was trained; frozen ones have the weights that are hashed."
    starts = dict.fromkeys(
        "random" if each.get("strategy") == "scratch" else str(each.get("weights") or "")
        for each in tuned
    )
    known = [start for start in starts if start]
    return ("answered", f"Fine-tuning starts from weights: {_listed(known)}.") if known else OPEN


def _training(s: Summary) -> Answer:
    heads = list(s["settings"].get("heads") or {})
    tuned = len(s["settings"].get("finetune") or [])
    parts = [f"Heads: {_listed(heads)}."] if heads else []
    if tuned:
        parts.append(f"{formats.counted(tuned, 'fine-tuning recipe')}, in full under Settings.")
    parts += s["budget"] or ["No arm was searched beyond its own inner folds."]
    return "answered", " ".join([*parts, "Tuning is inside the training side of each fold."])


def _selection(s: Summary) -> Answer:
    found = s.get("selections") or []
    reasons = [each["not_chosen"] for each in found if each["not_chosen"]]
    if reasons or not found:
        return "in part", " ".join(["The arms compared are those declared.", *reasons])
    return "answered", "Best probe and best fine-tune by inner folds, never by a test score."


def _ensembling(s: Summary) -> Answer:
    views = [e.get("views", 1) for e in s["settings"].get("backbones") or []]
    more = " Several views of a tile are stored, see Settings." if max(views, default=1) > 1 else ""
    return "in part", f"Predictions of repeats, folds and seeds are never averaged.{more}"


def _measures(s: Summary) -> Answer:
    names = [formats.metric_phrase(name) for name in s["arms"][0]["metrics"]]
    declared = formats.metric_phrase(s["metric"]["name"])
    others = ", ".join(name for name in names if name != declared)
    return "answered", f"Declared: {declared}. Also: {others}."


def _statistics(s: Summary) -> Answer:
    level = formats.percent(1 - s["metric"]["alpha"])
    contrasts = s["comparisons"]
    if not contrasts:
        over = _listed(s["interval_units"])
        return "answered", f"{level} intervals over {over}; nothing was compared."
    tests = dict.fromkeys(c[by]["test"] for c in contrasts for by in tests_of([c]))
    text = f"{level} intervals; {_listed(list(tests))}; a claim needs every test that its rule asks"
    return "answered", f"{text} for; Holm for all but the primary contrast."


def _clusters(s: Summary) -> Answer:
    columns = _columns(s)
    return ("in part", f"Scores by {_listed(columns)}; not tested.") if columns else OPEN


def _subgroups(s: Summary) -> Answer:
    columns = [name for name in _columns(s) if name not in {"site", "scanner"}]
    return ("in part", f"Scores by {_listed(columns)}.") if columns else OPEN


def _columns(s: Summary) -> list[str]:
    found = (s.get("subgroups") or {"columns": []})["columns"]
    return [each["column"] for each in found if not each["is_class"]]


def _predictions(s: Summary) -> Answer:
    return "answered", "Class probabilities of held-out tiles by every arm, in predictions.npz."


def _imbalance(s: Summary) -> Answer:
    counts = s["data"]["tiles_per_class"]
    told = [f"{name} {formats.count(number)}" for name, number in counts.items()]
    weighted = [arm["label"] for arm in s["arms"] if arm["params"].get("class_weight")]
    more = f"; class weights in {_listed(weighted)}" if weighted else ""
    return "in part", f"Tiles: {_listed(told)}{more}."


def _output(s: Summary) -> Answer:
    return "answered", "A probability for each class; a tile is called the most probable one."


def _external(s: Summary) -> Answer:
    given = given_side(s)
    if given:
        return "in part", given
    return "answered", "Not done: arms were scored on held-out parts of one data set."


def _flow(s: Summary) -> Answer:
    data = s["data"]
    n_bad = len(data["bad_tiles"])
    patients = data["patients_per_class"] or {}
    told = [f"{name} {formats.counted(number, 'patient')}" for name, number in patients.items()]
    text = (
        f"{formats.counted(data['n_tiles'] + n_bad, 'tile')} given, {formats.count(n_bad)} left "
        f"out, {formats.count(data['n_tiles'])} used"
    )
    return "in part", f"{text}; {_listed(told)}." if told else f"{text}."


def _characteristics(s: Summary) -> Answer:
    what = "Tiles" if s["data"]["n_patients"] is None else "Tiles and patients"
    return "in part", f"{what} by class and site, and by fold: see Data and folds."


def _numbers(s: Summary) -> Answer:
    folds = s["plan"]["folds"]
    trained, tested = ([row[key] for row in folds] for key in ("n_train", "n_test"))
    return "answered", (
        f"Trained on {_range(trained)} and tested on {_range(tested)} tiles a fold; counts by "
        "class under Data and folds."
    )


def _performance(s: Summary) -> Answer:
    name = s["metric"]["name"]
    arm = next(arm for arm in s["arms"] if arm["id"] == s["reference"])
    found = arm["metrics"][name]
    score = formats.estimate(found["value"], found["ci_low"], found["ci_high"])
    return "answered", f"{arm['label']}: {formats.metric_phrase(name)} {score}; others under Arms."


def _diagnostic(s: Summary) -> Answer:
    level = "tile and patient" if any(arm["patient_metrics"] for arm in s["arms"]) else "tile"
    return "answered", f"Scores by {level}, recall by class and confusion matrices, per arm."


def _failures(s: Summary) -> Answer:
    if not s.get("gallery"):
        return OPEN
    return "in part", "Most confident errors of each arm, and tiles on which arms disagree."


def _robustness(s: Summary) -> Answer:
    audit = s.get("audit") or {}
    told = {row["finding"] for row in audit.get("shortcuts") or ()}
    parts = {
        "audit for leakage": audit.get("separations"),
        "for near-duplicates": audit.get("duplicates"),
        "for shortcuts": told - {"not tested", "cannot be told apart"},
        "curves with fewer labels": s.get("few_labels"),
        "other seeds": s.get("seeds"),
        "ablations": s.get("ablations"),
        "scores by subgroup": _columns(s),
    }
    done = [name for name, found in parts.items() if found]
    return ("in part", _capital(f"{', '.join(done)}.")) if done else OPEN


def _limitations(s: Summary) -> Answer:
    number = len(s["caveats"]) + len(s["limits"])
    told = formats.counted(number, "sentence")
    return "in part", f"{told} on what limits this report."


def _verdict(s: Summary) -> Answer:
    return "in part", "What was shown is in the verdict; what it means for care is not."


def _software(s: Summary) -> Answer:
    versions = s["provenance"].get("versions") or {}
    named = [f"{name} {found}" for name, found in versions.items() if found != "absent"]
    commit = s["provenance"].get("commit")
    text = ", ".join(named) + (f"; commit {commit}" if commit else "")
    return ("in part", f"{text}.") if text else OPEN


def _details(s: Summary) -> Answer:
    return "in part", "The experiment as resolved, its hashes and versions: see Settings."


def _primary(s: Summary) -> Mapping[str, Any] | None:
    found: list[Mapping[str, Any]] = [c for c in s["comparisons"] if c["primary"]]
    return found[0] if found else None


def _listed(names: list[str]) -> str:
    shown = [str(name) for name in names[:_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return formats.count(low) if low == high else f"{formats.count(low)} to {formats.count(high)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


ANSWERS: Mapping[str, Callable[[Summary], Answer]] = {
    "declared": _declared,
    "data": _data,
    "sites": _sites,
    "preparation": _preparation,
    "classes": _classes,
    "predictors": _predictors,
    "sample": _sample,
    "missing": _missing,
    "partition": _partition,
    "disjoint": _disjoint,
    "weights": _weights,
    "initial": _initial,
    "training": _training,
    "selection": _selection,
    "ensembling": _ensembling,
    "measures": _measures,
    "statistics": _statistics,
    "clusters": _clusters,
    "subgroups": _subgroups,
    "predictions": _predictions,
    "imbalance": _imbalance,
    "output": _output,
    "external": _external,
    "flow": _flow,
    "characteristics": _characteristics,
    "numbers": _numbers,
    "performance": _performance,
    "diagnostic": _diagnostic,
    "failures": _failures,
    "robustness": _robustness,
    "limitations": _limitations,
    "verdict": _verdict,
    "software": _software,
    "details": _details,
}
"""What answers an item, by name."""
