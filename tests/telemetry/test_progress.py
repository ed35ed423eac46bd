from topkin.telemetry.progress import advance, listen


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
