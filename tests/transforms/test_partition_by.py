from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that

from topkin.partition import split
from topkin.pipelines.job import run_pipeline
from topkin.transforms.partition import CoGroupParts, GroupParts, PartitionBy

SCHEMA = pa.schema({"user_id": pa.string(), "n": pa.int64()})


def tables(seed: int) -> list[pa.Table]:
    return [
        pa.table({"user_id": [f"u{i % 11}" for i in range(at, at + 50)], "n": range(at, at + 50)}, SCHEMA)
        for at in range(seed, seed + 200, 50)
    ]


def sorted_rows(table: pa.Table) -> list[Any]:
    return table.sort_by("n").to_pylist()


def test_grouped_parts_equal_the_split_of_all_rows_and_none_is_missing() -> None:
    expected = split(pa.concat_tables(tables(0)), "user_id", 32)

    def check(found: list[tuple[int, pa.Table]]) -> None:
        assert sorted(p for p, _ in found) == list(range(32))
        for part, table in found:
            assert table.schema == SCHEMA
            assert sorted_rows(table) == sorted_rows(expected.get(part, SCHEMA.empty_table()))

    def build(p: beam.Pipeline) -> None:
        grouped = p | beam.Create(tables(0)) | PartitionBy("user_id", 32) | GroupParts(SCHEMA, 32)
        assert_that(grouped, check)

    for flags in ([], ["--direct_runner_bundle_repeat=2"]):
        run_pipeline(build, flags)


def test_grouped_together_each_name_keeps_its_rows() -> None:
    def check(found: list[tuple[int, dict[str, pa.Table]]]) -> None:
        assert sorted(p for p, _ in found) == list(range(4))
        for part, named in found:
            assert sorted(named) == ["left", "none", "right"]
            assert len(named["none"]) == 0
            for name, seed in (("left", 0), ("right", 1000)):
                whole = split(pa.concat_tables(tables(seed)), "user_id", 4)
                assert sorted_rows(named[name]) == sorted_rows(whole.get(part, SCHEMA.empty_table()))

    def build(p: beam.Pipeline) -> None:
        inputs = {
            "left": p | "L" >> beam.Create(tables(0)) | "PL" >> PartitionBy("user_id", 4),
            "right": p | "R" >> beam.Create(tables(1000)) | "PR" >> PartitionBy("user_id", 4),
            "none": p | "N" >> beam.Create([]).with_output_types(pa.Table) | "PN" >> PartitionBy("user_id", 4),
        }
        assert_that(inputs | CoGroupParts(dict.fromkeys(inputs, SCHEMA), 4), check)

    run_pipeline(build, [])
