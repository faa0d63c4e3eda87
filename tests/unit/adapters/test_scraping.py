"""The pages of exporters, joined to a single page."""

import contextlib
import http.server
import json
import threading

import pytest

from adapters.local.exporter_processes import LocalExporter
from domain.exporters import Exporter
from domain.layout import Layout
from pooler import scraping

PAGE = """\
# HELP pgbouncer_up The pgbouncer scrape succeeded
# TYPE pgbouncer_up gauge
pgbouncer_up {up}
# HELP pgbouncer_pools_client_waiting_connections Clients that wait
# TYPE pgbouncer_pools_client_waiting_connections gauge
pgbouncer_pools_client_waiting_connections{{database="shop",user="a\\"b}} 7"}} 3
# TYPE go_info gauge
go_info{{version="go1.26"}} 1
"""


def exporter(unit="pgbouncer/0", process=0, port=9127):
    source = Exporter(index=process, port=port, process_port=6432)
    return LocalExporter(unit, source, Layout(root="/units/0"), "/exporter")


def pages():
    return [
        (exporter(), PAGE.format(up=1)),
        (exporter("pgbouncer/1", 16, 9128), PAGE.format(up=0)),
    ]


def test_each_value_has_its_unit_and_process_and_each_metric_its_help_once():
    assert list(scraping.lines_of(scraping.joined(pages()))) == [
        "# HELP pgbouncer_up The pgbouncer scrape succeeded",
        "# TYPE pgbouncer_up gauge",
        'pgbouncer_up{unit="pgbouncer/0",process="0"} 1',
        'pgbouncer_up{unit="pgbouncer/1",process="16"} 0',
        "# HELP pgbouncer_pools_client_waiting_connections Clients that wait",
        "# TYPE pgbouncer_pools_client_waiting_connections gauge",
        'pgbouncer_pools_client_waiting_connections{unit="pgbouncer/0",process="0",'
        'database="shop",user="a\\"b} 7"} 3',
        'pgbouncer_pools_client_waiting_connections{unit="pgbouncer/1",process="16",'
        'database="shop",user="a\\"b} 7"} 3',
    ]


def test_metrics_of_the_exporter_itself_are_shown_on_request():
    names = [
        sample.name
        for each in scraping.joined(pages(), everything=True)
        for sample in each.samples
    ]
    assert names.count("go_info") == 2


def test_labels_lose_their_escapes_in_json():
    sample = scraping.joined(pages())[1].samples[0]
    assert sample.as_row.labels == {
        "unit": "pgbouncer/0",
        "process": "0",
        "database": "shop",
        "user": 'a"b} 7',
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "pgbouncer_up",
        "pgbouncer_up{a=",
        "<html>",
        "pgbouncer_up one two",
        "pgbouncer_up 1e",
        "pgbouncer_up 1 2",
        "{} 1",
        "é 1",
    ],
)
def test_a_line_that_is_no_value_is_left_out(line):
    assert scraping.joined([(exporter(), f"{line}\n")]) == []


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_value_that_is_no_number_is_null_in_json(value):
    sample = scraping.joined([(exporter(), f"pgbouncer_x {value}\n")])[0].samples[0]
    assert json.loads(sample.as_row.model_dump_json())["value"] is None


def test_a_value_that_cannot_be_read_is_left_out():
    assert scraping.joined([(exporter(), "pgbouncer_x one\n")]) == []


@contextlib.contextmanager
def answering(code, text):
    """Answer every request with this code and text, and yield the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_page_of_an_exporter_is_read():
    with answering(200, b"pgbouncer_up 1\n") as port:
        assert scraping.scraped(exporter(port=port)) == "pgbouncer_up 1\n"


def test_an_exporter_that_fails_is_silent_with_its_reason():
    with answering(500, b"") as port, pytest.raises(scraping.Silent, match="it answers 500"):
        scraping.scraped(exporter(port=port))


def test_a_port_where_nothing_listens_is_silent_with_the_reason():
    with answering(200, b"") as port:
        pass
    with pytest.raises(scraping.Silent, match="refused"):
        scraping.scraped(exporter(port=port))


def test_an_answer_without_an_end_is_cut(monkeypatch):
    monkeypatch.setattr(scraping, "MOST_BYTES", 1000)
    with answering(200, b"x" * 10_000) as port, pytest.raises(scraping.Silent, match="not end"):
        scraping.scraped(exporter(port=port))
