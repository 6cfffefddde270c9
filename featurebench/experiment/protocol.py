"""The sealed protocol: what was declared before the first score, and each change of it since.

``protocol.json`` is written once, when the first arm is about to run. What an experiment file says
later is held against it: a change is appended with its date, and the report tells it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from featurebench.errors import ResultsError
from featurebench.results import is_complete, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from featurebench.config import ExperimentConfig

PROTOCOL_FILE = "protocol.json"
PROTOCOL_VERSION = 1
# Keys of ``compare`` that no claim rests on.
_NOT_SEALED = frozenset({"resamples", "tests", "subgroups"})
_SECTIONS = ("plan", "arms")
_DIGITS = 16
# So many arms are named in one sentence; of more, their number is given.
_NAMES = 4


@dataclass(frozen=True)
class Change:
    """What was declared anew at one time.

    Parameters
    ----------
    date
        UTC, ISO 8601.
    after_results
        Whether some run was complete by then.
    keys
        By key of the protocol, such as ``margin`` or ``arms.net+knn``: ``old`` and ``new``; None
        where it was not declared.
    sha256
        Of the protocol as it is after the change.
    """

    date: str
    after_results: bool
    keys: Mapping[str, Mapping[str, Any]]
    sha256: str


@dataclass(frozen=True)
class Protocol:
    """What was declared at first, and every change of it.

    Parameters
    ----------
    declared
        UTC, ISO 8601.
    after_results
        Whether some run was complete by then, as where an older version made the runs.
    sha256
        Of the canonical JSON of ``protocol``, see `protocol_sha256`.
    protocol
        The claim-relevant keys of ``compare``, with ``plan`` (its id and how it was drawn) and
        ``arms`` (run ids by name).
    changes
        In the order in which they were made.
    version
        Of this format.
    """

    declared: str
    after_results: bool
    sha256: str
    protocol: Mapping[str, Any]
    changes: tuple[Change, ...] = ()
    version: int = PROTOCOL_VERSION


def protocol_sha256(protocol: Mapping[str, Any]) -> str:
    """Hash (64 hex) a protocol's canonical JSON: keys sorted, no spaces, UTF-8.

    >>> protocol_sha256({"b": 0.02, "a": None})[:16]
    '871c6f4e0e879730'
    """
    text = json.dumps(protocol, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seal_protocol(
    config: ExperimentConfig, plan_id: str, arms: Mapping[str, str], *, record: bool = True
) -> Protocol:
    """Declare the protocol, or append what differs from the one that was declared before.

    Parameters
    ----------
    config
        Of the experiment.
    plan_id
        Of the folds that all arms share.
    arms
        Run ids of the declared arms, by name.
    record
        Whether it is written; a comparison that is only printed writes nothing.

    Returns
    -------
    Protocol
        With the change, if there is one, as the last of its changes.

    Raises
    ------
    ResultsError
        If ``protocol.json`` is damaged or of a newer version.
    """
    results = config.output.results
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    wanted = _wanted(config, plan_id, arms)
    sealed = read_protocol(results)
    seen = any(is_complete(folder) for folder in (results / "runs").glob("*"))
    if sealed is None:
        found = Protocol(now, seen, protocol_sha256(wanted), wanted)
    else:
        current = _current(sealed)
        keys = _differences(current, wanted)
        if not keys:
            return sealed
        change = Change(now, seen, keys, protocol_sha256(_applied(current, keys)))
        found = replace(sealed, changes=(*sealed.changes, change))
    if record:
        text = json.dumps(asdict(found), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(results / PROTOCOL_FILE, text + "\n")
    return found


def read_protocol(results: Path) -> Protocol | None:
    """Read ``protocol.json``; None where none was sealed yet.

    Raises
    ------
    ResultsError
        If it is damaged: its hashes do not fit, or it is no such document.
    """
    try:
        document = json.loads((results / PROTOCOL_FILE).read_text(encoding="utf-8"))
        if document["version"] > PROTOCOL_VERSION:
            raise ResultsError(f"{PROTOCOL_FILE} was written by a newer featurebench: upgrade")
        changes = tuple(Change(**change) for change in document.pop("changes"))
        found = Protocol(**document, changes=changes)
        problem = next(_problems(found), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise ResultsError(
            f"{PROTOCOL_FILE} in {results.name}/ is damaged ({problem}): restore it from a copy, "
            "or delete it to declare the protocol anew, which the report will say"
        )
    return found


def protocol_section(protocol: Protocol) -> dict[str, Any]:
    """Return the protocol as the report shows it: the document, ``sentences`` and ``caveats``."""
    return asdict(protocol) | {
        "sentences": [_declared(protocol), *(_told(change) for change in protocol.changes)],
        "caveats": list(_caveats(protocol)),
    }


def _wanted(config: ExperimentConfig, plan_id: str, arms: Mapping[str, str]) -> dict[str, Any]:
    declared = config.compare.model_dump(mode="json", exclude=set(_NOT_SEALED))
    plan = {"id": plan_id, **config.splits.model_dump(mode="json")}
    return {**declared, "plan": plan, "arms": dict(arms)}


def _flat(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Give the sections' keys dotted names, beside those of the top."""
    top = {key: value for key, value in protocol.items() if key not in _SECTIONS}
    inner = {f"{part}.{key}": v for part in _SECTIONS for key, v in protocol[part].items()}
    return top | inner


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    before, after = _flat(old), _flat(new)
    return {
        key: {"old": before.get(key), "new": after.get(key)}
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    }


