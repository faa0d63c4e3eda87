"""The annotations of the option, and the kinds of a Service."""

import json
import re

import pytest

from domain.service import Service, annotations_in, at_least
from domain.settings import settings_from

OPTION = "loadbalancer-extra-annotations"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  \n", ()),
        ("{}", ()),
        ('{"b": "2", "a": ""}', (("a", ""), ("b", "2"))),
        ('{"service.beta.kubernetes.io/x_1.y-Z": "é"}', (("service.beta.kubernetes.io/x_1.y-Z", "é"),)),
        ('{"Cloud.Example/a": "1"}', (("Cloud.Example/a", "1"),)),
        (json.dumps({"a" * 63: "x"}), (("a" * 63, "x"),)),
        (json.dumps({"a.dev/" + "b" * 63: "x"}), (("a.dev/" + "b" * 63, "x"),)),
    ],
)  # fmt: skip
def test_annotations_are_read_sorted_by_name(text, expected):
    assert annotations_in(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "the text is not JSON"),
        ("[" * 20_000, "the text is not JSON"),
        ("1" * 5_000, "the text is not JSON"),
        ("[]", 'the text is not a JSON object such as {"name": "text"}'),
        ("null", 'the text is not a JSON object such as {"name": "text"}'),
        ('{"a": 1}', "the value of a is not a text"),
        ('{"a": null}', "the value of a is not a text"),
        ('{"a": {"b": "c"}}', "the value of a is not a text"),
        ('{"": "x"}', "Kubernetes accepts no annotation with the name ''"),
        ('{"a/b/c": "x"}', "Kubernetes accepts no annotation with the name 'a/b/c'"),
        ('{"a.dev/-b": "x"}', "Kubernetes accepts no annotation with the name 'a.dev/-b'"),
        ('{"a.dev/": "x"}', "Kubernetes accepts no annotation with the name 'a.dev/'"),
        ('{"-a": "x"}', "Kubernetes accepts no annotation with the name '-a'"),
        ('{"a b": "x"}', "Kubernetes accepts no annotation with the name 'a b'"),
        ('{"/a": "x"}', "Kubernetes accepts no annotation with the name '/a'"),
        ('{"a_b/c": "x"}', "Kubernetes accepts no annotation with the name 'a_b/c'"),
        ('{"\\u00e9": "x"}', "Kubernetes accepts no annotation with the name '\\xe9'"),
        (json.dumps({"a" * 64: "x"}), f"Kubernetes accepts no annotation with the name {'a' * 63!r}"),
        (json.dumps({"a" * 254 + "/x": "x"}), f"Kubernetes accepts no annotation with the name {'a' * 63!r}"),
        ('{"a": "\\ud800"}', "the value of a has a letter that is not valid"),
        (json.dumps({"a": "x" * 100_000}), "the text is longer than 65536 bytes"),
        ("\ud800" * 30_000, "the text is longer than 65536 bytes"),
    ],
)  # fmt: skip
def test_annotations_that_kubernetes_refuses_are_named(text, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        annotations_in(text)
    settings, sentences = settings_from({OPTION: text})
    assert settings is None
    assert sentences == (f"option {OPTION}: {reason}",)


@pytest.mark.parametrize("value", [1, True, 1.5, None, [], {}])
def test_annotations_that_are_no_text_are_one_sentence(value):
    settings, (sentence,) = settings_from({OPTION: value})
    assert settings is None
    assert sentence.startswith(f"option {OPTION} must be a JSON object of texts, or nothing")


@pytest.mark.parametrize("value", ["yes", "NodePort", "", True, 1])
def test_an_unknown_kind_is_one_sentence(value):
    settings, (sentence,) = settings_from({"expose-external": value})
    assert settings is None
    assert sentence.startswith("option expose-external must be false, nodeport or loadbalancer")


def test_a_later_kind_has_what_the_kinds_before_it_have():
    assert at_least("loadbalancer", "nodeport")
    assert at_least("nodeport", "nodeport")
    assert not at_least("false", "nodeport")


def test_a_service_can_leave_the_ports_of_nodes_to_kubernetes():
    service = Service(kind="nodeport", ports=(6432,), node_ports=((6432, 30001),))
    assert service.without_node_ports() == Service(kind="nodeport", ports=(6432,))
