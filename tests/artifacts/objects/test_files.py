"""Files in an object store: what a disk does, in one request where one will do; against an S3 server over HTTP."""

import os
import subprocess
import sys
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import lock, manifest, runs, sealing, stage_index, storage
from topkin.artifacts.objects import files as objects
from topkin.artifacts.objects.digests import BLOCK, digests
from topkin.errors import ArtifactError, BusyError, ConfigError
from topkin.ingest.files import ArrowFiles

if TYPE_CHECKING:
    from benchmarks.jobs._object_server import ObjectServer


class Requests:
    """The requests that a server was sent inside."""

    def __init__(self, server: "ObjectServer") -> None:
        self._server = server

    def __enter__(self) -> "Requests":
        self._before = len(self._server.requests())
        return self

    def __exit__(self, *error: object) -> None:
        self.lines = self._server.requests()[self._before :]
        self.kinds = [line.partition(" ")[0] for line in self.lines]


def overwrite(path: str, data: bytes) -> None:
    """As another process does, of which this one knows nothing."""
    import obstore

    fs, key = storage.filesystem(path)
    store = objects.of(fs)
    assert store is not None
    obstore.put(objects.client(store.bucket), key, data)


def test_files_and_folders_are_as_on_a_disk(bucket, tmp_path):
    for root in (bucket, str(tmp_path)):
        for name in ("a/1.txt", "a/b c/2%20.txt", "a/.hidden/3.txt", "ab/4.txt"):
            storage.write_bytes(name.encode(), storage.join(root, name))
        a = storage.join(root, "a")
        assert storage.files(a) == ["1.txt", "b c/2%20.txt"]
        assert storage.files(a, hidden=True) == [".hidden/3.txt", "1.txt", "b c/2%20.txt"]
        assert storage.sizes(a) == {"1.txt": 7, "b c/2%20.txt": 14}
        assert storage.folders(a) == [".hidden", "b c"]
        assert (storage.size(storage.join(a, "1.txt")), storage.folder_size(a)) == (7, 36)
        assert [storage.exists(storage.join(root, n)) for n in ("a", "a/1.txt", "a/no", "no.json")] == [1, 1, 0, 0]
        assert storage.changed(a) > storage.changed(storage.join(root, "no")) == 0
        storage.take_file(storage.join(a, "1.txt"), storage.join(root, "c.txt"))
        storage.copy_folder(a, storage.join(root, "d"), last="1.txt")
        storage.move_folder(storage.join(root, "d"), storage.join(root, "e"), last="1.txt")
        assert storage.files(root) == ["a/1.txt", "a/b c/2%20.txt", "ab/4.txt", "c.txt", "e/1.txt", "e/b c/2%20.txt"]
        storage.remove_files(storage.join(root, "e"), ["1.txt", "b c/2%20.txt"])
        storage.remove_folder(a)
        storage.remove_folder(storage.join(root, "no"))
        assert storage.files(root, hidden=True) == ["ab/4.txt", "c.txt"]
        with pytest.raises(ArtifactError, match="missing"):
            storage.read_bytes(storage.join(root, "no.txt"))


def test_a_small_object_takes_one_request_to_write_and_one_to_read(bucket, object_server):
    path = f"{bucket}/runs/r/a/t.parquet"
    table = pa.table({"a": range(1000)})
    with Requests(object_server) as written:
        storage.write_parquet(table, path)
    assert written.kinds == ["PUT"]
    fs, key = storage.filesystem(path)
    with Requests(object_server) as read:
        assert pq.read_table(key, filesystem=fs).equals(table)
    assert set(read.kinds) <= {"GET", "HEAD"}
    with Requests(object_server) as read, fs.open_input_file(key) as file:
        assert pq.ParquetFile(file).read().equals(table)
    assert read.kinds == ["GET"]
    with storage.remembering(), Requests(object_server) as read:
        assert storage.read_parquet(path).equals(table)
    assert [line for line in read.lines if "t.parquet" in line] == []  # this process wrote it


