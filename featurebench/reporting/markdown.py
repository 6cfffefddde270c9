"""report.md: verdict, arms and differences in the space of a pull request's comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from featurebench.reporting import formats
from featurebench.reporting.answer import split_verdict
from featurebench.reporting.checklist import checklist_sentence
from featurebench.reporting.forest import tests_of
from featurebench.reporting.glossary import words_in
from featurebench.reporting.ledger import cost_columns
from featurebench.reporting.operating import MEASURES
from featurebench.reporting.ranking import in_order, ranked_arms, repeats_note, weights_note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GLOSSARY = "Glossary"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def markdown(summary: Mapping[str, Any]) -> str:
    """Return the report in Markdown; text that came from outside is escaped.

    Verdict, setup, arms, differences, what limits them, audit, cost and the files come first, so
    that a pull request shows them; what the experiment has besides follows, and last the words that
    it uses, explained.
    """
    sections = [
        f"# {plain(summary['experiment'])}",
        _verdict(summary["verdict"]),
        f"{plain(_setup(summary))} ([{GLOSSARY}](#{GLOSSARY.lower()}))",
        _arms_table(summary),
        plain(f"{weights_note(summary)} {repeats_note(summary)}"),
        _bullets(summary.get("choices") or []),
        *_differences(summary),
        *_titled("Read with care", summary["caveats"]),
        *_titled("Audit", _audit(summary)),
        *_titled("Not shown", summary["limits"]),
        *_titled("Protocol", (summary["protocol"] or {}).get("sentences", [])),
        _costs(summary),
        _failures(summary),
        _drift(summary),
        *_operating_point(summary),
        *_recalibration(summary),
        _bullets((summary["few_labels"] or {}).get("sentences", [])),
        *_ablations(summary),
        *_seeds(summary),
        *_offered(summary),
        _files(summary),
        _colophon(summary),
    ]
    text = "\n\n".join(section for section in sections if section)
    return f"{formats.minus_signs(text)}\n\n{_glossary(text)}\n"


def _glossary(text: str) -> str:
    """Explain the words of a text, below a heading that the setup's line links to."""
    lines = [f"- **{plain(word.name)}**: {plain(word.meaning)}" for word in words_in(text)]
    return "\n".join([f"## {GLOSSARY}", "", *lines])


def plain(text: object) -> str:
    """Return text in which nothing is Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _verdict(verdict: str) -> str:
    """Set the verdict's first sentence, which is the answer, in bold."""
    first, rest = split_verdict(verdict)
    answer = f"**{plain(first)}**" if first else ""
    return f"{answer} {plain(rest)}".strip()


def _titled(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"**{title}**", _bullets(sentences)] if sentences else []


def _audit(summary: Mapping[str, Any]) -> list[str]:
    audit = summary.get("audit") or {}
    return [each for key in ("findings", "cleared", "absent") for each in audit.get(key) or ()]


def _drift(summary: Mapping[str, Any]) -> str:
    """Say how far each fine-tune moved what its classifier sees."""
    panels = (summary["drift"] or {"panels": []})["panels"]
    told = [
        f"{arm['label']} {arm['points'][-1]['value']:.2f}"
        for panel in panels
        for arm in panel["arms"]
        if arm["points"][-1]["value"] is not None
    ]
    if not told:
        return ""
    text = "Similarity of the last stage to the network before fine-tuning (CKA; 1: as it was)"
    return plain(f"{text}: {'; '.join(told)}.")


def _operating_point(summary: Mapping[str, Any]) -> list[str]:
    """Lay out what each arm does at the declared threshold."""
    section = summary.get("operating_point")
    if not section:
        return []
    title = f"At the declared threshold of {section['threshold']:g} on {section['of']}"
    note = f"Tile level; PPV and NPV hold at {formats.prevalence_text(section)}."
    return [_estimates(summary, section, title, MEASURES), plain(note)]


def _recalibration(summary: Mapping[str, Any]) -> list[str]:
    """Lay out calibration slope and intercept of the arms that the verdict is about."""
    section = dict(summary.get("recalibration") or {})
    if not section:
        return []
    drawn = (summary.get("bands") or {"calibration": []})["calibration"]
    leads = {arm["id"] for arm in drawn}
    section |= {"arms": [arm for arm in section["arms"] if arm["id"] in leads]}
    names = {"slope": "Slope (1 is right)", "intercept": "Intercept (0 is right)"}
    title = f"Calibration, {section['of']}"
    return [_estimates(summary, section, title, names)]


