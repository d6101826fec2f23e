"""The page of a run under way, as a browser is served it."""

import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from tests.helpers import call
from zero_jax import report
from zero_jax.report import live


@pytest.fixture
def served(folder, monkeypatch):
    """It, served, and looked at anew for each request."""
    monkeypatch.setattr(live, "LEAST_SECONDS", 0.0)
    with report.Live(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, path="/", **headers):
    with closing(http.client.HTTPConnection(*server.server_address)) as connection:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read().decode()


def test_the_page_is_that_of_the_report_and_asks_again(served, folder):
    status, stamp, page = get(served)
    assert status == 200
    assert page.startswith("<!DOCTYPE html>")
    assert "<h1>demo, seed 0</h1>" in page
    assert f'let shown = "{stamp}"' in page
    script = re.search("<script>.*?</script>\n", page, re.DOTALL)
    assert page.replace("\n" + script[0], "") == report.write(folder).read_text()
    assert get(served, If_None_Match=stamp)[0] == 304


@pytest.mark.slow
def test_it_changes_with_the_run(served, folder):
    _, before, page = get(served)
    assert "The best program" in page
    (folder / "outcome.json").unlink()
    status, after, page = get(served, If_None_Match=before)
    assert (status, after != before) == (200, True)
    assert "Running, or killed" in page


def test_a_damaged_file_is_said_and_looked_at_again(served, folder):
    whole = (folder / "hall.json").read_bytes()
    (folder / "hall.json").write_bytes(whole[: len(whole) // 2])
    status, stamp, page = get(served)
    assert (status, stamp) == (200, "")
    assert "hall.json" in page
    assert 'http-equiv="refresh"' in page
    (folder / "hall.json").write_bytes(whole)
    assert "Hall of fame" in get(served)[2]


def test_only_the_page_is_served_and_only_to_this_machine(served, folder):
    assert served.server_address[0] == "127.0.0.1"
    assert get(served, "/config.json")[0] == 404
    assert get(served, "/../run/config.json")[0] == 404
    assert get(served, Host=f"example.com:{served.server_address[1]}")[0] == 404
    assert get(served, Host=f"localhost:{served.server_address[1]}")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_it_runs_until_it_is_stopped(folder, number):
    command = [sys.executable, "-m", "zero_jax.cli", "watch", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        port = int(re.search("is shown at http://127.0.0.1:([0-9]+)", line)[1])
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGINT else 143)
    assert "Traceback" not in err


def test_mistakes_are_named(folder, tmp_path, capsys):
    with report.Live(folder) as server:
        assert call("watch", folder, "--port", server.server_address[1]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert call("watch", tmp_path) == 2
    assert "is not the folder of a run" in capsys.readouterr().err
    assert call("watch", folder, "--port", 70_000) == 2
    assert "port must be from 0 to 65,535" in capsys.readouterr().err
