"""The glossary has the words of its report and no others; each is linked where first read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_cases import draw_case

from featurebench.reporting.glossary import WORDS, read_text, typeset, words_in
from featurebench.reporting.render import render_html
from featurebench.reporting.svg import element


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_case(tmp_path_factory.mktemp("glossary")).summary()


def explained(html: str) -> list[str]:
    return re.findall(r'<dt id="word-[^"]+">(.*?)</dt>', html)


def page(body: str) -> str:
    return f"<body><p>an arm</p><main id='content'>{body}</main><p>a probe</p></body>"


def test_names_and_anchors_differ() -> None:
    assert len({word.name for word in WORDS}) == len({word.anchor for word in WORDS}) == len(WORDS)


def test_every_word_finds_itself_and_its_meaning_is_a_sentence() -> None:
    for word in WORDS:
        assert word in words_in(f"of 3 {word.name} here")
        assert word.meaning[0].isupper()
        assert word.meaning.endswith(".")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3 pp; an app, 3 ppm", ["pp"]),
        ("Two arms and a farm", ["arm"]),
        ("Inner folds; a twofold gain", ["fold", "inner folds"]),
        ("repeated, ahead, margins", ["margin"]),
        ("", []),
    ],
)
def test_whole_words_are_found(text: str, names: list[str]) -> None:
    assert [word.name for word in words_in(text)] == names


def test_report_explains_what_it_says_and_nothing_else(summary: dict[str, Any]) -> None:
    html = render_html(summary)
    names = explained(html)
    assert {"arm", "pp", "probe", "dummy", "fold", "margin", "Holm", "ROC AUC"} <= set(names)
    assert "CKA" not in names
    assert "sensitivity" in names
    text = read_text(html.partition('<section id="words"')[0] + "</main>")
    assert [word.name for word in words_in(text)] == names


def test_only_the_main_part_is_read_without_its_settings() -> None:
    body = page("<p>The arm gains 3 pp.</p><pre>heads: {dummy: {}}</pre>")
    assert [word.name for word in words_in(read_text(body))] == ["arm", "pp"]


def test_first_words_lead_to_the_glossary(summary: dict[str, Any]) -> None:
    html = render_html(summary)
    linked = re.findall(r'<a class="word" href="#(word-[^"]+)">', html)
    assert len(linked) == len(set(linked)) >= 8
    assert set(linked) <= set(re.findall(r'<dt id="(word-[^"]+)">', html))
    places = [html.index(f'href="#{anchor}"') for anchor in linked]
    assert max(places) < html.index('<section id="words"')
    assert re.search(r'<p class="answer">.*?<a class="word" href="#word-probe">probe</a>', html)


@pytest.mark.parametrize(
    "body",
    [
        "<h2>An arm</h2>",
        "<p><a href='#x'>an arm</a></p>",
        "<details><summary>an arm</summary><p>an arm</p></details>",
        "<figure><svg><title>arm</title><text>arm</text></svg></figure>",
        "<table><tr><td>arm</td></tr></table>",
        "<pre>arm: -1</pre>",
        '<p title="an arm">none</p>',
    ],
)
def test_links_stand_in_running_text_only(body: str) -> None:
    assert typeset(page(body), WORDS) == page(body)


def test_a_word_is_linked_once_and_the_rest_of_the_page_is_left() -> None:
    made = typeset(page("<ul><li>two <b>arms<br></b>, an arm</li></ul>"), WORDS)
    link = '<a class="word" href="#word-arm">arms</a>'
    assert made == page(f"<ul><li>two <b>{link}<br></b>, an arm</li></ul>")


def test_words_within_words_are_linked_apart() -> None:
    made = typeset(page("<p>inner folds</p><p>inner folds</p>"), WORDS)
    first = 'inner <a class="word" href="#word-fold">folds</a>'
    second = '<a class="word" href="#word-inner-folds">inner folds</a>'
    assert made == page(f"<p>{first}</p><p>{second}</p>")


def test_minus_signs_are_set_in_texts_not_in_settings_or_attributes() -> None:
    body = '<p data-value="-1">-1</p><svg><text x="-1">-1</text></svg><pre>a: -1</pre>'
    set_in_type = '<p data-value="-1">−1</p><svg><text x="-1">−1</text></svg><pre>a: -1</pre>'
    assert typeset(page(body), []) == page(set_in_type)


def test_figures_have_true_minus_signs() -> None:
    assert element("text", "-0.02", x=-1.0) == '<text x="-1">−0.02</text>'
