import pyarrow as pa

from topkin.ingest.cleaning import clean_items
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.limits import examples_of


def test_titles_and_categories_are_read_as_people_would():
    titles = ["  SALT &amp; PEPPER ", "CAF&#201;", "AT&T; MUG", "5 &lt; 6", "   ", None, "plain"]
    raw = pa.table(
        {
            "id": [f"i{n}" for n in range(len(titles))],
            "name": titles,
            "kind": pa.array(titles).dictionary_encode(),
            FILE: ["f"] * len(titles),
            ROW: pa.array(range(len(titles)), pa.int64()),
        }
    )
    source = InputSource(name="items", path="f", columns={"item_id": "id", "title": "name", "category": "kind"})
    want = ["SALT & PEPPER", "CAFÉ", "AT&T; MUG", "5 < 6", None, None, "plain"]
    accepted = clean_items(raw, source).accepted
    assert accepted["title"].to_pylist() == want
    assert accepted["category"].to_pylist() == want


def test_of_a_rejected_row_no_value_is_kept_where_the_settings_say_so():
    raw = pa.table(
        {
            "id": ["a", None, "b", None],
            "name": ["Ann's address", "Bob's address", "tea", "cup"],
            FILE: ["s3://AKIA:secret@bucket/items.parquet"] * 4,
            ROW: pa.array(range(4), pa.int64()),
        }
    )
    columns = {"item_id": "id", "title": "name"}
    kept, bare = (
        clean_items(raw, InputSource(name="items", path="f", columns=columns, record=record)).rejects
        for record in (True, False)
    )
    assert "Bob's address" in kept["record"][0].as_py()
    assert bare["record"].to_pylist() == ["{}", "{}"]
    assert bare.drop_columns("record").equals(kept.drop_columns("record"))
    assert bare["row"].to_pylist() == [1, 3]
    assert set(bare["file"].to_pylist()) == {"s3://***@bucket/items.parquet"}
    source = InputSource(name="items", path="f", columns=columns, record=False)
    (example,) = examples_of(bare, source).values()
    assert example.startswith("row 1 of s3://***@bucket/items.parquet")
