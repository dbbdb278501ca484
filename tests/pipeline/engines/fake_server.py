"""A server that answers like vLLM, or misbehaves as it is told."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_S = 300.0
"""Seconds for which a server that hangs keeps a request."""


class FakeServer:
    """The first token of a completion is the number of the server, the second the length of the prompt.

    `faults` are spent first, one a request: a status (int), a status and a text (tuple), `hang`, `drip`, `die`, `cut`,
    a text to answer with, or a function that changes the good answer. `requests` are the bodies that came in,
    `answered` those that were answered well.
    """

    def __init__(self, number: int, *faults: int | str | tuple | Callable[[dict], object], headers: dict | None = None):
        self.number, self.faults, self.headers = number, list(faults), headers or {}
        self.requests: list[dict] = []
        self.answered: list[dict] = []
        self.keys: list[str | None] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._send(200, json.dumps({"data": [{"id": "served-name"}]}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fault = fake._next_fault(body, self.headers.get("Authorization"))
                if callable(fault):
                    self._send(200, json.dumps(fault(fake.good_answer(body))))
                elif isinstance(fault, int):
                    self._send(fault, "busy")
                elif isinstance(fault, tuple):
                    self._send(*fault)
                elif fault == "hang":
                    fake._stopped.wait(HANG_S)
                elif fault == "drip":
                    self._drip()
                elif fault == "die":
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif fault == "cut":
                    self._send(200, json.dumps(fake.good_answer(body))[:40], length=4000)
                elif fault is not None:
                    self._send(200, fault)
                else:
                    fake.answered.append(body)
                    self._send(200, json.dumps(fake.good_answer(body)))

            def _send(self, code, text, length=None):
                data = text.encode()
                self.send_response(code)
                self.send_header("Content-Length", str(length or len(data)))
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def _drip(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                while not fake._stopped.wait(0.05):
                    self.wfile.write(b" ")
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """A client that went away is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _next_fault(self, body: dict, key: str | None):
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            return self.faults.pop(0) if self.faults else None

    def good_answer(self, body: dict) -> dict:
        choices = [
            {
                "index": i,
                "token_ids": [self.number, len(body["prompt"]), 1],
                "logprobs": {"token_logprobs": [-0.5, -0.25, -0.125]},
                "finish_reason": "stop",
            }
            for i in reversed(range(body["n"]))
        ]
        return {"choices": choices}

    def stop(self) -> None:
        """As when the process is killed: nobody listens any more."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()


class FakeChat(FakeServer):
    """Answers chat requests: `says(text of the last message)`, asked once a request, gives a content, a whole choice,
    or a status."""

    def __init__(self, says: Callable[[str], str | dict | int], *faults, **options):
        super().__init__(0, *faults, **options)
        self.says = says
        self._said = threading.local()

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    def _next_fault(self, body: dict, key: str | None):
        fault = super()._next_fault(body, key)
        if fault is not None:
            return fault
        self._said.words = self.says(body["messages"][-1]["content"])
        return self._said.words if isinstance(self._said.words, int) else None

    def good_answer(self, body: dict) -> dict:
        said = self._said.words
        choice = said if isinstance(said, dict) else {"message": {"content": said}, "finish_reason": "stop"}
        return {"choices": [{"index": 0, **choice}]}
