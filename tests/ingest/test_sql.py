import duckdb
import pyarrow as pa
import pytest

from topkin.ending.expressions import Limits
from topkin.errors import ConfigError
from topkin.ingest.rules import Rules
from topkin.ingest.sql import Expression, nearest, query
from topkin.ingest.values.records import records

ROWS = pa.table(
    {"q": [1, 2, None, -3], "s": [" a", "B", None, "x"], "when": pa.array([1, 2, 3, 4], pa.timestamp("us"))}
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q >", "is not an SQL expression: syntax error"),
        ("item price", """; a column called so is written '"item price"'"""),
        ('a"b', """is written '"a""b"'"""),
        ("q > 0; DROP TABLE rows", "is not an SQL expression"),
        ("1) FROM rows --", "is not an SQL expression"),
        ("1), (2", "must be one SQL expression"),
        ("max(q) > 1", "must be about one row, got max"),
        ("row_number() OVER () > 1", "must be about one row, got row_number"),
        ("(SELECT 1) = 1", "must be about one row, got a subquery"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd')) > 0", "must be about one row, got a subquery"),
        ("q IN (SELECT q FROM rows)", "must be about one row, got a subquery"),
        ("COLUMNS(*) > 1", r"must be about one row, got \*"),
        ("unnest([1, 2]) > 1", "must be about one row, got unnest"),
        ("random() > .5", r"must give the same whenever it is asked, got random\(\)"),
        ('"when" < now()', r"must give the same whenever it is asked, got now\(\)"),
        ('"when" < current_date', "must give the same whenever it is asked, got current_date"),
        ("q > ?", "must hold its values"),
    ],
)
def test_only_an_expression_over_one_row_is_taken(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as e:
        Expression("purchases.rules.'good'", text).names()
    assert str(e.value).startswith("purchases.rules.'good': ")
    assert repr(text) in str(e.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/topkin-test.csv'",
        "ATTACH '/tmp/topkin-test.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET threads = 8",
        "SELECT * FROM ROWS_OF_PYTHON",
    ],
)
def test_the_engine_reaches_no_file_no_network_no_setting_and_no_variable(sql: str) -> None:
    ROWS_OF_PYTHON = ROWS  # noqa: F841  what DuckDB would find by name
    with pytest.raises(duckdb.Error):
        query(sql)


@pytest.mark.parametrize("name", ["uuid", "now", "today", "random", '"current_date"', '"localtime"'])
def test_a_column_may_be_called_as_a_function_that_is_not_allowed(name: str) -> None:
    column = name.strip('"')
    expression = Expression("k", f"{name} + 1")
    expression.check_columns([column])
    assert expression.evaluate(pa.table({column: [1]})).to_pylist() == [2]


def test_the_table_is_gone_after_the_query() -> None:
    query("SELECT 1 FROM rows", ROWS)
    with pytest.raises(duckdb.CatalogException):
        query("SELECT 1 FROM rows")


def test_the_order_of_rows_is_kept() -> None:
    rows = pa.table({"n": range(500_000)})
    assert Expression("k", "n + 0").evaluate(rows).to_pylist() == list(range(500_000))


def test_an_unknown_column_is_told_with_the_nearest_and_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"a column 'qq', which is not there, did you mean 'q'; .* q, s, when$") as e:
        Expression("purchases.rules.'good'", "qq > 0").check_columns(ROWS.column_names)
    assert "LINE" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q > > 3", r"syntax error at '>' \(character 5\), after 'q >'$"),
        ("é > > 3", r"syntax error at '>' \(character 5\), after 'é >'$"),
        ("upper(s", "syntax error at its end, after 'upper\\(s': something is missing"),
        ("s = 'abc", r"a quotation does not end at \"'\" \(character 5\), after 's ='"),
        ("when > '2020-01-01'", r"at 'when' \(character 1\), its start; .* is written \"when\"$"),
        ('s = "paid"', "column 'paid', which is not there; a text is written 'paid'; the columns are q, s, when$"),
        ("items.kind = 'x'", "column 'items', .* a column of \\[items\\] is written item.kind; the columns are"),
        ("lenght(s) > 1", "a function 'lenght' that DuckDB does not have, did you mean 'length'$"),
        ("q >> > 1", "is no expression that SQL can read: look at its signs$"),
        ("s::strin = 'x'", "a type 'strin' that DuckDB does not have, did you mean 'STRING'$"),
        ("upper(q) = 'A'", "gives upper values that it does not take; q is int64: "),
        ("s LIKE q", "gives LIKE values that it does not take; s is string, q is int64: "),
        ("s > q", "compares values of two types; s is string, q is int64: cast one"),
        ("strftime(s, '%Y') = '2024'", "gives strftime values that it does not take; s is string"),
        ("s.a = 1", "a field 'a' of a column that has none; s is string$"),
        ("q > 'many'", "fails on a row: Could not convert string 'many' to INT64; TRY_CAST"),
    ],
)
def test_what_fails_is_told_in_one_line_with_the_columns_and_none_of_the_engines_candidates(
    text: str, message: str
) -> None:
    expression = Expression("purchases.rules.'good'", text)

    def ask() -> None:
        expression.check_columns(ROWS.column_names, sides=True)
        expression.evaluate(ROWS)

    with pytest.raises(ConfigError, match=message) as e:
        ask()
    assert "\n" not in str(e.value)
    assert not any(word in str(e.value) for word in ("Candidate", "LINE", "Error:", "BIGINT", "VARCHAR ->", "binding"))


