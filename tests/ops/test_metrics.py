"""What happened moves the series that are promised."""

import pytest
from prometheus_client import generate_latest

from dsqlproxy.errors import (
    DsqlProxyError,
    TokenError,
    TooManyConnections,
    UpstreamRejected,
    UpstreamUnavailable,
)
from dsqlproxy.ops.metrics import (
    CancelOutcome,
    ConnectOutcome,
    Metrics,
    RecoveryOutcome,
    SwapOutcome,
    TokenOutcome,
    connect_outcome,
)


def page(metrics: Metrics) -> dict[str, float]:
    """Give the page as series and value, in the words that Prometheus reads."""
    metrics.refresh()
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def new(**more: object) -> Metrics:
    return Metrics(
        listeners=["main"],
        version="1.2.3",
        close_reasons=["client_terminated"],
        pin_reasons=["listen"],
        **more,  # type: ignore[arg-type]
    )


def test_known_series_exist_at_zero_from_the_start() -> None:
    found = page(new())
    for series in (
        'dsqlproxy_sessions_open{listener="main"}',
        'dsqlproxy_sessions_total{listener="main",reason="client_terminated"}',
        *(
            f'dsqlproxy_upstream_connects_total{{listener="main",outcome="{outcome}"}}'
            for outcome in ConnectOutcome
        ),
        'dsqlproxy_upstream_connect_seconds_count{listener="main"}',
        'dsqlproxy_client_ready_seconds_count{listener="main",warm="false"}',
        *(f'dsqlproxy_tokens_signed_total{{outcome="{o}"}}' for o in TokenOutcome),
        *(f'dsqlproxy_cancels_total{{outcome="{o}"}}' for o in CancelOutcome),
        *(
            f'dsqlproxy_swaps_total{{listener="main",outcome="{outcome}"}}'
            for outcome in SwapOutcome
        ),
        "dsqlproxy_swap_pause_seconds_count",
        'dsqlproxy_sessions_pinned{reason="listen"}',
        *(f'dsqlproxy_recoveries_total{{outcome="{o}"}}' for o in RecoveryOutcome),
        'dsqlproxy_connect_queue{listener="main"}',
        'dsqlproxy_bytes_total{direction="in",listener="main"}',
        'dsqlproxy_bytes_total{direction="out",listener="main"}',
    ):
        assert found[series] == 0, series


def test_the_running_version_is_told() -> None:
    assert page(new())['dsqlproxy_build_info{version="1.2.3"}'] == 1


def test_the_process_is_measured_and_creation_times_are_left_out() -> None:
    found = page(new())
    assert found["process_resident_memory_bytes"] > 0
    assert not [series for series in found if "_created" in series]


def test_two_proxies_in_one_process_do_not_share_numbers() -> None:
    one, other = new(), new()
    one.session_opened("main")
    assert page(other)['dsqlproxy_sessions_open{listener="main"}'] == 0


def test_a_session_is_open_and_then_counted_by_its_reason() -> None:
    metrics = new()
    metrics.session_opened("main")
    assert page(metrics)['dsqlproxy_sessions_open{listener="main"}'] == 1
    metrics.session_closed("main", reason="upstream_lost", bytes_in=3, bytes_out=5)
    found = page(metrics)
    assert found['dsqlproxy_sessions_open{listener="main"}'] == 0
    ended = 'dsqlproxy_sessions_total{listener="main",reason="upstream_lost"}'
    assert found[ended] == 1
    assert found['dsqlproxy_bytes_total{direction="in",listener="main"}'] == 3
    assert found['dsqlproxy_bytes_total{direction="out",listener="main"}'] == 5


def test_bytes_of_living_sessions_are_counted_once() -> None:
    living = [("main", 10, 100), ("main", 1, 2)]
    metrics = new(open_traffic=lambda: living)
    sent = 'dsqlproxy_bytes_total{direction="in",listener="main"}'
    received = 'dsqlproxy_bytes_total{direction="out",listener="main"}'
    assert (page(metrics)[sent], page(metrics)[received]) == (11, 102)
    listener, bytes_in, bytes_out = living.pop()
    metrics.session_closed(listener, reason="x", bytes_in=bytes_in, bytes_out=bytes_out)
    assert (page(metrics)[sent], page(metrics)[received]) == (11, 102)


