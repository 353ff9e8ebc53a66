"""Stands in for llama-server in tests of what asks it: repeats the beginning of the line, and states some times."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

TIMINGS = {"prompt_per_second": 100.0, "predicted_per_second": 10.0, "predicted_n": 5}


class Handler(BaseHTTPRequestHandler):
    """Answers /health, and /infill as far as it is asked for one line without chance."""

    def do_GET(self) -> None:
        """Any path: ready."""
        self._answer({"status": "ok"})

    def do_POST(self) -> None:
        """The text that stands before the gap in its line, as the fill."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/infill"
        assert (asked["stop"], asked["temperature"], asked["cache_prompt"]) == (["\n"], 0.0, True)
        assert isinstance(asked["input_prefix"], str)
        assert isinstance(asked["input_suffix"], str)
        self._answer({"content": asked["prompt"].rpartition("\n")[2], "timings": TIMINGS})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _answer(self, found: object) -> None:
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