def test_a_large_object_is_written_in_parts_and_read_by_blocks(bucket, object_server):
    path, data = f"{bucket}/x.bin", os.urandom(2 * objects.SMALL + 5)
    storage.write_bytes(data, path)
    fs, key = storage.filesystem(path)
    with Requests(object_server) as read, fs.open_input_file(key) as file:
        assert file.size() == len(data)
        file.seek(len(data) - 5)
        assert file.read() == data[-5:]
        file.seek(BLOCK - 3)
        assert file.read(6) == data[BLOCK - 3 : BLOCK + 3]
    assert len(read.lines) == 3
    assert storage.read_bytes(path) == data
    assert storage.digests(path) == digests(pa.BufferReader(data))
    storage.write_bytes(b"", f"{bucket}/empty")
    with fs.open_input_file("empty") as file:
        assert file.read() == b""


def test_who_seals_reads_no_byte_that_another_process_wrote_and_hashed(bucket, object_server):
    data = {"small": b"1" * 1000, "large": os.urandom(objects.SMALL + 1), "none": b""}
    code = "import sys; from topkin.artifacts import storage; storage.write_bytes(sys.stdin.buffer.read(), sys.argv[1])"
    for name, value in data.items():
        command = [sys.executable, "-c", code, f"{bucket}/out/runs/r/model-00000000/{name}"]
        subprocess.run(command, input=value, check=True)
    overwrite(f"{bucket}/out/runs/r/model-00000000/foreign", b"of another program")
    with Requests(object_server) as sealed:
        summaries = manifest.seal(f"{bucket}/out/runs/r/model-00000000", stage="train", key="k", summary={})
    for name, value in data.items():
        assert summaries["files"][name] == digests(pa.BufferReader(value))
    assert [line for line in sealed.lines if line.startswith("GET") and not ("foreign" in line or "list" in line)] == []
    assert storage.read_bytes(f"{bucket}/out/runs/r/model-00000000/large") == data["large"]


