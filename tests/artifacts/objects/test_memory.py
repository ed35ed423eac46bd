"""What a process remembers of object stores: in a job everything it saw, always what cannot be another."""

from typing import Any

import pytest

from topkin.artifacts.objects import memory
from topkin.artifacts.objects.memory import Memory
from topkin.artifacts.objects.uri import Bucket

B = Bucket("s3", "shop")


class Asked:
    """Answers, and counts how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.times = answer, 0

    def __call__(self) -> Any:
        self.times += 1
        return self.answer


def objects(*paths: str) -> list[dict[str, Any]]:
    return [{"path": path, "size": 1} for path in paths]


def test_a_listing_answers_for_the_folders_below_it_until_one_of_them_changes():
    mind, ask = Memory(), Asked(objects("a/b/1", "a/b/c/2", "a/bc/3", "a/4"))
    with mind.job():
        assert mind.below(B, "a", ask) == ask.answer
        assert mind.below(B, "a/b", Asked([])) == objects("a/b/1", "a/b/c/2")
        assert mind.children(B, "a", Asked(([], []))) == (objects("a/4"), ["a/b", "a/bc"])
        mind.forget(B, ["other/x"])
        assert mind.below(B, "a", ask) == ask.answer
        mind.forget(B, ["a/b/c/9"])
        assert mind.below(B, "a/b", again := Asked(objects("a/b/1"))) == again.answer
        assert mind.children(B, "a", again := Asked(([], ["a/b"]))) == again.answer
    assert (ask.times, again.times) == (1, 1)


def test_outside_a_job_every_question_is_asked():
    mind, ask = Memory(), Asked([])
    for _ in range(2):
        mind.below(B, "a", ask)
        mind.state((B, "x"), ask)
        mind.meta((B, "x"), ask)
        mind.keep_input((B, "x"), b"1")
    assert ask.times == 6
    assert mind.input((B, "x")) is None


def test_what_was_written_is_known_and_whoever_writes_anew_is_believed():
    mind, entry = Memory(), {"sha256": "s", "bytes": 1}
    mind.wrote((B, "x"), entry, b"1")
    assert mind.written((B, "x")) == entry
    assert mind.own((B, "x")) is None  # somebody else may have written since
    assert mind.content(entry) == b"1"
    with mind.job():
        assert mind.own((B, "x")) == entry
        assert mind.state((B, "x"), Asked(b"2")) == b"2"
        mind.forget(B, ["x"])
        assert mind.own((B, "x")) is None
        assert mind.state((B, "x"), Asked(None)) is None
        mind.forget_seen()
        assert mind.state((B, "x"), Asked(b"3")) == b"3"
    assert mind.state((B, "x"), Asked(b"4")) == b"4"


def test_an_answer_from_before_a_write_is_not_kept():
    mind = Memory()

    def while_another_thread_writes(old: Any) -> Any:
        def ask() -> Any:
            mind.forget(B, ["a/new"])
            return old

        return ask

    with mind.job():
        assert mind.below(B, "a", while_another_thread_writes([])) == []
        assert mind.below(B, "a", Asked(objects("a/new"))) == objects("a/new")
        mind.forget_seen()
        assert mind.children(B, "a", while_another_thread_writes(([], []))) == ([], [])
        assert mind.children(B, "a", Asked((objects("a/new"), []))) == (objects("a/new"), [])
        assert mind.state((B, "a/new"), while_another_thread_writes(None)) is None
        assert mind.state((B, "a/new"), Asked(b"1")) == b"1"


def test_what_a_swap_saw_takes_the_place_of_what_was_remembered():
    mind = Memory()
    with mind.job():
        assert mind.state((B, "x"), Asked(b"1")) == b"1"
        mind.saw((B, "x"), b"2", "tag")
        assert mind.state((B, "x"), Asked(b"2")) == b"2"
        mind.saw((B, "x"), None, None)
        assert mind.state((B, "x"), Asked(None)) is None
        assert (B, "x") not in mind.tags


def test_all_that_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "BYTES", 100)
    monkeypatch.setattr(memory, "ENTRIES", 3)
    mind = Memory()
    with mind.job():
        for number in range(10):
            mind.keep_input((B, str(number)), b"x" * 30)
            mind.wrote((B, str(number)), {"sha256": str(number)}, b"y" * 30)
            mind.derived((B, str(number)), Asked(number))
            mind.saw((B, str(number)), b"", None)
        assert sum(mind.input((B, str(n))) is not None for n in range(10)) == 3
        assert [mind.content({"sha256": str(n)}) is not None for n in range(10)] == [False] * 7 + [True] * 3
        assert mind.written((B, "0")) is None
        assert mind.derived((B, "0"), Asked("again")) == "again"
        monkeypatch.setattr(memory, "SMALL", 10)
        mind.keep("large", b"x" * 11)
        assert mind.content({"sha256": "large"}) is None
    for number in range(200):
        mind.saw((B, str(number)), b"", None)
    assert len(mind.tags) == 100


def test_that_something_is_not_there_is_believed_for_a_while_only(monkeypatch):
    mind, ask = Memory(), Asked(None)
    now = 1000.0
    monkeypatch.setattr(memory.time, "monotonic", lambda: now)
    for _ in range(2):
        assert mind.derived((B, "manifest.json"), ask) is None
    assert ask.times == 1
    now += memory.ABSENT + 1
    assert mind.derived((B, "manifest.json"), Asked({"a": 1})) == {"a": 1}
    now += 1e6
    assert mind.derived((B, "manifest.json"), ask) == {"a": 1}


def test_an_answer_that_is_an_error_is_not_remembered():
    mind = Memory()

    def fail() -> Any:
        raise OSError("no network")

    with mind.job():
        with pytest.raises(OSError, match="no network"):
            mind.below(B, "a", fail)
        assert mind.below(B, "a", Asked([])) == []
