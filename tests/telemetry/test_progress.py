from topkin.telemetry.progress import advance, hear, listen, note


def test_reports_go_to_those_who_listen_and_to_nobody_after() -> None:
    outer: list[tuple[str, int, int | None]] = []
    inner: list[tuple[str, int, int | None]] = []
    advance("read", 1)
    with listen(lambda *report: outer.append(report)):
        advance("read", 2, 10)
        with listen(lambda *report: inner.append(report)):
            advance("read", 3)
    advance("read", 4)
    assert outer == [("read", 2, 10), ("read", 3, None)]
    assert inner == [("read", 3, None)]


def test_notes_go_to_those_who_hear_and_to_nobody_after() -> None:
    heard: list[str] = []
    note("before")
    with hear(heard.append):
        note("job 1 is RUNNING")
    note("after")
    assert heard == ["job 1 is RUNNING"]
