"""The dashboard and the alerts query metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from bearerguard import DecisionRecord, FetchRecord
from bearerguard.prometheus import PrometheusObserver, PrometheusServerObserver
from bearerguard.server import RequestRecord
from tests.docs.pages import ROOT

DASHBOARD = ROOT / "docs" / "_static" / "grafana-dashboard.json"
PAGE = ROOT / "docs" / "observability.md"
# A scrape adds these to each metric.
_OF_SCRAPES = {"job", "instance"}
_METRIC = re.compile(r"(bearerguard_\w+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|ignoring) ?\(([^)]*)\)")


class _Health:
    def health(self) -> dict[str, Any]:
        of_all = {"ready": True, "fresh": True, "last_success": 1.0, "failures": 0, "keys": 1}
        return {
            "ready": True,
            "fresh": True,
            "cached_tokens": 1,
            "issuers": {
                "a": {**of_all, "tenant_of": None},
                "b": {**of_all, "tenant_of": "{tenant}"},
            },
            "introspection": {"a": {**of_all, "status": "ok"}},
            "revocations": {**of_all, "entries": 1},
        }


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """The labels of each metric that a scrape shows."""
    registry = CollectorRegistry()
    observer, guard = PrometheusObserver(registry), _Health()
    observer.attached(guard.health)
    for kind in ("request", "route"):
        observer.decided(DecisionRecord(kind, "deny", "revoked", "a", 401, True, True, 0.1))
    observer.fetched(FetchRecord("jwks", "ok", None, "a", "GET", "u", 200, 1, 0.1))
    of_server = PrometheusServerObserver(registry)
    issued = RequestRecord("token", "POST", None, 200, None, 0.1, ("access_token",))
    of_server.responded(issued)
    found = {
        sample.name: set(sample.labels)
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert len(found) > 20
    return found


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def expressions() -> Iterator[str]:
    for panel in board()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for query in re.findall(r"^ +expr: ([^|\n].*)$", PAGE.read_text(), re.MULTILINE):
        yield query.partition(" #")[0]
    for block in re.findall(r"^( +)expr: \|\n((?:\1 +.*\n)+)", PAGE.read_text(), re.MULTILINE):
        yield " ".join(block[1].split())


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_names_metrics_and_labels_that_exist(
    expression: str, labels: dict[str, set[str]]
) -> None:
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    metrics = _METRIC.findall(expression)
    assert metrics
    known: set[str] = set(_OF_SCRAPES)
    for name, selectors in metrics:
        assert name in labels, name
        assert not name.endswith("_total") or f"rate({name}" in expression
        known |= labels[name]
        for selector in filter(None, re.split(r",(?=\w+[=!])", selectors)):
            label = re.match(r'(\w+)(?:=~|!~|!=|=)"[^"]*"$', selector)
            assert label, selector
            assert label[1] in labels[name] | _OF_SCRAPES, (name, label[1])
    for group in _GROUPING.findall(expression):
        for label_name in re.split(r",\s*", group):
            assert label_name in known, label_name


def test_the_queries_are_those_of_all_panels_and_alerts() -> None:
    assert len(EXPRESSIONS) > 25
    assert len([each for each in EXPRESSIONS if "$job" not in each]) == 9


def test_a_panel_exists_for_each_metric(labels: dict[str, set[str]]) -> None:
    shown = " ".join(target["expr"] for panel in board()["panels"] for target in panel["targets"])
    families = {re.sub(r"_(bucket|count|sum)$", "", each) for each in labels}
    left_out = {"bearerguard_keys", "bearerguard_tenants", "bearerguard_revocations_ready"}
    left_out |= {"bearerguard_keys_failed_fetches"}
    for family in families - left_out:
        assert family in shown, family


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    found = board()
    assert found["title"]
    assert found["uid"]
    assert found["schemaVersion"] >= 36
    variables = {each["name"]: each for each in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in _OF_SCRAPES or re.search(rf"\b{label}\b", target["expr"])
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
