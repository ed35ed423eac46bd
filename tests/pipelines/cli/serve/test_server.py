"""The server of one run: what it answers, and what it refuses."""

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from topkin.artifacts import lookup, storage
from topkin.pipelines.cli.serve.server import PageServer
from topkin.report.browse.names import show_id


@pytest.fixture
def server(small_run: Any) -> Iterator[PageServer]:
    server = PageServer(small_run, "<html>the page</html>", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server: PageServer, path: str, method: str = "GET", host: str = "") -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"localhost:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    reply = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return reply


def answer(server: PageServer, path: str) -> Any:
    status, body, _ = ask(server, path)
    assert status == 200
    return json.loads(body)


def test_the_page_and_every_user_and_item_are_shown(server: PageServer, small_run: Any) -> None:
    status, body, headers = ask(server, "/")
    assert (status, body) == (200, b"<html>the page</html>")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    folder = storage.join(small_run.folder("prepare"), "histories")
    users = sorted(storage.read_parts(folder, ["user_id"])["user_id"].to_pylist())
    text = show_id(users[0])
    assert answer(server, f"/api/find?text={text}")["hits"][0] == {"kind": "user", "id": text, "title": ""}
    shown = answer(server, f"/api/user?id={text}")
    view = lookup.user(small_run, users[0])
    assert view is not None
    assert [line["title"] for line in shown["list"]] == [r.item.title for r in view.recommendations]
    assert [line["score"] for line in shown["list"]] == [round(r.score, 3) for r in view.recommendations]
    assert shown["history"][0]["times"] == 2  # the first item, bought twice
    assert shown["history"][0]["last"] == "29 Apr 2024"
    assert shown["near"] == [{"id": show_id(users[3]), "score": 0.5}]
    hits = answer(server, "/api/find?text=paper%20lantern")["hits"]
    assert sorted(hit["title"] for hit in hits) == ["BLUE PAPER LANTERN", "RED PAPER LANTERN"]
    item = answer(server, f"/api/item?id={hits[-1]['id']}")
    assert item["title"] == hits[-1]["title"]
    assert any(text.startswith("sold ") for text in item["told"])
    assert answer(server, "/api/user?id=nobody") is answer(server, "/api/item?id=nothing") is None


@pytest.mark.parametrize(
    "path",
    ["/../run.json", "/run.json", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/api/", "/api/../find", "/api/find/x",
     "/index.html", "/favicon.ico"],
)  # fmt: skip
def test_no_path_is_a_file(server: PageServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 404
    assert "nothing else" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "query", ["", "?", "?id=", "?text=a&text=b", "?text=a&id=b", "?text", "?text=%ff", f"?text={'a' * 501}"]
)
def test_a_question_has_one_short_argument(server: PageServer, query: str) -> None:
    status, body, _ = ask(server, f"/api/find{query}")
    assert status == 400
    assert "one text" in json.loads(body)["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "BREW"])
def test_nothing_but_get_is_taken(server: PageServer, method: str) -> None:
    status, _, headers = ask(server, "/", method)
    assert (status, headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1:1", "localhost.evil.example:80", "[::1]"])
def test_a_page_of_another_host_learns_nothing(server: PageServer, host: str) -> None:
    status, body, _ = ask(server, "/api/find?text=lantern", host=host)
    assert status == 421
    assert b"LANTERN" not in body


def test_it_listens_on_this_machine_alone(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_port}/"


def test_a_browser_that_goes_away_is_no_failure(
    server: PageServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.page, failed = b"x" * 30_000_000, threading.Event()
    handle = server.handle_error
    monkeypatch.setattr(server, "handle_error", lambda *of: (handle(*of), failed.set()))
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(f"GET / HTTP/1.0\r\nHost: localhost:{server.server_port}\r\n\r\n".encode())
        connection.recv(10)
    assert failed.wait(30)
    assert capsys.readouterr() == ("", "")
