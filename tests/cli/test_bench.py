"""`qwenctl bench` against the scripted daemon, and its figures by themselves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest

from qwend.cli.bench.plan import (
    OPENING_TOKENS,
    PROMPT_TOKENS,
    READINGS,
    READINGS_S,
    STREAMS,
    Bench,
    answering,
    notes,
    prefill_tok_s,
    reading,
)
from qwend.cli.bench.results import Answering, Reading, Results, percentile
from qwend.cli.bench.trial import Timed
from qwend.cli.exits import Exit
from qwend.client import AsyncClient
from qwend.wire import Done, Timings, Usage
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.cli.terminal import terminal
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

CTRL_C = "\x03"
IDLE = {"requests": {"accepted": 7, "open": 0}, "degraded": []}
MEASURED = [
    ("cold", "ttft_s"),
    ("cached", "ttft_s"),
    *((each, key) for each in ("one", "together") for key in ("ttft_s", "decode_tok_s")),
]
RESULTS = Results(
    server="qwend 0.1.0",
    model="guide",
    prefill_tok_s=195.4,
    cold=Reading(256, 0, 1.3121),
    cached=Reading(256, 255, 0.0214),
    one=Answering(1, 64, 0.0951, 50.31, 0.0198, 0.0209, 0.0241),
    together=Answering(4, 64, 0.31, 112.9, 0.0429, 0.0451, 0.1602),
)


def timed(*arrivals_s: float, sent_s: float = 0.0, queued: bool = False) -> Timed:
    done = Done(1, "length", Usage(256, 6, len(arrivals_s)), Timings(prefill_s=0.5))
    return Timed(sent_s, arrivals_s, queued, done)


def requests(accepted: int, *, still_open: int = 0) -> dict[str, Any]:
    return {"requests": {"accepted": accepted, "open": still_open}, "degraded": []}


def test_the_table_is_plain_and_fits_a_terminal() -> None:
    assert RESULTS.table().splitlines() == [
        "                      first token   tokens/s   gap p50   gap p95   longest",
        "256 new tokens read      1,312 ms        195",
        "the same again            21.4 ms",
        "one answer                95.1 ms       50.3   19.8 ms   20.9 ms   24.1 ms",
        "4 answers together         310 ms        113   42.9 ms   45.1 ms    160 ms",
    ]


def test_a_script_gets_the_figures_in_full() -> None:
    got = json.loads(json.dumps(replace(RESULTS, notes=("one",)).to_map()))

    assert got["one"]["itl_p50_s"] == 0.0198
    assert got["cold"] == {"prompt_tokens": 256, "cached_tokens": 0, "ttft_s": 1.3121}
    assert got["notes"] == ["one"]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1.0), (0.5, 2.0), (0.51, 3.0), (0.95, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_no_gap_has_no_percentile() -> None:
    assert percentile([], 0.5) == 0.0


def test_an_answer_is_timed_from_its_sending_and_between_its_tokens() -> None:
    one = answering([timed(1.5, 2.0, 2.5, 4.5, sent_s=1.0)])

    assert (one.ttft_s, one.decode_tok_s) == (0.5, 1.0)
    assert (one.itl_p50_s, one.itl_p95_s, one.itl_max_s) == (0.5, 2.0, 2.0)


def test_answers_together_count_as_one_flow_of_tokens() -> None:
    both = answering([timed(1.0, 3.0), timed(2.0, 5.0)])

    assert (both.streams, both.tokens) == (2, 2)
    assert (both.ttft_s, both.decode_tok_s) == (2.0, 3 / 4.0)
    assert (both.itl_p50_s, both.itl_max_s) == (2.0, 3.0)


def test_a_prompt_is_read_as_fast_as_its_new_tokens() -> None:
    assert reading(timed(1.5)) == Reading(256, 6, 1.5)
    assert prefill_tok_s(timed(1.5)) == 500.0


def test_a_quiet_daemon_needs_no_note() -> None:
    assert notes(IDLE, requests(7 + 20), 20, [timed(1.0)] * 4) == []


def test_the_requests_of_others_are_told() -> None:
    assert notes(requests(7, still_open=2), requests(7 + 21), 20, []) == [
        "the daemon was busy: 2 requests of others ran or waited",
        "1 request of others came meanwhile",
    ]


def test_what_is_degraded_is_told() -> None:
    after = {**requests(27), "degraded": ["no warm copy: too little memory"]}

    assert notes(IDLE, after, 20, []) == ["degraded: no warm copy: too little memory"]


def test_answers_that_had_to_wait_are_told() -> None:
    (note,) = notes(IDLE, requests(27), 20, [timed(1.0), timed(1.0, queued=True)])

    assert note.startswith("the 2 answers did not all run side by side")


def test_a_daemon_without_these_keys_is_no_fault() -> None:
    assert notes({}, {}, 20, []) == []


def test_the_figures_come_from_the_daemon(daemon: RunningDaemon) -> None:
    done = qwenctl("bench", "--json", "--tokens", "5", socket=daemon.socket)

    assert (done.returncode, done.stderr) == (Exit.DONE, "")
    got = json.loads(done.stdout)
    assert (got["cold"]["prompt_tokens"], got["cold"]["cached_tokens"]) == (PROMPT_TOKENS, 0)
    assert got["cached"]["cached_tokens"] >= PROMPT_TOKENS - 1
    assert (got["one"]["streams"], got["one"]["tokens"]) == (1, 5)
    assert (got["together"]["streams"], got["together"]["tokens"]) == (STREAMS, 5)
    assert min(got[each][key] for each, key in MEASURED) > 0
    assert got["notes"] == []


@pytest.mark.parametrize(("second_s", "rounds"), [(0.001, READINGS), (READINGS_S, 1)])
def test_a_slow_machine_reads_one_prompt_only(
    daemon: RunningDaemon, second_s: float, rounds: int
) -> None:
    told: list[str] = []
    ticks = count(0, second_s)

    async def run() -> None:
        async with AsyncClient(daemon.socket) as client:
            await Bench(client, lambda: next(ticks), Random(1), told.append).run(2)

    asyncio.run(run())

    assert sum(each.startswith("reading") for each in told) == rounds


def test_a_person_gets_a_table(daemon: RunningDaemon) -> None:
    done = qwenctl("bench", "--tokens", "3", socket=daemon.socket)

    first, _, header, *rows = done.stdout.splitlines()
    assert first.endswith(", answers of 3 tokens")
    assert header.split() == ["first", "token", "tokens/s", "gap", "p50", "gap", "p95", "longest"]
    assert len(rows) == 4
    assert max(map(len, done.stdout.splitlines())) < 80


def test_a_daemon_that_runs_fewer_at_once_is_told_of() -> None:
    with running_daemon(script={"step_s": 0.001}, QWEND_LIMITS_RUNNING_PER_UID="2") as daemon:
        done = qwenctl("bench", "--tokens", "3", socket=daemon.socket)

    assert "Note: the 4 answers did not all run side by side: running_per_uid" in done.stdout


def test_longer_answers_than_the_context_are_a_usage_error() -> None:
    with running_daemon(QWEND_MODEL_CONTEXT="512") as daemon:
        done = qwenctl("bench", "--tokens", "500", socket=daemon.socket)

    assert done.returncode == Exit.USAGE
    assert f"leaves {512 - OPENING_TOKENS} for an answer" in done.stderr


@pytest.mark.parametrize("tokens", ["1", "0", "many"])
def test_an_answer_without_a_gap_is_a_usage_error(daemon: RunningDaemon, tokens: str) -> None:
    assert qwenctl("bench", "--tokens", tokens, socket=daemon.socket).returncode == Exit.USAGE


def test_a_refused_request_is_one_sentence() -> None:
    with running_daemon(
        QWEND_LIMITS_RUNNING_PER_UID="1", QWEND_LIMITS_QUEUED_PER_UID="0"
    ) as daemon:
        done = qwenctl("bench", "--tokens", "2", socket=daemon.socket)

    assert done.returncode == Exit.REQUEST_FAILED
    assert done.stderr.startswith("qwenctl: ")
    assert len(done.stderr.splitlines()) == 1


def test_progress_is_shown_and_ctrl_c_ends_the_requests_too(endless: RunningDaemon) -> None:
    command = [*QWENCTL, "--socket", str(endless.socket), "bench", "--tokens", "100000"]
    with terminal(command, endless.env) as bench:
        bench.wait_for("(one answer)")
        wait_until(lambda: endless.status()["requests"]["open"] == 1, "the answer has begun")
        bench.type(CTRL_C)

        assert bench.wait() == Exit.INTERRUPTED

    assert "Traceback" not in bench.shown
    assert bench.raw.rstrip().endswith(b"\x1b[K")
    wait_until(endless.is_idle, "nothing is left of it")


def test_it_imports_neither_the_engine_nor_numpy() -> None:
    script = "import sys, qwend.cli.bench.command; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert not {"llama_cpp", "numpy", "rich", "prompt_toolkit"} & set(loaded.stdout.split())
