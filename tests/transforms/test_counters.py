"""Every step counts the rows and bytes that it gave, and its own milliseconds, on whatever runner."""

import time
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.pvalue import TaggedOutput

from topkin.pipelines.engine.job import run_pipeline
from topkin.telemetry import profiling
from topkin.transforms.counters import counted

TABLE = pa.table({"a": pa.array(range(10), pa.int64())})


@counted
def one(n: int) -> tuple[int, pa.Table]:
    return n, TABLE


class Several(beam.DoFn):
    @counted
    def process(self, element: tuple[int, pa.Table]) -> Iterator[object]:
        time.sleep(0.03)
        yield element[1].slice(0, 3)
        yield TaggedOutput("beside", {"x": element[1]})
        yield 7


@counted
def only_read(table: pa.Table) -> int:
    return len(table)


@counted
def slow(table: pa.Table) -> pa.Table:
    time.sleep(0.2)
    return table


@pytest.mark.parametrize("flags", [(), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")], ids=str)
def test_steps_count_what_they_give_and_their_own_time(flags: tuple[str, ...]) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        tables = pipeline | beam.Create([1, 2]) | "One" >> beam.Map(one).with_output_types(tuple[int, pa.Table])
        several = tables | "Several" >> beam.ParDo(Several()).with_outputs("beside", main="main")
        tables = several.main | beam.Filter(lambda t: isinstance(t, pa.Table)).with_output_types(pa.Table)
        tables | "Slow" >> beam.Map(slow) | "Then" >> beam.Map(only_read)

    with profiling.measure_usage() as usage:
        run_pipeline(build, flags)
    steps = {step["step"]: step for step in usage.steps}
    assert list(steps) == ["One", "Several/ParDo(Several)", "Slow", "Then"]
    assert [step["rows"] for step in steps.values()] == [20, 26, 6, 6]
    assert [step["bytes"] for step in steps.values()] == [160, 208, 48, 48]
    slow_ms, several_ms = (steps[name]["milliseconds"] for name in ("Slow", "Several/ParDo(Several)"))
    assert slow_ms >= 400
    assert 60 <= several_ms < slow_ms  # without the time of Slow, which works between two yields
