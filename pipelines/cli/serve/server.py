"""The server: GET alone, to this machine alone, of one page and three questions; no path of a request is a file's."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from topkin.artifacts.runs import Run
from topkin.errors import TopkinError
from topkin.pipelines.cli.serve import records

LOOPBACK = "127.0.0.1"
API = "/api/"
LONGEST = 500
"""Characters of a question."""
QUESTIONS: Mapping[str, tuple[str, Callable[[Run, str], Any]]] = {
    "find": ("text", lambda run, text: {"hits": records.hits(run, text)}),
    "user": ("id", records.user),
    "item": ("id", records.item),
}
"""By the name of a question, its one argument and who answers, with None where the run has none."""


class PageServer(ThreadingHTTPServer):
    """Serves the page of a run on 127.0.0.1. Raises OSError where the port is taken; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, run: Run, page: str, port: int) -> None:
        self.run, self.page, self.one = run, page.encode(), threading.Lock()
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away before all was sent is no failure."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection. A request that names another host comes from a page that has no business here."""

    server: PageServer
    server_version, sys_version = "topkin", ""
    timeout = 30

    def do_GET(self) -> None:
        host = self.headers.get("Host", "")
        if host not in {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "topkin serve answers to this machine's own name alone")
            return
        parts = urlsplit(self.path)
        name = parts.path.removeprefix(API)
        if parts.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif parts.path.startswith(API) and name in QUESTIONS:
            self._answer(name, parts.query)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is the page, /, and nothing else")

    def _answer(self, name: str, query: str) -> None:
        argument, ask = QUESTIONS[name]
        try:
            values = parse_qs(
                query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=2, errors="strict"
            )
        except ValueError:
            values = {}
        if set(values) != {argument} or len(values[argument]) != 1 or len(values[argument][0]) > LONGEST:
            self._refuse(HTTPStatus.BAD_REQUEST, f"{name} takes one {argument} of at most {LONGEST} characters")
            return
        try:
            with self.server.one:
                answer = ask(self.server.run, values[argument][0])
        except TopkinError as e:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(e))
            return
        self._json(HTTPStatus.OK, answer)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return lambda: self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "GET is all that is taken", Allow="GET")

    def _refuse(self, status: HTTPStatus, why: str, **headers: str) -> None:
        self.close_connection = True
        self._json(status, {"error": why}, **headers)

    def _json(self, status: HTTPStatus, value: object, **headers: str) -> None:
        self._send(status, "application/json; charset=utf-8", json.dumps(value).encode(), **headers)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**fixed, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not told: what somebody looks up is his own."""