def _estimates(
    summary: Mapping[str, Any], section: Mapping[str, Any], title: str, names: Mapping[str, str]
) -> str:
    """Lay out a section's estimates, an arm a row."""
    level = formats.percent(1 - summary["metric"]["alpha"])
    rows = [
        [plain(arm["label"]), *(formats.estimate(**_ends(arm[name])) for name in names)]
        for arm in in_order(ranked_arms(summary), section["arms"])
    ]
    return _table([f"{plain(title)} ({level} CI)", *names.values()], rows)


def _files(summary: Mapping[str, Any]) -> str:
    """Link to what stands beside this file."""
    names = ["report.html", "report.json", "arms.csv", "comparisons.csv", "scores.csv"]
    names += ["subgroups.csv"] if summary.get("subgroups") else []
    names += ["checklist.csv"] if summary.get("checklist") else []
    names += ["arms.tex", *(["differences.tex"] if summary["comparisons"] else []), "figures"]
    links = ", ".join(f"[{name}]({name})" for name in names)
    section = summary.get("checklist")
    sentence = f" {plain(checklist_sentence(section))}" if section else ""
    return f"Files: {links}.{sentence}"


def _setup(summary: Mapping[str, Any]) -> str:
    data, plan = summary["data"], summary["plan"]
    patients = data["n_patients"]
    parts = [formats.counted(data["n_tiles"], "tile")]
    if patients is not None:
        parts.append(f"{formats.counted(patients, 'patient')}")
    parts.append(formats.counted(len(data["classes"]), "class", "classes"))
    sizes = data.get("tile_sizes") or {"sentence": ""}
    return f"{', '.join(parts)}; {formats.plan_text(plan)}. {sizes['sentence']}".strip()


def _arms_table(summary: Mapping[str, Any]) -> str:
    metric = summary["metric"]["name"]
    level = formats.percent(1 - summary["metric"]["alpha"])
    rows = []
    for arm in ranked_arms(summary):
        estimate = arm["metrics"].get(metric, {"value": None, "ci_low": None, "ci_high": None})
        label = plain(arm["label"])
        rows.append(
            [
                f"{label} (reference)" if arm["id"] == summary["reference"] else label,
                formats.estimate(**_ends(estimate)),
                formats.seconds(arm["cost"]["wall_s"]),
                formats.memory(arm["cost"]["peak_memory_mb"]),
            ]
        )
    head = ["Arm", f"{summary['metric']['label']} ({level} CI)", "Time", "Peak memory"]
    return _table(head, rows)


def _ends(estimate: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"value": estimate["value"], "low": estimate["ci_low"], "high": estimate["ci_high"]}


def _differences(summary: Mapping[str, Any]) -> list[str]:
    """Lay out the tests of every contrast, and what they show."""
    if not summary["comparisons"]:
        return []
    tests = tests_of(summary["comparisons"])
    labels = {arm["id"]: arm["label"] for arm in summary["arms"]}
    rows = [
        [
            plain(labels.get(c["arm_a"], c["arm_a"])) + (" (primary)" if c["primary"] else ""),
            *(_by_test(c[test], c["metric"]) for test in tests),
            plain(formats.p_value(c["p_adjusted"])),
            plain(c["outcome"]),
        ]
        for c in summary["comparisons"]
    ]
    reference = plain(labels.get(summary["reference"], summary["reference"]))
    over = [f"Over {unit}" for unit in tests.values()]
    head = [f"Difference from {reference}", *over, "p", "Outcome"]
    metric = summary["metric"]
    note = (
        f"In {formats.metric_phrase(metric['name'])}, {formats.margin(metric)}. p: the largest of "
        "the tests that a claim asks for, by Holm for all but the primary contrast."
    )
    wins = (summary.get("repeat_wins") or {"sentences": []})["sentences"]
    return [_table(head, rows), plain(note), plain(" ".join(wins))]


def _by_test(found: Mapping[str, Any], metric: str) -> str:
    return formats.difference(found["difference"], found["ci_low"], found["ci_high"], metric)


