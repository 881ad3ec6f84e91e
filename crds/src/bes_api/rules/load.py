"""Rules about load figures."""
# ruff: noqa: D103 - what a check means stands once, as its rule's message

from collections.abc import Iterable
from datetime import timedelta

from bes_api.location import Location
from bes_api.rules.rule import Rule, broken, exactly_one
from bes_api.service import Load, PrometheusLoad

LONGEST_SCRAPE_INTERVAL = timedelta(minutes=2)
"""Prometheus looks back five minutes: beyond this, one scrape that fails leaves a gap."""


def load_union(load: Load) -> Iterable[Location]:
    return broken(not exactly_one(load.direct, load.prometheus))


def interval_zero(load: Load) -> Iterable[Location]:
    if load.direct is not None and load.direct.interval == timedelta():
        yield ("direct", "interval")
    if load.prometheus is not None and load.prometheus.scrape_interval == timedelta():
        yield ("prometheus", "scrapeInterval")


def scrapes_rare(prometheus: PrometheusLoad) -> Iterable[Location]:
    return broken(prometheus.scrape_interval > LONGEST_SCRAPE_INTERVAL, "scrapeInterval")


def stale_early(load: Load) -> Iterable[Location]:
    intervals = [load.direct.interval] if load.direct is not None else []
    intervals += [load.prometheus.scrape_interval] if load.prometheus is not None else []
    stale = load.stale_after
    return broken(stale is not None and any(stale < interval for interval in intervals), "staleAfter")


def ca_without_https(prometheus: PrometheusLoad) -> Iterable[Location]:
    return broken(
        prometheus.ca_config_map_ref is not None and not prometheus.url.startswith("https://"), "caConfigMapRef"
    )


def join_label_matched(prometheus: PrometheusLoad) -> Iterable[Location]:
    return broken(prometheus.join_label in prometheus.matchers, "matchers", prometheus.join_label)


RULES: tuple[Rule, ...] = (
    Rule(
        "load-union",
        ("spec.load",),
        "load figures have one source: set exactly one of direct and prometheus",
        load_union,
        "has(self.direct) != has(self.prometheus)",
    ),
    Rule(
        "load-interval-zero",
        ("spec.load",),
        'the interval must be above 0: set for example "1s"',
        interval_zero,
        "(!has(self.direct) || duration(self.direct.interval) > duration('0s')) && "
        "(!has(self.prometheus) || duration(self.prometheus.scrapeInterval) > duration('0s'))",
    ),
    Rule(
        "stale-early",
        ("spec.load",),
        "staleAfter is shorter than one interval, so figures would be unknown between scrapes: raise it to at least "
        "the interval (three of them is usual)",
        stale_early,
        "!has(self.staleAfter) || "
        "((!has(self.direct) || duration(self.staleAfter) >= duration(self.direct.interval)) && "
        "(!has(self.prometheus) || duration(self.staleAfter) >= duration(self.prometheus.scrapeInterval)))",
        "staleAfter",
    ),
    Rule(
        "load-scrapes-rare",
        ("spec.load.prometheus",),
        "Prometheus answers with nothing that is older than five minutes, and load is another by then: set a "
        "scrapeInterval of at most 2m, to which its scrape job is set too (1s to 15s is usual)",
        scrapes_rare,
        "duration(self.scrapeInterval) <= duration('2m')",
        "scrapeInterval",
    ),
    Rule(
        "ca-without-https",
        ("spec.load.prometheus",),
        "certificates say whom to trust over https, and this URL is http: write https in url or remove caConfigMapRef",
        ca_without_https,
        "!has(self.caConfigMapRef) || self.url.startsWith('https://')",
        "caConfigMapRef",
    ),
    Rule(
        "join-label-matched",
        ("spec.load.prometheus",),
        "the join label tells engines apart, so a matcher may not fix its value: remove the matcher or choose another "
        "joinLabel",
        join_label_matched,
        "!has(self.matchers) || !(self.joinLabel in self.matchers)",
        "matchers",
    ),
)
