"""A stand-in for the Dataflow service on this machine: its REST interface, as far as Beam's client asks it.

It takes a job, runs the staged graph with Beam's in-process runner in a process of its own, tells states and errors,
and cancels. What the service itself does (workers, containers, its shuffle) is not in it.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_JOB = re.compile(r"/v1b3/projects/[^/]+/locations/[^/]+/jobs(?:/([^/?]+))?(/messages|/metrics)?")


@dataclass
class DataflowServer:
    """A service that runs; ``requests``: method and path of each request so far."""

    port: int = 0
    requests: list[str] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    held: bool = False
    """Whether jobs that come run no step until :meth:`finish`."""
    waiting: list[threading.Event] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def flags(self) -> list[str]:
        """What sends jobs here."""
        return [
            "--runner=DataflowRunner", f"--dataflow_endpoint=http://localhost:{self.port}", "--no_auth",
            "--project=a-shop", "--region=europe-west4", "--sdk_container_image=a-shop/worker:1",
        ]  # fmt: skip

    def cancels(self) -> int:
        """How many requests asked for a cancellation."""
        return sum(request.startswith("PUT ") for request in self.requests)

    def start(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take a job and run its graph."""
        name = f"2026-01-01_00_00_00-{len(self.jobs) + 1}"
        job |= {"id": name, "currentState": "JOB_STATE_RUNNING", "createTime": "2026-01-01T00:00:00Z"}
        self.jobs[name] = job
        options = job["environment"]["sdkPipelineOptions"]["options"]
        url = options.get("pipelineUrl") or options["pipeline_url"]
        command = [sys.executable, "-m", "benchmarks.runners._dataflow_server", url]
        pipe = subprocess.PIPE
        go = threading.Event()

        def wait() -> None:
            go.wait()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True)
            self.running[name] = process
            errors = process.communicate()[1]
            if job["currentState"] == "JOB_STATE_RUNNING":
                self.errors[name] = errors if process.returncode else ""
                job["currentState"] = "JOB_STATE_FAILED" if process.returncode else "JOB_STATE_DONE"

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        self.threads.append(thread)
        self.waiting.append(go)
        if not self.held:
            go.set()
        return job

    def finish(self) -> None:
        """Run the jobs that are held, and wait for the end of all."""
        for go in self.waiting:
            go.set()
        for thread in self.threads:
            thread.join()

    def cancel(self, name: str) -> dict[str, Any]:
        """End a job."""
        self.jobs[name]["currentState"] = "JOB_STATE_CANCELLED"
        if name in self.running:
            self.running[name].kill()
        return self.jobs[name]

    def messages(self, name: str) -> list[dict[str, str]]:
        """What went wrong with a job."""
        if not self.errors.get(name):
            return []
        message = {"id": "1", "time": "2026-01-01T00:00:01Z", "messageImportance": "JOB_MESSAGE_ERROR"}
        return [{**message, "messageText": self.errors[name]}]


@contextmanager
def dataflow_server() -> Iterator[DataflowServer]:
    """A service on a free port; it ends with the block, and so do its jobs."""
    state = DataflowServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer(lambda name, part, body: state.start(body))

        def do_PUT(self) -> None:
            self._answer(lambda name, part, body: state.cancel(name))

        def do_GET(self) -> None:
            def answer(name: str, part: str, body: object) -> Mapping[str, Any]:
                if part == "/messages":
                    return {"jobMessages": state.messages(name)}
                return {"metrics": []} if part == "/metrics" else state.jobs[name]

            self._answer(answer)

        def _answer(self, act: Any) -> None:
            state.requests.append(f"{self.command} {self.path}")
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            match = _JOB.match(self.path)
            known = match is not None and (match[1] is None or match[1] in state.jobs)
            value = act(*match.groups(), body) if match and known else {"error": {"code": 404, "message": self.path}}
            data = json.dumps(value).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        for process in state.running.values():
            process.kill()


def run_staged(path: str) -> None:
    """Run the graph that a client staged, in this process in place of the containers that it names."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.transforms import environments

    with open(path, "rb") as file:
        graph = beam_runner_api_pb2.Pipeline.FromString(file.read())
    embedded = environments.EmbeddedPythonEnvironment.default().to_runner_api(None)
    for name in graph.components.environments:
        graph.components.environments[name].CopyFrom(embedded)
    result = fn_runner.FnApiRunner().run_via_runner_api(graph, PipelineOptions([]))
    sys.exit(result.wait_until_finish() != "DONE")


if __name__ == "__main__":
    run_staged(sys.argv[1])
