from __future__ import annotations

import pytest

from scripts.bench_support.daemon_under_test import running_daemon
from scripts.bench_support.stream_times import StreamTimes, delivery_s, timed_stream


def test_the_first_delivery_only_starts_the_clock() -> None:
    times = StreamTimes(10.0, ((2, 11.0), (3, 11.5), (12, 13.0)))
    assert times.tokens_per_s == 5.0
    assert times.ttft_s == 1.0


def test_a_delivery_is_timed_from_its_own_production() -> None:
    streams = [
        StreamTimes(0.0, ((1, 1.1), (2, 2.1))),
        StreamTimes(3.0, ((2, 4.5),)),  # two productions in one message: the later one counts
    ]
    production = [(7, 1, 1.0), (7, 2, 2.0), (9, 1, 4.0), (9, 2, 4.25)]
    assert delivery_s(production, streams) == pytest.approx([0.1, 0.1, 0.25])


def test_a_stream_without_productions_is_told() -> None:
    with pytest.raises(ValueError, match="1 streams were read and 0 were made"):
        delivery_s([], [StreamTimes(0.0, ((1, 1.0),))])


def test_a_daemon_is_measured_and_leaves_nothing() -> None:
    settings = {"QWEND_ENGINE_BACKEND": "scripted"}
    with running_daemon(settings, tapped=True) as daemon:
        home = daemon.log.parent
        with daemon.client() as client:
            streams = [timed_stream(client, [1, 2, 3], 8) for _ in range(3)]
        daemon.stop()
        delivered = delivery_s(daemon.production_times(), streams)
    assert [stream.arrivals[-1][0] for stream in streams] == [8, 8, 8]
    assert all(0 < seconds < 5 for seconds in delivered)
    assert len(delivered) == sum(len(stream.arrivals) for stream in streams)
    assert daemon.process.poll() == 0
    assert not home.exists()
