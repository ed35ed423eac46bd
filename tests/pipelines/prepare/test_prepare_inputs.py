"""Each wrong input gets its message before any work starts."""

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.pipelines import prepare
from topkin.pipelines.engine.stage import StageReads
from topkin.pipelines.prepare import check_inputs, reads

AS_OF = datetime(2011, 11, 9)
DAY = datetime(2011, 10, 1)
GOOD = pa.table({"user": ["u", "v"], "item": ["a", "b"], "time": [DAY, DAY], "price": [1.0, 2.0], "Note": ["x", None]})


def settings(path: Path | str, **changes: Any) -> Settings:
    purchases = {"path": str(path), "user_id": "user", "item_id": "item", "timestamp": "time", "price": "price"}
    tables = {k: v for k, v in changes.items() if k in ("items", "users")}
    purchases.update({k: v for k, v in changes.items() if k not in tables})
    return Settings.model_validate({"purchases": purchases, **tables})


def findings(path: Path | str, **changes: Any) -> list[TopkinError]:
    return check_inputs(settings(path, **changes), AS_OF)


def only(result: list[TopkinError], kind: type[TopkinError], *parts: str) -> None:
    assert [type(f) for f in result] == [kind], result
    for part in parts:
        assert part in str(result[0])


def write(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def replaced(column: str, values: Any, table: pa.Table = GOOD) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(GOOD, tmp_path / "purchases.parquet")


def test_good_input_has_no_findings(file: Path) -> None:
    assert findings(file, rules={"good": "price > 0"}, normalise={"item": "upper(item)"}) == []


def test_no_file(file: Path) -> None:
    only(
        findings(file.parent / "purchase.parquet"), InputError, "purchases.path: there is no file", "purchases.parquet'"
    )
    only(findings(file.parent / "no" / "where.parquet"), InputError, "there is no file")
    only(findings(f"{file.parent}/x*.parquet"), InputError, "no file matches")
    (file.parent / "empty").mkdir()
    (file.parent / "empty" / "notes.txt").write_text("x")
    only(findings(file.parent / "empty"), InputError, "holds no file that ends in .parquet")


def test_empty_file(file: Path) -> None:
    file.write_bytes(b"")
    only(findings(file), InputError, str(file), "is empty (0 bytes)")


def test_no_rows(file: Path) -> None:
    write(GOOD.slice(0, 0), file)
    only(findings(file), InputError, str(file), "holds no rows")


def test_not_parquet(file: Path) -> None:
    file.write_text("user,item\nu,a\n")
    only(findings(file), InputError, str(file), "is not Parquet: it starts with b'user'")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_cut_off_parquet(file: Path, share: float) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    only(findings(file), InputError, str(file), "is Parquet cut off before its end")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(file: Path) -> None:
    file.chmod(0)
    only(findings(file), InputError, str(file), "may not be read")


def test_missing_column(file: Path) -> None:
    faults = findings(file, user_id="User", price="cost")
    assert len(faults) == 2
    only(
        faults[:1],
        InputError,
        f"{file} has no column 'User' (purchases.user_id), did you mean 'user'",
        "user, item, time",
    )
    only(faults[1:], InputError, "no column 'cost' (purchases.price)")


@pytest.mark.parametrize(
    ("column", "values", "key", "accepted", "kind"),
    [
        ("time", [True, False], "timestamp", "a timestamp, a date, an ISO 8601 string or an epoch number", "bool"),
        ("price", ["1", "2"], "price", "a number", "string"),
        ("item", [[1], [2]], "item_id", "an integer, a string or binary", "list"),
    ],
)
def test_wrong_type(file: Path, column: str, values: Any, key: str, accepted: str, kind: str) -> None:
    write(replaced(column, pa.array(values)), file)
    only(
        findings(file),
        InputError,
        f"{file}: column '{column}' (purchases.{key}) must be {accepted}, got {kind}",
        f"set purchases.normalise.{column}",
    )


def test_ids_as_floats(file: Path) -> None:
    write(replaced("user", pa.array([17850.0, 13047.0])), file)
    only(
        findings(file),
        InputError,
        "column 'user' (purchases.user_id) must be an integer, a string or binary, got double",
        "a float cannot hold every id",
        """purchases.normalise.user = 'TRY_CAST("user" AS BIGINT)'""",
    )
    assert findings(file, normalise={"user": "CAST(user AS BIGINT)"}) == []


def test_one_file_of_a_folder_with_another_column_name(tmp_path: Path) -> None:
    write(GOOD, tmp_path / "in" / "1.parquet")
    other = write(GOOD.rename_columns(["USER", "item", "time", "price", "Note"]), tmp_path / "in" / "2.parquet")
    only(
        findings(tmp_path / "in"), InputError, f"{other} has no column 'user' (purchases.user_id), did you mean 'USER'"
    )


def test_one_file_of_a_folder_with_another_type(tmp_path: Path) -> None:
    first = write(GOOD, tmp_path / "in" / "1.parquet")
    other = write(replaced("item", pa.array([1, 2])), tmp_path / "in" / "2.parquet")
    only(findings(tmp_path / "in"), InputError, f"{other}: column 'item'", f"is int64, but string in {first}")


def test_one_file_of_a_folder_lacking_a_column_of_a_rule(tmp_path: Path) -> None:
    write(GOOD, tmp_path / "in" / "1.parquet")
    other = write(GOOD.drop_columns(["Note"]), tmp_path / "in" / "2.parquet")
    only(
        findings(tmp_path / "in", rules={"r": "note = 'x'"}),
        InputError,
        f"{other} has no column 'Note' (an expression of purchases)",
    )


@pytest.mark.parametrize("first", ["0", "1"])
def test_one_file_of_the_items_lacking_a_column_that_a_rule_asks_for(file: Path, tmp_path: Path, first: str) -> None:
    whole = write(pa.table({"sku": ["a"], "brand": ["gift"]}), tmp_path / "items" / f"{first}.parquet")
    lacking = write(pa.table({"sku": ["b"]}), tmp_path / "items" / f"{1 - int(first)}.parquet")
    items = {"path": str(whole.parent), "item_id": "sku"}
    faults = findings(file, items=items, rules={"x": "item.brand <> 'gift'"})
    only(faults, InputError, f"{lacking} has no column 'brand' (purchases.rules.'x')", "its columns are sku")
    other_case = write(pa.table({"sku": ["b"], "Brand": ["x"]}), lacking)
    faults = findings(file, items=items, rules={"x": "item.brand <> 'gift'"})
    only(faults, InputError, f"{other_case} has no column", "did you mean")


def test_an_asked_column_that_normalise_makes_need_not_be_in_any_file(file: Path, tmp_path: Path) -> None:
    write(pa.table({"sku": ["a"], "name": ["x"], "brand": ["gift"]}), tmp_path / "items" / "0.parquet")
    write(pa.table({"sku": ["b"], "name": ["y"]}), tmp_path / "items" / "1.parquet")
    items = {"path": str(tmp_path / "items"), "item_id": "sku", "normalise": {"brand": "name"}}
    assert findings(file, items=items, rules={"x": "item.brand <> 'z'"}) == []


def test_widths_and_units_may_differ_between_files(tmp_path: Path) -> None:
    write(replaced("time", pa.array([DAY, DAY], pa.timestamp("ms"))), tmp_path / "in" / "1.parquet")
    write(replaced("user", pa.array(["u", "v"]).dictionary_encode()), tmp_path / "in" / "a=1" / "2.parquet")
    write(pa.table({"x": [1]}), tmp_path / "in" / "_temporary" / "3.parquet")  # a writer's leftovers
    write(pa.table({"x": [1]}), tmp_path / "in" / ".hidden.parquet")
    assert findings(tmp_path / "in") == []


def test_columns_that_differ_in_case_only(file: Path) -> None:
    write(GOOD.append_column("PRICE", pa.array([1, 2])), file)
    only(findings(file, rules={"r": "price > 0"}), InputError, "['PRICE', 'price'] differ in letter case only")


def test_an_item_type_unlike_the_purchases(file: Path) -> None:
    items = write(pa.table({"id": [1, 2]}), file.parent / "items.parquet")
    users = write(pa.table({"id": [b"u"]}), file.parent / "users.parquet")
    only(
        findings(file, items={"path": str(items), "item_id": "id"}),
        InputError,
        f"{items}: column 'id' (items.item_id) is int64, but purchases have string in 'item'",
        "items.normalise.id",
    )
    only(findings(file, users={"path": str(users), "user_id": "id"}), InputError, "(users.user_id) is binary")
    cast = {"path": str(items), "item_id": "id", "normalise": {"id": "chr(CAST(96 + id AS INTEGER))"}}
    assert findings(file, items=cast) == []


def test_expressions_that_do_not_fit(file: Path) -> None:
    only(
        findings(file, rules={"r": "prise > 0"}),
        ConfigError,
        "purchases.rules.'r'",
        "names a column 'prise', which is not there, did you mean 'price'",
        "the columns are user, item, time, price, Note",
    )
    only(findings(file, rules={"r": "price >"}), ConfigError, "is not an SQL expression")
    only(findings(file, rules={"r": "price"}), ConfigError, "must be true or false, got double")
    only(findings(file, normalise={"user": "nope(user)"}), ConfigError, "purchases.normalise.user", "nope")
    only(findings(file, rules={"r": "CAST(item AS INTEGER) > 0"}), ConfigError, "fails on a row", "TRY_CAST")


def test_a_mistake_in_an_expression_is_told_once_for_all_files(tmp_path: Path) -> None:
    for n in range(3):
        write(GOOD, tmp_path / "in" / f"{n}.parquet")
    only(findings(tmp_path / "in", rules={"r": "prise > 0"}), ConfigError, "prise")


def test_a_configured_column_may_be_made_by_normalise(file: Path) -> None:
    assert findings(file, quantity="pieces", normalise={"pieces": "2 * price"}) == []


@pytest.mark.parametrize(
    ("number", "unit", "seems"),
    [
        (1_291_191_960_000, "s", "milliseconds"),
        (1_291_191_960, "ms", "seconds"),
        (1_291_191_960_000_000, "ms", "micro"),
    ],
)
def test_milliseconds_where_seconds_are_documented(file: Path, number: int, unit: str, seems: str) -> None:
    write(replaced("time", pa.array([number, number + 1])), file)
    only(
        findings(file, time_unit=unit),
        InputError,
        "column 'time' (purchases.timestamp)",
        f"got {seems}",
        "purchases.time_unit",
    )
    assert findings(file) == []


def test_all_dates_in_the_future(file: Path) -> None:
    write(replaced("time", pa.array([datetime(2199, 1, 1), datetime(2199, 1, 2)])), file)
    only(
        findings(file),
        InputError,
        "every purchase is in the future: the first 'time' is 2199-01-01",
        "ask where the times come from, or name the column with the time of the sale, purchases.timestamp",
    )


def test_all_dates_after_the_as_of_date(file: Path) -> None:
    write(replaced("time", pa.array([AS_OF, datetime(2011, 12, 1)])), file)
    only(findings(file), InputError, "no purchase before the as-of date 2011-11-09", "first 'time' is 2011-11-09")
    assert check_inputs(settings(file)) == []


def test_all_inputs_are_looked_at_in_one_go(file: Path) -> None:
    file.write_bytes(b"")
    faults = findings(file, items={"path": str(file.parent / "no.parquet"), "item_id": "id"})
    assert len(faults) == 2


def test_the_fingerprint_tells_another_input(file: Path) -> None:
    items = write(pa.table({"id": ["a"]}), file.parent / "items.parquet")
    both = settings(file, items={"path": str(items), "item_id": "id"})
    before = reads(both)
    assert [f[:2] for f in before.files] == [[str(p), p.stat().st_size] for p in (file, items)]
    assert reads(both) == before
    os.utime(items, ns=(1, 1))
    assert reads(both) != before
    items.unlink()
    with pytest.raises(InputError, match="there is no file"):
        reads(both)


def test_two_columns_of_one_name(file: Path) -> None:
    write(pa.table([*GOOD.columns, GOOD["user"]], names=[*GOOD.column_names, "user"]), file)
    only(findings(file), InputError, "2 columns called 'user'", "rename")


@pytest.mark.parametrize("name", ["__file", "__row"])
def test_a_column_with_a_name_of_topkins_own(file: Path, name: str) -> None:
    write(GOOD.append_column(name, GOOD["price"]), file)
    assert findings(file) == []  # not read
    only(findings(file, rules={"r": f"{name} > 0"}), InputError, f"column '{name}'", "rename it")
    only(findings(file, price=name), InputError, f"column '{name}'", "rename it")


def test_times_that_python_cannot_name_are_no_reason_to_stop(file: Path) -> None:
    times = pa.array([-(2**62), 1_300_000_000_000_000], pa.timestamp("us"))
    write(replaced("time", times), file)
    assert findings(file) == []


def test_a_damaged_footer_is_not_called_cut_off(file: Path) -> None:
    good = file.read_bytes()
    file.write_bytes(good[:-80] + b"\xff" * 70 + good[-10:])
    only(findings(file), InputError, "is damaged", "write it again")


def test_a_pipe_is_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.parquet")
    only(findings(tmp_path / "p.parquet"), InputError, "neither a file nor a folder")


@pytest.mark.parametrize(("key", "near"), [("usr", "'user'"), ("USER", "'user'"), ("zzz", "no column of the file:")])
def test_a_normalised_column_that_nothing_reads(file: Path, key: str, near: str) -> None:
    only(findings(file, normalise={key: "upper(item)"}), ConfigError, f"purchases.normalise.{key}: nothing reads", near)


def test_a_column_made_for_another_expression_is_read(file: Path) -> None:
    assert findings(file, normalise={"Twice": "2 * price"}, rules={"r": "twice > 1"}) == []


def test_texts_that_are_not_utf8_stop_no_rule(file: Path) -> None:
    raw = pa.array([b"\xff\xfe", b"v"])
    write(replaced("user", pa.Array.from_buffers(pa.string(), 2, raw.buffers())), file)
    assert findings(file, rules={"r": "trim(user) <> ''"}, normalise={"user": "upper(user)"}) == []


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "foo://x/y.parquet"])
def test_a_path_that_no_filesystem_takes(path: str) -> None:
    only(findings(path), InputError, "purchases.path", "cannot be looked for")
    assert len(str(findings(path)[0])) < 1000


