"""An S3 server of this machine's loopback, moto's over HTTP, that logs each request; it holds all in memory."""

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 60


@dataclass(frozen=True)
class ObjectServer:
    """A server that runs.

    Args:
        endpoint: Its address.
        log: The file with a line for each request: method, path and query, headers that matter.
    """

    endpoint: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it; the keys are nobody's."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "topkin",
            "AWS_SECRET_ACCESS_KEY": "of-a-test",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> list[str]:
        """A line for each request so far."""
        return self.log.read_text().splitlines()

    def make_bucket(self) -> str:
        """A new bucket's URI."""
        name = f"shop-{secrets.token_hex(4)}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=60):
            return f"s3://{name}"


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """A server in a process of its own, on a free port; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="topkin-s3-") as folder:
        port, log = Path(folder, "port"), Path(folder, "requests")
        log.touch()
        command = [sys.executable, "-m", "benchmarks.jobs._object_server", str(port), str(log)]
        root = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + READY_SECONDS
            while not port.exists() or not port.read_text():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the S3 server must start: pip install 'moto[s3]' flask flask-cors")
                time.sleep(0.05)
            yield ObjectServer(f"http://127.0.0.1:{port.read_text()}", log)
        finally:
            process.kill()
            process.wait()


def serve(port_file: Path, log: Path) -> None:
    """Serve until killed, or until who started it is gone; the port is written into a file."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    with log.open("a", buffering=1) as lines:

        def counted(environment: Mapping[str, Any], start: Any) -> Any:
            asked = [
                environment["REQUEST_METHOD"],
                environment["PATH_INFO"] + "?" + environment.get("QUERY_STRING", ""),
            ]
            names = ("RANGE", "IF_MATCH", "IF_NONE_MATCH")
            asked += [f"{name}={value}" for name in names if (value := environment.get(f"HTTP_{name}"))]
            lines.write(" ".join(asked) + "\n")
            return application(environment, start)

        server = make_server("127.0.0.1", 0, counted, threaded=True)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        whole = port_file.with_suffix(".part")
        whole.write_text(str(server.server_port))
        whole.replace(port_file)
        server.serve_forever()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
