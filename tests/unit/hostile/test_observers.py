"""What a hostile Loki, Prometheus or Grafana writes becomes a sentence."""

import json

import pytest

from adapters.juju.observer_answers import loki_url, refusals

HOST = "loki.cos.svc:3100"


@pytest.mark.parametrize(
    "url",
    [
        f"http://{HOST}/loki/api/v1/push",
        f"https://{HOST}",
        "http://[fd00::1]:3100/cos-loki-0/loki/api/v1/push",
        "http://10.0.0.1/path%20of/loki",
    ],
)
def test_an_address_of_loki_is_read_as_it_is(url):
    assert loki_url({"endpoint": json.dumps({"url": url})}) == url


def test_a_unit_of_loki_may_have_no_address_yet():
    assert loki_url({}) == loki_url({"endpoint": ""}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[" * 100_000,
        "[" * 3000,
        "7",
        "null",
        "{}",
        '{"url": null}',
        '{"url": 7}',
        '{"url": ["http://x"]}',
        '{"url": ""}',
        json.dumps({"url": "http://x" + "/y" * 600}),
        " " * 5000,
    ],
    ids=lambda text: text[:20],
)
def test_an_endpoint_that_is_no_address_has_a_reason(text):
    with pytest.raises(ValueError, match=r"its (endpoint|url)"):
        loki_url({"endpoint": text})


@pytest.mark.parametrize(
    "url",
    [
        "http://user:the-password@loki:3100/push",
        "http://the-password@loki:3100/push",
        "http://@loki:3100",
        "http://loki:3100/push\nthe-password",
        "http://loki:3100/push\n",
        "\thttp://loki",
        "http://lo\rki",
        "http://loki:99999",
        "http://loki:port",
        "http://[::1",
        "http://",
        "http:///push",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://loki/push?token=the-password",
        "http://loki/push#the-password",
        "http://loki/$HOME",
        'http://loki/"quote',
        "http://lo ki/push",
        "http://loki/ä",
        "http://löki/push",
        "HTTP://loki",
    ],
)
def test_an_address_that_pebble_must_not_get_has_a_reason_without_it(url):
    with pytest.raises(ValueError, match="its url") as caught:
        loki_url({"endpoint": json.dumps({"url": url})})
    assert "the-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({}, []),
        ({"valid": True}, []),
        ({"valid": True, "errors": ""}, []),
        ({"valid": False}, [("rules or dashboards", "it gives no reason")]),
        ({"errors": "a\n b"}, [("rules or dashboards", "a b")]),
        ({"errors": [{"error": "x"}]}, [("rules or dashboards", '[{"error": "x"}]')]),
        ({"valid": False, "scrape_job_errors": "x"}, [("scrape jobs", "x")]),
    ],
)
def test_an_answer_names_what_is_refused_and_why(event, found):
    assert list(refusals({"event": json.dumps(event)})) == found


def test_an_answer_of_any_length_is_a_short_line():
    ((_, reason),) = refusals({"event": json.dumps({"errors": "word " * 100_000})})
    assert len(reason) < 400
    assert "\n" not in reason


@pytest.mark.parametrize("text", ["x", "[]", "7", "[" * 100_000, " " * 1_000_001])
def test_an_answer_that_is_no_object_has_a_reason(text):
    with pytest.raises(ValueError, match="its answer"):
        list(refusals({"event": text}))
