"""A server that takes over weights as vLLM's do, or fails to, as it is told."""

import json
import socket
import threading
from pathlib import Path

from safetensors import safe_open

from tests.pipeline.engines.fake_server import FakeServer

AT_START = "default"


class WeightServer(FakeServer):
    """Serves the checkpoint `root`. The last token of a completion is the row's seed modulo 97, its log-probabilities
    follow from the weights that it holds.

    `breaks` says what goes wrong, by path: a status (int), `hang`, `lenient` (an update that changes nothing), or
    `restart` (it dies, and comes back as it was started); each once. `log` holds (path, version that it held then).
    """

    def __init__(self, root: Path, number: int = 50, **breaks):
        super().__init__(number)
        self.root, self.breaks = Path(root), breaks
        self.log: list[tuple[str, str]] = []
        self.sees_folders = True
        self.scale = 1.0
        """Of log-probabilities."""
        self._restarted()
        fake, handler = self, self._server.RequestHandlerClass
        answer = threading.RLock()

        def do_get(self):
            if self.path == "/weight_info":
                broken = fake._broken("weight_info")
                return self._send(broken or 200, json.dumps({"weight_version": fake.version}))
            self._send(200, json.dumps({"data": [{"id": "policy", "root": str(fake.root)}]}))

        def do_post(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.partition("?")[0].strip("/")
            with answer:
                fake.log.append((path, fake.version))
                broken = fake._broken(path)
                if broken == "restart":
                    fake._restarted()
                    return self.connection.shutdown(socket.SHUT_RDWR)
                if isinstance(broken, int):
                    return self._send(broken, "broken")
                status, told = fake._posted(path, body, broken == "lenient")
            if broken == "hang":
                fake._stopped.wait(300)
            self._send(status, json.dumps(told))

        handler.do_GET, handler.do_POST = do_get, do_post

    def _restarted(self) -> None:
        self.version, self.weights, self.paused, self.updating = AT_START, _sum(self.root), False, False

    def _broken(self, path: str):
        planned = self.breaks.get(path.rpartition("/")[2])
        return planned.pop(0) if planned else None

    def _posted(self, path: str, body: dict, lenient: bool) -> tuple[int, dict]:
        if path == "inference/v1/generate":
            return 200, self.completions(body)
        if path == "collective_rpc":
            return 200, {"results": [self._fault_of(*body["args"])]}
        if path == "start_weight_update":
            if self.updating:
                return 500, {"error": "an update is under way"}
            self.updating = True
        elif path == "update_weights":
            folder = Path(body["update_info"]["folder"])
            assert self.paused and self.updating
            if not lenient:
                self.weights = _sum(folder)
        elif path == "finish_weight_update":
            if not self.updating:
                return 500, {"error": "no update is under way"}
            self.updating, self.version = False, body.get("weight_version") or self.version
        elif path == "update_weight_version":
            self.version = body["new_version"]
        elif path in ("pause", "resume"):
            self.paused = path == "pause"
        return 200, {}

    def _fault_of(self, folder: str, weights: str) -> str:
        return "" if self.sees_folders and len(list(Path(folder).glob("*.safetensors"))) else f"nothing in {folder}"

    def completions(self, body: dict) -> dict:
        self.requests.append(body)
        sampling, length = body["sampling_params"], len(body["token_ids"])
        if "prompt_logprobs" in sampling:
            known = [{str(token): {"logprob": -self.weights - token}} for token in body["token_ids"][1:]]
            return {"prompt_logprobs": [None, *known], "choices": []}
        choices = [
            {
                "index": i,
                "token_ids": [self.number, length, (sampling["seed"] + i) % 97 + 2],
                "logprobs": {"content": [{"logprob": -self.weights * self.scale}] * 3},
                "finish_reason": "length",
                "weight_versions": [{"version": self.version, "start": 0, "end": 3}],
            }
            for i in range(sampling["n"])
        ]
        return {"choices": choices}


def _sum(folder: Path) -> float:
    """One figure of all weights in a folder."""
    total = 0.0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            total += sum(float(opened.get_tensor(name).double().abs().sum()) for name in opened.keys())  # noqa: SIM118
    return total