def test_the_argument_of_a_lambda_is_no_column() -> None:
    Expression("k", "len(list_filter([1, q], x -> x > 1)) > 0").check_columns(ROWS.column_names)
    with pytest.raises(ConfigError, match="column 'y', which is not there"):
        Expression("k", "len(list_filter([1, q], x -> y > 1)) > 0").check_columns(ROWS.column_names)


def test_rules_ask_the_item_and_the_user_and_a_column_of_that_name_wins() -> None:
    rules = Rules.of(
        "p", {"s": "upper(s)"}, {"a": "item.Kind <> 'fuel' AND ITEM.kind <> 'x'", "b": "user.land = 'UK'", "c": "q > 1"}
    )
    plain = pa.schema({"q": pa.int64(), "s": pa.string(), "user": pa.string()})
    assert rules.asked(plain) == {"item": {"Kind": "p.rules.'a'"}, "user": {"land": "p.rules.'b'"}}
    struct = plain.append(pa.field("Item", pa.struct({"kind": pa.string()})))
    assert rules.asked(struct) == {"user": {"land": "p.rules.'b'"}}
    assert rules.columns(["q", "s", "Item"]) == ["q", "s", "Item"]
    assert rules.column_faults(["q", "s"], sides=True) == []
    first, second = map(str, rules.column_faults(["q", "s"]))
    assert "asks the item, which only rules over purchases can" in first
    assert "asks the user, which only rules over purchases can" in second
    assert Rules.of("p", {"s": "item.kind"}, {}).column_faults(["s"], sides=True)


def test_the_text_names_the_column_of_the_rows_whatever_stands_around_it() -> None:
    text = "item = 'é' AND ITEM.kind <> 'item.kind' AND \"item\".\"Kind\" = 'b'"
    rows = pa.table({"item": ["é", "é"], "__item": [{"kind": "a"}, {"kind": "b"}]})
    assert Expression("k", "item.kind = 'b' AND item = 'é'").evaluate(rows).to_pylist() == [False, True]
    assert Expression("k", text).evaluate(rows).to_pylist() == [False, True]


def test_an_expression_may_name_what_an_earlier_one_makes_and_not_what_a_later_one_does() -> None:
    assert Rules.of("p", {"t": "upper(s)", "u": "lower(t)"}, {"r": "u = 'x'"}).column_faults(["s"]) == []
    assert len(Rules.of("p", {"u": "lower(t)", "t": "upper(s)"}, {}).column_faults(["s"])) == 1


def test_a_cast_that_fails_names_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"fails on a row: .*' a' to INT32.*TRY_CAST"):
        Expression("k", "CAST(s AS INTEGER) > 0").evaluate(ROWS)


def test_a_comment_at_the_end_does_no_harm() -> None:
    assert Expression("k", "q > 0 -- good").evaluate(ROWS).to_pylist() == [True, True, None, False]


def test_the_columns_that_expressions_read_are_found() -> None:
    rules = Rules.of(
        "purchases", {"s": "upper(s)"}, {"a": "list_filter(Tags, x -> x > 1) IS NOT NULL", "b": '"Q q" > 0'}
    )
    assert rules.columns(["Q q", "q", "tags", "s", "t"]) == ["Q q", "tags", "s"]


