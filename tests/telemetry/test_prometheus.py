"""The text format, read back by Prometheus' own parser."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from topkin.telemetry.prometheus import Gauge, text

LABELS = st.dictionaries(
    st.sampled_from(["stage", "name", "source"]), st.text(st.characters(codec="utf-8")), max_size=3
)


@given(st.lists(st.tuples(LABELS, st.floats() | st.integers(-(10**9), 10**9)), min_size=1, max_size=5))
def test_the_parser_reads_what_was_written(samples):
    if any(
        "\r" in value or (not value.isprintable() and "\n" not in value)
        for labels, _ in samples
        for value in labels.values()
    ):
        samples = [({}, value) for _, value in samples]  # the parser splits at other ends of lines than the format's
    written = text([Gauge("topkin_x", 'what "it" tells\\ \n here', samples), Gauge("topkin_none", "nothing", [])])
    (family,) = text_string_to_metric_families(written)
    assert (family.name, family.type) == ("topkin_x", "gauge")
    assert family.documentation == 'what "it" tells\\ \n here'
    for sample, (labels, value) in zip(family.samples, samples, strict=True):
        assert sample.labels == labels
        assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


@pytest.mark.parametrize("gauge", [Gauge("9x", "", [({}, 1)]), Gauge("x", "", [({"a-b": "c"}, 1)])])
def test_names_that_it_does_not_take_are_refused(gauge):
    with pytest.raises(ValueError, match="a name must match"):
        text([gauge])
