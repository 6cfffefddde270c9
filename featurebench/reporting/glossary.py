"""The words of a report explained, those that occur in it, and where each is first read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.reporting.formats import minus_signs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_TAG = re.compile(r"(<[^>]*>)")
_NAME = re.compile(r"</?([a-zA-Z][\w-]*)")
_VOID = frozenset({"br", "hr", "img", "input", "wbr"})
_UNREAD = frozenset({"pre", "script", "style", "option"})
# Where a link to a word stands: in running text, and in nothing that is a link or a button.
_PROSE = frozenset({"p", "li", "dd", "figcaption"})
_CLOSED = frozenset({"a", "summary", "button", "svg", "details", "table", "nav"})


@dataclass(frozen=True)
class Word:
    """A word of the report: its name, what it looks like in a text and what it means."""

    name: str
    pattern: re.Pattern[str]
    meaning: str

    @property
    def anchor(self) -> str:
        """Id of its place in the glossary."""
        return "word-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


def _word(name: str, meaning: str, pattern: str | None = None) -> Word:
    found = re.compile(rf"\b(?:{pattern or re.escape(name) + 's?'})\b", re.IGNORECASE)
    return Word(name, found, meaning)


WORDS: tuple[Word, ...] = (
    _word(
        "arm",
        "What is compared: an embedding with a head, or a network with a way of fine-tuning it.",
    ),
    _word("average precision", "Area under the precision-recall curve, computed within folds."),
    _word("balanced accuracy", "Mean over the classes of the share of their tiles called right."),
    _word(
        "calibration error",
        "Expected calibration error (ECE): how far the probability of the called class is from the "
        "share of calls that are right, on average over 15 bins.",
        "(?:expected )?calibration error",
    ),
    _word(
        "calibration slope",
        "How the logit of the outcome's frequency grows with the predicted one: 1 is right, below "
        "1 probabilities are too extreme.",
    ),
    _word(
        "CI",
        "Confidence interval, made to hold the true value in as many of many cohorts as its level "
        "says.",
        "CI",
    ),
    _word("CKA", "Centred kernel alignment: how alike two networks see the same tiles, 1 at most."),
    _word(
        "dummy",
        "The baseline that never looks at a tile and predicts the frequencies of the classes.",
    ),
    _word("embedding", "The numbers that a frozen network makes of a tile."),
    _word(
        "equivalent",
        "Shown to differ by less than the margin, in either direction.",
        "equivalent|equivalence",
    ),
    _word(
        "fine-tune",
        "A network whose own weights were trained on these tiles, and not only a head.",
        "fine-tun(?:e|es|ed|ing)",
    ),
    _word(
        "fold",
        "One of the parts into which patients or tiles are split; each is predicted by arms "
        "trained on the others.",
    ),
    _word("frozen", "Said of a network whose weights are left as they came."),
    _word("head", "The classifier that is trained on embeddings."),
    _word(
        "Holm",
        "Holm's adjustment of p-values: the chance of any false claim among the contrasts stays "
        "at or below alpha.",
    ),
    _word(
        "inner folds",
        "Folds within a training set, on which settings and arms are chosen without the test "
        "tiles.",
    ),
    _word("margin", "The difference, declared in advance, below which two arms count as equal."),
    _word(
        "net benefit",
        "True positives per tile less the false ones, these weighted by the odds of the threshold.",
    ),
    _word("non-inferior", "Shown not to be worse than the reference by the margin or more."),
    _word("not resolved", "Nothing was shown, neither a difference nor that there is none."),
    _word("not superior", "Shown not to be better than the reference by the margin or more."),
    _word("pp", "Percentage points: from 80 % to 83 % are 3 percentage points.", "(?<=[0-9] )pp"),
    _word("PPV", "Positive predictive value: of what is called positive, the share that is."),
    _word("NPV", "Negative predictive value: of what is called negative, the share that is."),
    _word(
        "primary contrast",
        "The comparison that the verdict is about, declared before the run, of fine-tuning with "
        "frozen probes. Its p-value is not adjusted for the others.",
        "primary(?: contrast)?",
    ),
    _word("probe", "A head on the embeddings of a frozen network."),
    _word("reference", "The arm that all others are held against."),
    _word("repeat", "The whole cross-validation once more, with folds drawn anew."),
    _word(
        "resample",
        "Patients (or tiles) drawn again with replacement, to see how much a number depends on "
        "who was tested.",
        "resample[sd]?",
    ),
    _word(
        "ROC AUC",
        "How often a tile with the condition has a higher score than one without, computed within "
        "folds; 0.5 is chance.",
        "ROC AUC|AUC",
    ),
    _word("sensitivity", "Of the tiles with the condition, the share called positive."),
    _word("specificity", "Of the tiles without the condition, the share called negative."),
)
"""Every word that a report may need explained."""


def words_in(text: str) -> list[Word]:
    """Return the words that occur in a text, in the order of the alphabet."""
    found = [word for word in WORDS if word.pattern.search(text)]
    return sorted(found, key=lambda word: word.name.lower())


def read_text(page: str) -> str:
    """Return what a reader sees of a page's main part, settings and code left out."""
    _, main, _ = _parted(page)
    return "".join(token for token, inside in _tokens(main) if _is_read(inside))


def typeset(page: str, words: Sequence[Word]) -> str:
    """Set true minus signs in a page's main part, and link each word where it is first read.

    Parameters
    ----------
    page
        HTML with one ``main`` element, every ``<`` and ``>`` of its texts and attributes escaped.
    words
        Those that the page's glossary has.
    """
    before, main, after = _parted(page)
    waiting, parts = list(words), []
    for token, inside in _tokens(main):
        text = minus_signs(token) if _is_read(inside) else token
        if inside and _PROSE.intersection(inside) and not _CLOSED.intersection(inside):
            text = _linked(text, waiting)
        parts.append(text)
    return "".join([before, *parts, after])


def _linked(text: str, waiting: list[Word]) -> str:
    """Link the words' first places in a text, and strike them off the list."""
    places: list[tuple[int, int, Word]] = []
    for word in list(waiting):
        found = word.pattern.search(text)
        if found and all(
            found.end() <= start or stop <= found.start() for start, stop, _ in places
        ):
            places.append((*found.span(), word))
            waiting.remove(word)
    for start, stop, word in sorted(places, key=lambda place: -place[0]):
        link = f'<a class="word" href="#{word.anchor}">{text[start:stop]}</a>'
        text = f"{text[:start]}{link}{text[stop:]}"
    return text


def _parted(page: str) -> tuple[str, str, str]:
    before, opening, rest = page.partition("<main")
    main, closing, after = rest.partition("</main>")
    return before, opening + main, closing + after


def _is_read(inside: Collection[str] | None) -> bool:
    return inside is not None and not _UNREAD.intersection(inside)


def _tokens(markup: str) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Yield tags, with None, and texts, with the names of the elements around them."""
    inside: list[str] = []
    for token in _TAG.split(markup):
        name = _NAME.match(token)
        if name is None:
            yield token, tuple(inside)
            continue
        if token.startswith("</"):
            while inside and inside.pop() != name[1]:
                pass
        elif name[1] not in _VOID:
            inside.append(name[1])
        yield token, None