def test_normalising_comes_before_rules_and_in_order() -> None:
    rules = Rules.of("p", {"s": "trim(s)", "t": "upper(s)"}, {"no B": "t <> 'B'", "more than one": "q > 1"})
    rows = rules.normalised(ROWS)
    assert rows["t"].to_pylist() == ["A", "B", None, "X"]
    assert rows["s"].to_pylist() == ["a", "B", None, "x"]
    assert rules.broken(rows).tolist() == [1, 0, 0, 1]
    assert rules.bound(ROWS.schema).field("t").type == pa.string()


def test_an_earlier_rule_guards_a_cast_in_a_later_one() -> None:
    rows = pa.table({"s": ["12", "x", None, "5"]})
    rules = Rules.of("p", {}, {"digits": "regexp_full_match(s, '[0-9]+')", "ten": "CAST(s AS INTEGER) >= 10"})
    assert rules.broken(rows).tolist() == [-1, 0, 0, 1]


def test_a_rule_must_be_true_or_false() -> None:
    with pytest.raises(ConfigError, match=r"p.rules.'odd': 'q' must be true or false, got int64"):
        Rules.of("p", {}, {"odd": "q"}).bound(ROWS.schema)


def test_records_are_json_of_every_type() -> None:
    import json

    rows = pa.table(
        {
            "a'b\"": [1, None],
            "f": [float("nan"), 1.5],
            "g": pa.array([float("-inf"), None], pa.float32()),
            "t": pa.array([0, None], pa.timestamp("ms")),
            "l": [[1], None],
            "b": [b"\x00a", None],
        }
    )
    first, second = (json.loads(r, parse_constant=pytest.fail) for r in records(rows).to_pylist())
    assert first == {"a'b\"": 1, "f": "nan", "g": "-inf", "t": "1970-01-01 00:00:00", "l": [1], "b": "\\x00a"}
    assert second == {"a'b\"": None, "f": 1.5, "g": None, "t": None, "l": None, "b": None}
    assert records(rows.select([])).to_pylist() == ["{}", "{}"]


def test_records_of_nested_columns_are_json_whatever_is_in_them() -> None:
    import json

    one = {"a": "x"}
    deep = {"p": float("nan"), "of": [{"n": 1, "x": float("inf")}, None]}
    vectors = pa.array([[1.0, float("nan")], [0.5, 2.0]], pa.list_(pa.float32(), 2))
    rows = pa.table(
        {"one": [one, None], "deep": [deep, None], "lists": [[[1.5], [float("nan")]], None], "vectors": vectors}
    )
    first, second = (json.loads(r, parse_constant=pytest.fail) for r in records(rows).to_pylist())
    assert first == {
        "one": one,
        "deep": {"p": "nan", "of": [{"n": 1, "x": "inf"}, None]},
        "lists": [[1.5], ["nan"]],
        "vectors": [1.0, "nan"],
    }
    assert second == {"one": None, "deep": None, "lists": None, "vectors": [0.5, 2.0]}


def test_the_nearest_name_is_offered_in_its_own_case() -> None:
    assert nearest("id", ["ID", "price"]) == ", did you mean 'ID'"
    assert nearest("zzz", ["ID", "price"]) == ""


def test_an_expression_that_takes_too_long_is_told_and_the_next_is_asked() -> None:
    rows, limits = pa.table({"n": pa.array(range(50_000), pa.int64())}), Limits(seconds=0.1)
    bomb = "list_sum(list_transform(range(4000), x -> (x * n) % 7)) > 0"
    words = r"takes more than 0\.1 seconds \(prepare\.rule_seconds\) over 50,000 rows: write it simpler"
    with pytest.raises(ConfigError, match=f"purchases.rules.bomb: .*{words}"):
        Expression("purchases.rules.bomb", bomb, limits).evaluate(rows)
    odd = Expression("purchases.rules.odd", "n % 2 = 1", Limits()).evaluate(rows)
    assert sum(odd.to_pylist()) == 25_000


def test_a_pattern_that_other_engines_never_finish_is_asked_in_time() -> None:
    rows = pa.table({"t": ["a" * 30 + "!"] * 1000})
    assert not any(Expression("k", "regexp_matches(t, '^(a+)+$')", Limits(seconds=20)).evaluate(rows).to_pylist())


def test_limits_come_from_the_configuration() -> None:
    from topkin.config.load import settings_of
    from topkin.ingest.contract import sources

    values = {"purchases": {"path": "x", "rules": {"good": "true"}}, "prepare": {"rule_seconds": 5, "rule_memory": 0.5}}
    ((_, rule),) = sources(settings_of(values, "here"))["purchases"].rules.rules
    assert rule.limits == Limits(5, 0.5)
