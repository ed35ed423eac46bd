"""Two exports into one target: one waits or is told; what is not whole is never shown."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.exports.test_sinks import check
from topkin.errors import BusyError, TopkinError
from topkin.exports.sink import export, open_sink


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sqlite", "postgresql", "redis", "delta", "iceberg"])
def test_an_export_at_the_same_time_is_told_and_tables_are_of_one_version(kind, target, make_table):
    names = ("first", "lists")
    one, other = ([make_table(name, f"2024-05-0{seed}-a.1", seed) for name in names] for seed in (1, 2))
    with ThreadPoolExecutor(1) as elsewhere:
        at_work = export(one, target)
        assert next(at_work).rows == 50
        second = elsewhere.submit(lambda: list(export(other, target)))
        with pytest.raises(BusyError, match=r"one (export|process) at a time.*--wait SECONDS") as refused:
            second.result()
        assert "run.wait" not in str(refused.value)  # a key of runs, which no export goes by
        assert [e.rows for e in at_work] == [50]
        for table in one:
            check(target, kind, table)
        assert elsewhere.submit(lambda: [e.rows for e in export(other, target)]).result() == [50, 50]
        at_work = export(one, target)
        next(at_work)
        second = elsewhere.submit(lambda: [e.rows for e in export(other, target, wait=60.0)])
        assert [e.rows for e in at_work] == [50]
        assert second.result() == [50, 50]
    for table in other:
        check(target, kind, table)


def test_a_table_that_another_wrote_meanwhile_is_told(make_table, tmp_path):
    """Where nothing locks, or a lock was lost."""
    target = f"csv:{tmp_path}/out"
    one, other = ([make_table(name, f"2024-05-0{seed}-a.1", seed) for name in ("first", "lists")] for seed in (1, 2))
    at_work = export(one, target)
    next(at_work)
    open_sink(target).write(other[0])
    with pytest.raises(TopkinError, match="has another version of first by now, which another export wrote"):
        list(at_work)


def test_a_collection_that_another_took_away_is_never_shown(make_table, tmp_path):
    """Two exports into one server have nothing to lock by: what is not whole is told, not shown."""
    pytest.importorskip("qdrant_client")
    target = f"qdrant:{tmp_path}/q"
    before, after = (make_table(version=f"2024-05-0{seed}-a.1", seed=seed, vectors=True) for seed in (1, 2))
    list(export([before], target))
    opened = open_sink(target)
    upsert, collection = opened.db.upsert, f"{after.name}--{after.version}"

    def another(name, points, **how):
        """The other deletes what is not finished, and begins the same version anew."""
        upsert(name, points, **how)
        vectors = opened.db.get_collection(name).config.params.vectors
        opened.db.delete_collection(collection)
        opened.db.create_collection(collection, vectors_config=vectors)

    opened.db.upsert = another
    with pytest.raises(BusyError, match="another wrote lists meanwhile"):
        opened.write(after)
    assert opened.version("lists") == before.version
    opened.close()


def test_an_export_to_redis_that_lost_its_lock_shows_nothing(make_table, request):
    redis = pytest.importorskip("redis")
    url = f"{request.getfixturevalue('redis_url')}?prefix=lost"
    before, after = (make_table(version=f"2024-05-0{seed}-a.1", seed=seed) for seed in (1, 2))
    list(export([before], url))
    opened = open_sink(url)
    with opened.alone(0.0):
        redis.Redis.from_url(url.partition("?")[0]).set("lost::export", "another's")
        with pytest.raises(BusyError, match="stood still for more than 300 s and lost its lock"):
            opened.write(after)
    assert opened.version("lists") == before.version
    opened.db.delete("lost::export")
    opened.close()
