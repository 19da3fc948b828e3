"""What `bench systemd` makes of what it measured."""

from __future__ import annotations

from scripts.bench_support.stream_times import StreamTimes
from scripts.bench_support.systemd import Turn, by_company


def stream(*arrivals: float) -> StreamTimes:
    return StreamTimes(0.0, tuple(enumerate(arrivals, 1)))


def test_the_ratio_is_of_the_two_streams_of_one_turn() -> None:
    turn = Turn(quiet=stream(1.0, 2.0, 3.0), beside=stream(1.0, 3.0, 5.0), company=0.0)
    assert turn.ratio == 0.5


def test_deliveries_belong_to_the_stream_they_are_of() -> None:
    streams = [stream(1.0, 2.0), stream(3.0), stream(4.0), stream(5.0, 6.0)]
    found = by_company(streams, [0.001, 0.002, 0.003, 0.004, 0.005, 0.006])
    assert found == {"quiet": [1.0, 2.0, 4.0], "beside": [3.0, 5.0, 6.0]}