def _costs(summary: Mapping[str, Any]) -> str:
    """Lay the ledger out, without what stands beside the scores already."""
    arms = ranked_arms(summary)
    columns = [each for each in cost_columns(arms) if each.key != "memory"]
    rows = [
        [plain(arm["label"]), *(_alone_and_shared(*column.cells[row]) for column in columns)]
        for row, arm in enumerate(arms)
    ]
    head = ["Cost (embedding shared)", *(column.title for column in columns)]
    table = _table(head, rows) if columns else ""
    return "\n\n".join(part for part in (table, _bullets(summary["budget"])) if part)


def _alone_and_shared(alone: str, shared: str) -> str:
    return f"{alone} ({shared})" if shared else alone


def _offered(summary: Mapping[str, Any]) -> list[str]:
    offered = summary["offered"]
    if not offered:
        return []
    labels = {arm["id"]: arm["label"] for arm in summary["arms"]}
    rows = [
        [
            plain(labels.get(row["arm"], row["arm"])),
            formats.difference(row["difference"], row["ci_low"], row["ci_high"], row["metric"]),
            plain(formats.p_value(row["p_corrected"])),
            *(
                plain(formats.p_value(row["tests"][column["name"]]["p_value"]))
                for column in offered["columns"]
            ),
        ]
        for row in offered["rows"]
    ]
    each_arm = [
        [plain(labels.get(row["arm"], row["arm"])), *(plain(c["value"]) for c in row["cells"])]
        for row in offered["each_arm"]
    ]
    naive = [f"{plain(column['label'])}, p" for column in offered["columns"]]
    head = ["Arm", summary["metric"]["label"], "Corrected t, p", *naive]
    why = [
        f"{test['label']}. "
        + (f"Not computed: {test['not_run']}. " if test["not_run"] else "")
        + test["warning"]
        for test in offered["tests"]
    ]
    return [
        "**Tests the literature uses** (no outcome rests on them)",
        _table(head, rows) if rows else "",
        _table(["Arm", *(plain(each["label"]) for each in offered["measures"])], each_arm)
        if each_arm
        else "",
        _bullets([*offered["sentences"], *offered["over_arms"]]),
        "**Why not to rely on them**",
        _bullets(why),
    ]


def _ablations(summary: Mapping[str, Any]) -> list[str]:
    parts = []
    for design in (summary["ablations"] or {"designs": []})["designs"]:
        keys = design["keys"]
        rows = [
            [
                *(plain(row["values"][key["name"]]) for key in keys),
                formats.estimate(row["value"], row["ci_low"], row["ci_high"])
                + (" (best)" if row["is_best"] else ""),
                formats.seconds(row["wall_s"]),
            ]
            for row in design["rows"]
        ]
        names = " × ".join(plain(key["label"]) for key in keys)
        head = [*(plain(key["label"]) for key in keys), summary["metric"]["label"], "Training"]
        means = [
            f"Mean by {effect['label']}: "
            + ", ".join(
                f"{each['value']} {formats.score(each['mean'])}" for each in effect["means"]
            )
            for effect in design["effects"]
        ]
        parts += [f"**Ablation: {names}**", _bullets([*design["sentences"], *means])]
        parts.append(_table(head, rows))
    return parts


def _seeds(summary: Mapping[str, Any]) -> list[str]:
    arms = (summary["seeds"] or {"arms": []})["arms"]
    if not arms:
        return []
    rows = []
    for arm in arms:
        parts = arm["components"] or {"folds": None, "seeds": None, "residual": None}
        numbers = [arm["mean"], arm["sd"], parts["folds"], parts["seeds"], parts["residual"]]
        values = ", ".join(formats.score(seed["value"]) for seed in arm["seeds"])
        rows.append([plain(arm["label"]), values, *map(formats.score, numbers)])
    head = ["Seeds", "Each", "Mean", "SD over seeds", "SD, folds", "SD, seeds", "SD, residual"]
    return [_table(head, rows), _bullets([" ".join(arm["sentences"]) for arm in arms])]


def _failures(summary: Mapping[str, Any]) -> str:
    return _bullets([f"{f['arm']} failed: {f['error']}" for f in summary["failures"]])


def _colophon(summary: Mapping[str, Any]) -> str:
    provenance = summary["provenance"]
    known = [
        f"{key} {provenance[key]}"
        for key in ("featurebench", "commit", "device", "created")
        if isinstance(provenance.get(key), str)
    ]
    return plain("; ".join([f"Plan {summary['plan']['id']}", *known]) + ".")


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
