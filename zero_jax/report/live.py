"""A live view: the page of a run under way, served on this machine and kept up to date."""

import html
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from zero_jax.report import page
from zero_jax.run.config_file import config_of
from zero_jax.support import foreign

HOST = "127.0.0.1"
"""Only this machine is served: a page shows what is in files."""

LEAST_SECONDS = 1.0
"""The page is made at most this often, and looked at again by the browser twice as seldom."""

_SCRIPT = """
<script>
let shown = "%(stamp)s";
setInterval(async () => {
  try {
    const answer = await fetch("/", {headers: {"If-None-Match": shown}, cache: "no-store"});
    if (answer.status !== 200) return;
    shown = answer.headers.get("ETag");
    const open = [...document.querySelectorAll("details")].map(one => one.open);
    const [x, y] = [scrollX, scrollY];
    document.body.innerHTML = new DOMParser().parseFromString(await answer.text(), "text/html").body.innerHTML;
    document.querySelectorAll("details").forEach((one, i) => { if (i in open) one.open = open[i]; });
    scrollTo(x, y);
  } catch (error) { /* the server is gone: the page stays as it is */ }
}, %(milliseconds)d);
</script>
"""


class Live(ThreadingHTTPServer):
    """Serves the page of a run until it is closed.

    Args:
      run: the folder of a run: finished, running, or killed.
      port: where; 0 for any that is free.

    Attributes:
      url: the address to open.

    Raises:
      ValueError: the folder is not a run's.
      OSError: the port is taken.

    Example:
      >>> with Live("runs/linear-seed1-20261121-090130") as live:    # doctest: +SKIP
      ...     live.serve_forever()
    """

    daemon_threads = True

    def __init__(self, run: str | Path, port: int = 0) -> None:
        config_of(run)
        self.run = Path(run)
        self._lock = threading.Lock()
        self._made: tuple[str, bytes] = "", b""
        self._looked = -LEAST_SECONDS
        try:
            super().__init__((HOST, port), _Answer)
        except OSError as error:
            raise OSError(f"port {port} of this machine cannot be used ({error.strerror}): choose another") from None
        self.url = f"http://{HOST}:{self.server_address[1]}"

    def page(self) -> tuple[str, bytes]:
        """The page as HTML, and a stamp that changes when it does.

        Raises:
          ValueError: a file is damaged; the message names it.
        """
        with self._lock:
            if time.monotonic() - self._looked >= LEAST_SECONDS:
                stamp = _stamp(self.run)
                if stamp != self._made[0]:
                    self._made = stamp, page.html(self.run).encode()
                self._looked = time.monotonic()
            return self._made

    def handle_error(self, *_: Any) -> None:
        """Browsers close connections: not worth a traceback."""


class _Answer(BaseHTTPRequestHandler):
    """Answers requests for the page."""

    server: Live

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost") or self.path != "/":  # a foreign name would be another site's script
            self.send_error(404, "Only the page of the run is served here")
            return
        try:
            stamp, body = self.server.page()
        except (ValueError, OSError) as error:
            self._send(200, "", _apology(error))
            return
        if self.headers.get("If-None-Match") == stamp:
            self._send(304, stamp, b"")
            return
        script = _SCRIPT % {"stamp": stamp, "milliseconds": 2000 * LEAST_SECONDS}
        self._send(200, stamp, body.replace(b"</head>", script.encode() + b"</head>", 1))

    def _send(self, code: int, stamp: str, body: bytes) -> None:
        self.send_response(code)
        for name, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body))),
                            ("Cache-Control", "no-store"), ("ETag", stamp)):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Requests are not worth a line each."""


def _apology(error: Exception) -> bytes:
    text = html.escape(foreign.plain(str(error), lines=True))
    return f'<!DOCTYPE html><meta http-equiv="refresh" content="5"><title>zero-jax</title><p>{text}</p>'.encode()


def _stamp(run: Path) -> str:
    """Of what the page is made from."""
    files = sorted(file for file in run.iterdir() if file.suffix in (".json", ".jsonl"))
    return "-".join(f"{file.stat().st_mtime_ns:x}" for file in files)
