"""The event against the parts of OpenLineage's specification that it uses."""

import json

import jsonschema

from topkin.telemetry.lineage import Dataset, run_event

FACETS = {"additionalProperties": {"type": "object", "required": ["_producer", "_schemaURL"]}}
DATASET = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "facets": {
            **FACETS,
            "properties": {
                "schema": {"required": ["fields"], "properties": {"fields": {"items": {"required": ["name", "type"]}}}}
            },
        },
    },
}


def _statistics(name: str) -> dict[str, object]:
    counts = {"required": ["rowCount"], "properties": {"rowCount": {"type": "integer"}, "size": {"type": "integer"}}}
    return {**FACETS, "properties": {name: counts}}


SCHEMA = {
    "type": "object",
    "required": ["run", "job", "eventTime", "producer", "schemaURL"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "run": {
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": {"required": ["namespace", "name"], "properties": {"facets": FACETS}},
        "inputs": {
            "items": {**DATASET, "properties": {**DATASET["properties"], "inputFacets": _statistics("inputStatistics")}}
        },
        "outputs": {
            "items": {
                **DATASET,
                "properties": {**DATASET["properties"], "outputFacets": _statistics("outputStatistics")},
            }
        },
    },
    "additionalProperties": False,
}


def check(event: dict[str, object]) -> None:
    """Raise where an event is none of the specification."""
    known = {**SCHEMA["properties"], "schemaURL": {"type": "string", "format": "uri"}}
    validator = jsonschema.Draft202012Validator(
        {**SCHEMA, "properties": known}, format_checker=jsonschema.FormatChecker()
    )
    validator.validate(json.loads(json.dumps(event)))


def test_an_event_tells_job_run_and_tables():
    event = run_event(
        namespace="shop",
        run_id="2024-05-01-ab",
        nominal="2024-05-01T00:00:00Z",
        finished="2024-05-02T03:00:00+00:00",
        inputs=[Dataset("/lake/p.parquet", [("user", "string")], 10), Dataset("s3://lake/items")],
        outputs=[Dataset("s3://out/lists", [("user_id", "string"), ("rank", "int32")], 4, 99)],
        labels={"published": "true"},
    )
    check(event)
    assert [(d["namespace"], d["name"]) for d in event["inputs"]] == [
        ("file", "/lake/p.parquet"),
        ("s3://lake", "items"),
    ]
    assert event["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 10
    assert (
        event["outputs"][0]["outputFacets"]["outputStatistics"] | {"rowCount": 4, "size": 99}
        == (event["outputs"][0]["outputFacets"]["outputStatistics"])
    )
    assert [f["name"] for f in event["outputs"][0]["facets"]["schema"]["fields"]] == ["user_id", "rank"]
    again = run_event(
        namespace="shop", run_id="2024-05-01-ab", nominal="x", finished="x", inputs=[], outputs=[], labels={}
    )
    assert again["run"]["runId"] == event["run"]["runId"]


def test_a_secret_with_a_slash_is_in_no_part_of_a_dataset() -> None:
    dataset = Dataset("s3://AKIA:wJa/lr@bucket/lake/items").to_json(output=False)
    assert (dataset["namespace"], dataset["name"]) == ("s3://***@bucket", "lake/items")
