import pyarrow as pa

from topkin.ingest.cleaning import clean_items
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW


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