def test_a_look_without_refresh_shows_the_last_one() -> None:
    living = [("main", 10, 100)]
    metrics = new(open_traffic=lambda: living)
    page(metrics)
    living[0] = ("main", 20, 200)
    text = generate_latest(metrics.registry).decode()
    assert 'dsqlproxy_bytes_total{direction="in",listener="main"} 10.0' in text


def test_connects_are_counted_and_timed() -> None:
    metrics = new()
    metrics.upstream_connected("main", 0.03)
    metrics.upstream_failed("main", ConnectOutcome.REJECTED)
    found = page(metrics)
    total = 'dsqlproxy_upstream_connects_total{listener="main",outcome="%s"}'
    assert found[total % "connected"] == 1
    assert found[total % "rejected"] == 1
    bucket = 'dsqlproxy_upstream_connect_seconds_bucket{le="%s",listener="main"}'
    assert (found[bucket % "0.025"], found[bucket % "0.05"]) == (0, 1)


def test_waits_of_clients_are_timed_warm_and_cold() -> None:
    metrics = new()
    metrics.client_ready("main", 0.2)
    metrics.client_ready("main", 0.002, warm=True)
    found = page(metrics)
    total = 'dsqlproxy_client_ready_seconds_sum{listener="main",warm="%s"}'
    assert (found[total % "false"], found[total % "true"]) == (0.2, 0.002)


def test_tokens_and_cancels_are_counted() -> None:
    metrics = new()
    metrics.token_signed()
    metrics.token_signed(TokenOutcome.FAILED)
    metrics.cancel(CancelOutcome.UNKNOWN_KEY)
    found = page(metrics)
    assert found['dsqlproxy_tokens_signed_total{outcome="signed"}'] == 1
    assert found['dsqlproxy_tokens_signed_total{outcome="failed"}'] == 1
    assert found['dsqlproxy_cancels_total{outcome="unknown_key"}'] == 1


def test_swaps_are_counted_and_their_pauses_timed() -> None:
    metrics = new()
    metrics.swap("main", SwapOutcome.DEFERRED)
    metrics.swap("main", SwapOutcome.COMPLETED)
    metrics.swap("main", SwapOutcome.COMPLETED)
    metrics.swap_pause(0.002)
    found = page(metrics)
    total = 'dsqlproxy_swaps_total{listener="main",outcome="%s"}'
    outcomes = [found[total % outcome] for outcome in ("completed", "deferred")]
    assert outcomes == [2, 1]
    assert found[total % "failed"] == 0
    bucket = 'dsqlproxy_swap_pause_seconds_bucket{le="%s"}'
    assert [found[bucket % each] for each in ("0.001", "0.0025", "10.0")] == [0, 1, 1]


def test_pinned_sessions_come_and_go() -> None:
    metrics = new()
    metrics.pinned("listen", 1)
    metrics.pinned("listen", 1)
    metrics.pinned("load", 1)
    metrics.pinned("listen", -1)
    found = page(metrics)
    assert found['dsqlproxy_sessions_pinned{reason="listen"}'] == 1
    assert found['dsqlproxy_sessions_pinned{reason="load"}'] == 1


def test_recoveries_are_counted() -> None:
    metrics = new()
    metrics.recovery(RecoveryOutcome.RECOVERED)
    metrics.recovery(RecoveryOutcome.FAILED)
    metrics.recovery(RecoveryOutcome.RECOVERED)
    found = page(metrics)
    assert found['dsqlproxy_recoveries_total{outcome="recovered"}'] == 2
    assert found['dsqlproxy_recoveries_total{outcome="failed"}'] == 1


def test_the_queue_of_logins_is_asked_for_at_each_look() -> None:
    waiting = {"main": 3}
    metrics = new(connect_queues=waiting.items)
    assert page(metrics)['dsqlproxy_connect_queue{listener="main"}'] == 3
    waiting["main"] = 0
    assert page(metrics)['dsqlproxy_connect_queue{listener="main"}'] == 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UpstreamUnavailable("x"), ConnectOutcome.UNAVAILABLE),
        (UpstreamRejected("x", fields=()), ConnectOutcome.REJECTED),
        (TokenError("x"), ConnectOutcome.NO_TOKEN),
        (TooManyConnections("x"), ConnectOutcome.LIMITED),
        (DsqlProxyError("x"), ConnectOutcome.FAILED),
        (OSError("x"), ConnectOutcome.FAILED),
    ],
)
def test_every_failure_to_connect_has_an_outcome(
    error: Exception, outcome: ConnectOutcome
) -> None:
    assert connect_outcome(error) is outcome
