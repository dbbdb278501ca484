"""A process that stands in for a vLLM server under the keeper: `stand_in.py PORT [fails]`."""

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"weight_version": "default"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port, *how = sys.argv[1:]
    if how == ["fails"]:
        sys.exit("there is no such model")
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])  # as vLLM's engine is
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