def test_an_object_appears_whole_or_not_at_all(bucket):
    path = f"{bucket}/x"

    def half() -> None:
        with storage.atomic_write(path) as stream:
            stream.write(b"half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        half()
    assert storage.files(bucket) == []
    fs, _ = storage.filesystem(bucket)
    with fs.open_output_stream("folder/y") as stream:
        stream.write(b"1")
        stream.write(b"2")
    assert storage.read_bytes(f"{bucket}/folder/y") == b"12"
    with pytest.raises(NotImplementedError):
        fs.open_append_stream("x")
    with pytest.raises(NotImplementedError):
        fs.delete_dir_contents("", accept_root_dir=True)


def test_of_many_who_swap_one_succeeds(bucket):
    path = f"{bucket}/current.json"
    for before in (None, b"0"):
        if before is not None:
            overwrite(path, before)
        won: list[int] = []

        def swap(number: int, before: bytes | None = before, won: list[int] = won) -> None:
            if storage.swap(path, before, f"{before} {number}".encode()):
                won.append(number)

        threads = [threading.Thread(target=swap, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read_if_there(path) == f"{before} {won[0]}".encode()


def test_a_swap_names_what_was_read_not_what_is_there_by_now(bucket, object_server):
    path = f"{bucket}/current.json"
    assert storage.swap(path, None, b"1")
    assert not storage.swap(path, None, b"2")
    with Requests(object_server) as done:
        assert storage.swap(path, b"1", b"2")
    assert done.kinds == ["PUT"]
    overwrite(path, b"3")  # unknown to the next one, which believes in 2
    assert not storage.swap(path, b"2", b"4")
    assert storage.read_if_there(path) == b"3"
    assert storage.swap(path, b"3", None)
    assert storage.read_if_there(path) is None
    assert not storage.swap(path, b"3", b"5")
    assert storage.swap(path, None, b"6")


def test_a_lock_is_one_processs_and_is_free_again_when_given_back(bucket):
    with lock.hold(f"{bucket}/out", "one") as held:
        overwrite(f"{bucket}/out/else", b"")
        other = lock.Lock(held.path, "two")
        assert (other.take() or {})["what"] == "one"
        assert (lock.holder_of(f"{bucket}/out") or {})["what"] == "one"
        lock.check(f"{bucket}/out")
    assert lock.holder_of(f"{bucket}/out") is None
    assert other.take() is None
    other.release()
    with lock.hold(f"{bucket}/out", "three") as held:
        theirs = {**held._about, "what": "four", "nonce": "n", "expires": "2999-01-01"}
        overwrite(held.path, storage.json_bytes(theirs))
        held._renewed = 0.0
        with pytest.raises(BusyError, match="lost"):
            lock.check(f"{bucket}/out")


def sealed_run(root: str, name: str = "2024-05-01-r", day: int = 1) -> runs.Run:
    run = runs.Run(root, name, datetime(2024, 5, day))
    folder = f"{run.path}/prepared-00000000"
    storage.write_parquet(pa.table({"a": [1]}), f"{folder}/histories/p.parquet")
    stage_index.note(root, name, f"runs/{name}/prepared-00000000")
    manifest.seal(folder, stage="prepare", key=name, summary={})
    return runs.record_stage(run, "prepare", {"folder": f"runs/{name}/prepared-00000000"}, {})


def test_a_changed_object_is_seen_by_who_verifies_and_by_who_reads(bucket):
    run = sealed_run(f"{bucket}/out")
    folder = run.folder("prepare")
    part = f"{folder}/histories/p.parquet"
    manifest.verify(folder, contents=False)
    assert storage.parquet_files(f"{folder}/histories") == [part]
    whole = storage.read_bytes(part)
    _sleep_past_the_second()
    overwrite(part, whole[:-1] + b"x")
    with pytest.raises(ArtifactError, match="changed after its stage finished"):
        manifest.verify(folder, contents=False)
    forget()
    with pytest.raises(ArtifactError, match="changed after its stage finished"):
        storage.read_bytes(part)
    overwrite(part, whole[:-1])
    with pytest.raises(ArtifactError, match="changed after its stage finished"):
        storage.read_bytes(part)
    storage.write_bytes(b"", f"{folder}/more")
    with pytest.raises(ArtifactError, match="not in the manifest"):
        manifest.verify(folder, contents=False)
    with pytest.raises(ArtifactError, match="not in"):
        storage.read_bytes(f"{folder}/more")


def forget() -> None:
    """As a new process."""
    from topkin.artifacts.objects.memory import MEMORY

    MEMORY._contents.clear()
    MEMORY._derived.clear()


def _sleep_past_the_second() -> None:
    import time

    time.sleep(1.1)  # the time of an object has seconds


def test_a_run_is_published_found_and_rolled_back(bucket):
    root = f"{bucket}/out"
    first, second = sealed_run(root), sealed_run(root, "2024-05-02-r", 2)
    for run in (first, second):
        runs.publish_run(run)
    assert runs.published(root) == second
    assert stage_index.find(root, "2024-05-01-r") == "runs/2024-05-01-r/prepared-00000000"
    stage_index.forget(root, "2024-05-01-r")
    assert stage_index.find(root, "2024-05-01-r") is None
    assert runs.run_ids(root) == ["2024-05-01-r", "2024-05-02-r"]
    assert runs.roll_back(root)[0] == first
    assert (runs.pointer(root) or {})["version"] == 3


def test_paths_that_cannot_be_sealed_ask_for_no_manifest():
    def asked(path: str) -> list[str]:
        candidates = [(f"{path}/{sealing.MANIFEST}", "")]
        while "/" in path:
            path = path.rpartition("/")[0]
            candidates.append((f"{path}/{sealing.MANIFEST}", ""))
        return [sealed for sealed, _ in sealing._of_stage(candidates[:3])]

    assert asked("out/runs/r/prepared/histories") == ["out/runs/r/prepared/manifest.json"]
    assert asked("out/runs/r/lists/recommendations/date=1") == ["out/runs/r/lists/manifest.json"]
    assert asked("out/runs/r/.scratch-lists-1") == asked("out/runs/r") == []
    assert len(asked("a/b/c")) == 3


def test_errors_tell_the_bucket_the_credentials_and_the_extra(bucket, object_server, monkeypatch):
    with pytest.raises(OSError, match=r"there is no bucket not-there-1 .*mend its name"):
        storage.files("s3://not-there-1/a")
    with pytest.raises(OSError, match="there is no bucket"):
        storage.write_bytes(b"", "s3://not-there-1/a")
    with pytest.raises(OSError, match="there is no bucket"):
        storage.swap("s3://not-there-1/a", None, b"1")
    with pytest.raises(OSError, match="there is no bucket"):
        storage.read_if_there("s3://not-there-1/a")
    for name in object_server.environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigError, match="needs credentials and there are none"):
        storage.files("s3://not-there-2/a")


def test_who_loses_a_swap_in_a_job_sees_what_won(bucket):
    path = f"{bucket}/current.json"
    assert storage.swap(path, None, b"1")
    with storage.remembering():
        assert storage.read_if_there(path) == b"1"
        overwrite(path, b"2")
        assert not storage.swap(path, b"1", b"3")
        assert storage.read_if_there(path) == b"2"
        assert storage.swap(path, b"2", b"3")


def test_a_lock_that_somebody_deleted_is_lost_and_can_be_taken_again(bucket):
    import obstore

    out = f"{bucket}/out"
    fs, key = storage.filesystem(f"{out}/{lock.NAME}")
    store = objects.of(fs)
    assert store is not None
    with lock.hold(out, "a run") as held:
        obstore.delete(objects.client(store.bucket), [key])
        assert not held.renew()
    for _ in range(2):  # a lock that was lost, and one that was given back
        with lock.hold(out, "another") as held:
            assert held.renew()
        obstore.delete(objects.client(store.bucket), [key])


def test_the_keys_of_a_uri_go_without_the_token_of_the_environment(monkeypatch):
    heads: list[dict[str, str]] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heads.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(404)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=eu-west-1"
        assert storage.read_if_there(f"s3://KEY:SECRET@shop/a.json{at}") is None
        assert storage.read_if_there(f"s3://KEY:SECRET@shop/a.json{at}&session_token=own") is None
        server.shutdown()
    assert "Credential=KEY/" in heads[0]["authorization"]
    assert heads[0].get("x-amz-security-token") is None
    assert heads[1]["x-amz-security-token"] == "own"


EVERY_WAY = [
    storage.files,
    storage.folders,
    storage.exists,
    storage.remove_folder,
    storage.read_if_there,
    storage.read_bytes,
    lambda path: storage.write_bytes(b"", path),
    lambda path: storage.swap(path, None, b""),
    ArrowFiles().find,
    ArrowFiles().open,
]


@pytest.mark.parametrize("use", EVERY_WAY)
@pytest.mark.parametrize(("scheme", "extra"), [("s3", "aws"), ("gs", "gcp"), ("abfs", "azure")])
def test_without_the_client_whatever_is_asked_first_names_the_extra(use, scheme, extra, monkeypatch):
    monkeypatch.delitem(sys.modules, "obstore.store", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=rf"needs topkin's extra {extra}: pip install 'topkin\[{extra}\]'"):
        use(f"{scheme}://without-the-client/{extra}/a.json")


def test_other_schemes_are_pyarrows(tmp_path):
    assert storage.files(f"file://{tmp_path}") == []
    storage.write_bytes(b"1", f"file://{tmp_path}/a/b")
    assert storage.files(f"file://{tmp_path}") == ["a/b"]
    with pytest.raises((pa.ArrowInvalid, OSError)):
        storage.files("nosuch://host/a")