def test_a_fault_that_many_files_share_is_told_once_and_others_beside_it(tmp_path: Path) -> None:
    for number in range(8):
        write(GOOD.drop_columns("user"), tmp_path / f"{number}.parquet")
    write(GOOD.drop_columns("item"), tmp_path / "8.parquet")
    write(GOOD, tmp_path / "9.parquet")
    users, items = map(str, findings(tmp_path))
    assert users.startswith(f"{tmp_path}/0.parquet has no column 'user'")
    assert users.endswith(", and 3 more")
    assert [f"{tmp_path}/{n}.parquet" in users for n in range(10)] == [True] * 5 + [False] * 5
    assert f"{tmp_path}/8.parquet has no column 'item'" in items


def test_a_purchase_in_the_future_is_asked_again_another_day(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(now: datetime) -> StageReads:
        monkeypatch.setattr(prepare, "_now", lambda: now)
        return reads(settings(file))

    before, later, after = datetime(2011, 9, 1, 8), datetime(2011, 9, 1, 9), datetime(2011, 9, 2)
    assert fingerprint(before) == fingerprint(later) != fingerprint(after)
    assert (fingerprint(before).today, fingerprint(after).today) == (before.date(), after.date())
    assert fingerprint(DAY) == fingerprint(datetime(2026, 1, 1))  # all is past: the day does not matter
