"""Mistakes of readers: ten a page with words that the answer must have; slow, each made for real."""

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults import mistakes

ROOT = Path(__file__).resolve().parents[2]
LISTED = list(mistakes.mistakes())


def test_each_page_has_ten_mistakes_with_the_words_of_their_answers() -> None:
    pages = Counter(m.page for m in LISTED)
    howto = {f"docs/howto/{page.name}" for page in (ROOT / "docs" / "howto").glob("*.md")} - {"docs/howto/index.md"}
    assert set(pages) >= howto | {"README.md", "docs/tutorial.md"}
    assert min(pages.values()) >= 10
    assert [m.mistake for m in LISTED if len(m.says) < 10] == []
    assert len(set(LISTED)) == len(LISTED)


def test_the_table_has_every_mistake() -> None:
    table = mistakes.PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^\| (?!mistake )\S", table, re.MULTILINE)) == len(LISTED)
    assert [m.mistake for m in LISTED if f"| {m.mistake} |" not in table] == []


def test_an_answer_is_wrong_without_its_words_and_with_a_traceback() -> None:
    one = LISTED[0]
    assert mistakes.wrong(one, f"topkin: {one.says}") == ""
    assert mistakes.wrong(one, f"topkin: {one.says[1:]}") != ""
    assert mistakes.wrong(one, f"Traceback (most recent call last): {one.says}") != ""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mistake_is_answered() -> None:
    assert mistakes.main([]) == 0
