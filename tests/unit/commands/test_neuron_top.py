"""`inference neuron top` reads what the server itself writes, and tells utilization from two readings."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.metrics import Metrics
from load_tests.neuron_metrics import CoreReading, NotMetricsError, activity, read_cores


def written_by_the_server(answered: int = 0, refused: int = 0, batches: int = 0, queued: int = 0) -> str:
    metrics = Metrics(CoreGroup((0,)), 2, lambda model: queued if model else 0)
    for _ in range(answered):
        metrics.answered(1, 0.01)
    for _ in range(refused):
        metrics.failed(0, 503, "overloaded")
    for _ in range(batches):
        metrics.batch(0, 128, 3, 4)
    return metrics.text().decode()


def test_the_servers_own_text_is_understood() -> None:
    found = read_cores(written_by_the_server(answered=3, refused=2, batches=4, queued=7))
    assert found == {"0": CoreReading(0.0, 3.0, 2.0, 12.0, 4.0, 7.0)}


def test_activity_is_what_happened_between_two_readings() -> None:
    before = {"0": CoreReading(busy_seconds=10, answered=100, failed=1, rows=300, batches=100, queued=0)}
    after = {"0": CoreReading(busy_seconds=11.5, answered=300, failed=3, rows=900, batches=200, queued=5)}
    (found,) = activity(before, after, 2.0)
    assert (found.utilization, found.answered_per_second, found.failed_per_second) == (0.75, 100, 1)
    assert (found.mean_batch, found.queued) == (6, 5)


def test_a_server_that_began_anew_counts_from_nothing() -> None:
    (found,) = activity({"0": CoreReading(busy_seconds=99)}, {"0": CoreReading(busy_seconds=1)}, 2.0)
    assert found.utilization == 0.5


def test_cores_are_in_the_order_of_their_numbers() -> None:
    text = "".join(f'neuron_encoder_core_busy_seconds_total{{core="{core}"}} 1.0\n' for core in ("10-11", "2-3", "0-1"))
    assert list(read_cores(text)) == ["0-1", "2-3", "10-11"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("<html>no</html>", "Prometheus"),
        ("", "neuron_encoder_core_busy_seconds_total is missing"),
        ("other_total 1\n", "neuron_encoder_core_busy_seconds_total is missing"),
    ],
)
def test_another_text_is_refused_with_what_is_missing(text: str, part: str) -> None:
    with pytest.raises(NotMetricsError, match=part):
        read_cores(text)


@contextmanager
def server(texts: Iterator[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next(texts).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_every_core_of_every_server_is_a_line() -> None:
    def texts() -> Iterator[str]:
        busy = 0.0
        while True:
            # More than any look can be apart, so that the core is full whatever the machine's pace.
            busy += 1000
            yield "".join(f'neuron_encoder_core_busy_seconds_total{{core="{core}"}} {busy}\n' for core in (0, 1))

    with server(texts()) as one, server(texts()) as other:
        done = CliRunner().invoke(app, ["neuron", "top", one, other, "--interval", "0.2", "--looks", "1"])
    assert done.exit_code == 0, done.output
    assert "4 NeuronCore groups, 100% busy" in done.stdout
    assert done.stdout.count("100.0") == 4


def test_without_a_server_it_is_one_line(tmp_path: Path) -> None:
    none = CliRunner().invoke(app, ["neuron", "top", "--state", str(tmp_path)])
    assert (none.exit_code, "no local account runs and no URL is given" in none.stderr) == (1, True)
    dead = CliRunner().invoke(app, ["neuron", "top", "http://127.0.0.1:9"])
    assert (dead.exit_code, "does not answer" in dead.stderr) == (1, True)
    assert "Traceback" not in none.stderr + dead.stderr
