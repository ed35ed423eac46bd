"""A run as an OpenLineage event: job, run, the tables that it read and those that it made.

The event is of the specification 2-0-2, with the dataset facets ``schema`` and the statistics of inputs and outputs.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from topkin.telemetry.secrets import masked

SPEC = "https://openlineage.io/spec"
PRODUCER = "urn:topkin:run"
_RUNS = uuid.UUID("5b3c6a52-2f0e-4d8a-8c58-6f0f9f0a7d10")


@dataclass(frozen=True)
class Dataset:
    """A table that a run reads or makes. path: absolute, or a URI; fields: name and type; rows, size: where known."""

    path: str
    fields: Sequence[tuple[str, str]] = ()
    rows: int | None = None
    size: int | None = None

    def to_json(self, *, output: bool) -> dict[str, Any]:
        """As a dataset of the event."""
        path = masked(self.path)  # before it is split: a secret with a slash in it is in both parts
        parts = urlsplit(path)
        where = (f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")) if parts.netloc else ("file", path)
        facets: dict[str, Any] = {}
        if self.fields:
            fields = [{"name": name, "type": kind} for name, kind in self.fields]
            facets["schema"] = _facet("facets/1-0-0/SchemaDatasetFacet.json", fields=fields)
        dataset: dict[str, Any] = {"namespace": where[0], "name": where[1], "facets": facets}
        if self.rows is None:
            return dataset
        size = {} if self.size is None else {"size": self.size}
        if output:
            facet = _facet("facets/1-0-2/OutputStatisticsOutputDatasetFacet.json", rowCount=self.rows, **size)
            return dataset | {"outputFacets": {"outputStatistics": facet}}
        facet = _facet("facets/1-0-0/InputStatisticsInputDatasetFacet.json", rowCount=self.rows, **size)
        return dataset | {"inputFacets": {"inputStatistics": facet}}


def run_event(
    *,
    namespace: str,
    run_id: str,
    nominal: str,
    finished: str,
    inputs: Sequence[Dataset],
    outputs: Sequence[Dataset],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """The event of a finished run.

    namespace: of the job, whose name is ``topkin.run``. run_id: topkin's, from which and the namespace the UUID of the
    event's run is made, the same each time. nominal, finished: ISO 8601 with a zone. labels: what else is told of it.
    """
    facets = {
        "nominalTime": _facet("facets/1-0-1/NominalTimeRunFacet.json", nominalStartTime=nominal),
        "topkin": {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet", **labels},
    }
    return {
        "eventType": "COMPLETE",
        "eventTime": finished,
        "producer": PRODUCER,
        "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(uuid.uuid5(_RUNS, f"{namespace}/{run_id}")), "facets": facets},
        "job": {"namespace": namespace, "name": "topkin.run", "facets": {}},
        "inputs": [dataset.to_json(output=False) for dataset in inputs],
        "outputs": [dataset.to_json(output=True) for dataset in outputs],
    }


def _facet(schema: str, **values: object) -> dict[str, Any]:
    name = schema.rpartition("/")[2].removesuffix(".json")
    return {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/{schema}#/$defs/{name}", **values}