def _applied(protocol: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a protocol after a change; an arm that is not declared any more is gone from it."""
    after = {key: dict(part) if key in _SECTIONS else part for key, part in protocol.items()}
    for key, change in keys.items():
        section, dot, name = key.partition(".")
        if section == "arms" and change["new"] is None:
            del after[section][name]
        elif dot:
            after[section][name] = change["new"]
        else:
            after[key] = change["new"]
    return after


def _current(sealed: Protocol) -> Mapping[str, Any]:
    current = sealed.protocol
    for change in sealed.changes:
        current = _applied(current, change.keys)
    return current


def _problems(sealed: Protocol) -> Iterator[str]:
    """Follow the changes and compare the hash after each."""
    current = sealed.protocol
    if protocol_sha256(current) != sealed.sha256:
        yield "its sha256 does not fit what it declares"
    for number, change in enumerate(sealed.changes, 1):
        current = _applied(current, change.keys)
        if protocol_sha256(current) != change.sha256:
            yield f"the sha256 of change {number} does not fit"


def _declared(protocol: Protocol) -> str:
    when = "when results were there already" if protocol.after_results else "before any result"
    text = f"Declared on {_day(protocol.declared)} (sha256 {protocol.sha256[:_DIGITS]}), {when}"
    return (
        f"{text}; changed since as follows." if protocol.changes else f"{text}; not changed since."
    )


def _caveats(protocol: Protocol) -> Iterator[str]:
    if protocol.after_results:
        yield (
            f"The protocol was declared on {_day(protocol.declared)}, when results were there "
            "already: nothing shows that metric, margin and arms were chosen without them."
        )
    yield from (_told(change) for change in protocol.changes if change.after_results)


def _told(change: Change) -> str:
    when = "after results were seen" if change.after_results else "before any result"
    parts = [_key_told(key, values) for key, values in _further_keys(change)]
    # Another plan gives every arm another identity.
    is_moved = "plan.id" in change.keys
    for verb, names in _arms_told(change).items():
        if names and not (verb == "changed" and is_moved):
            shown = ", ".join(names) if len(names) <= _NAMES else f"{len(names)}"
            noun = "arm" if len(names) == 1 else "arms"
            parts.append(f"{noun} {verb}: {shown}")
    return f"The protocol was changed {when}, on {_day(change.date)}: {'; '.join(parts)}."


def _further_keys(change: Change) -> list[tuple[str, Mapping[str, Any]]]:
    return [item for item in change.keys.items() if not item[0].startswith("arms.")]


def _arms_told(change: Change) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {"added later": [], "left out": [], "changed": []}
    for key, values in change.keys.items():
        section, _, name = key.partition(".")
        if section == "arms":
            verb = "added later" if values["old"] is None else "changed"
            told["left out" if values["new"] is None else verb].append(name)
    return told


def _key_told(key: str, values: Mapping[str, Any]) -> str:
    old, new = ("none" if v is None else v for v in (values["old"], values["new"]))
    return f"{key.removeprefix('plan.') if key != 'plan.id' else 'plan'} {old} -> {new}"


def _day(date: str) -> str:
    return date.partition("T")[0]
