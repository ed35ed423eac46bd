"""The job ``report``: the gates beside the live version, and the page of a run.

Writes ``report.html`` and ``gates.json``.
"""

from topkin.pipelines.report.stage import STAGE

__all__ = ["STAGE"]
