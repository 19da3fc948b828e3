"""`bench systemd`: as a service beside busy ones, on a machine with a systemd of its own.

The units of this tree run under a real systemd (tests/systemd; as root). In turns, one stream, read
by a client in user.slice: alone, and with a process that never stops computing on every core, in a
slice of the usual weight. To be held: 0.9 of the quiet speed, and deliveries of at most 5 ms in 95
of 100.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bench_model import bench_model
from .daemon_under_test import DaemonFailed
from .interpreter import ROOT
from .machine import QUIET_SHARE, Company, this_machine
from .spread import Spread
from .stream_times import StreamTimes, delivery_s
from .tapped_daemon import PATH_VARIABLE

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

LEAST_RATIO, MOST_DELIVERY_MS = 0.9, 5.0
PERCENTILES = (50, 95, 99)
PROMPT_TOKENS = 16
PYTHON, SCRIPTS, MODEL = "/opt/qwend/bin/python3", "/opt/bench/scripts", "/opt/bench/model.gguf"
NOTES = "/var/lib/qwend/notes"
BUSY = "while True: pass"
# The whole service as shipped but for its program: qwend with a tap.
TAPPED = f"""[Service]
ExecStart=
ExecStart={PYTHON} -m bench_support.tapped_daemon serve
Environment=PYTHONPATH={SCRIPTS} {PATH_VARIABLE}={NOTES}
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """quiet, beside: the same stream without and with the busy processes.

    company: share of the CPUs that programs outside the machine used meanwhile.
    """

    quiet: StreamTimes
    beside: StreamTimes
    company: float

    @property
    def ratio(self) -> float:
        return self.beside.tokens_per_s / self.quiet.tokens_per_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="GGUF to measure with; default: bench model")
    parser.add_argument("--shape", default="0.5b", choices=["0.5b", "1.5b", "3b", "7b"])
    parser.add_argument("--quant", default="Q4_0", choices=["Q4_0", "Q4_K_M", "Q8_0"])
    parser.add_argument("--tokens", type=int, default=64, help="decoded in each stream")
    parser.add_argument("--client-slice", default="user.slice", help="where the client runs")
    parser.add_argument("--turns", type=int, default=5, help="turns that count")
    parser.add_argument("--attempts", type=int, default=15, help="turns at most, disturbed or not")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; returns what --json writes."""
    model = options.model or bench_model(options.shape, options.quant)
    turns: list[Turn] = []
    with _machine(model) as machine:
        machine.systemctl("start", "qwend")
        _stream(machine, options, seed=-1)  # pages in what a first run pages in
        for number in range(max(options.attempts, options.turns)):
            if sum(turn.company <= QUIET_SHARE for turn in turns) == options.turns:
                break
            turns.append(_turn(machine, options, number))
            _show(number, turns[-1])
        # One after the other, as `delivery_s` pairs them; the first was to warm up.
        streams = [stream for turn in turns for stream in (turn.quiet, turn.beside)]
        made = _production(machine)
    warm_up = made[0][0]
    late_s = delivery_s([note for note in made if note[0] != warm_up], streams)
    return _report(options, model, turns, by_company(streams, late_s))


@contextmanager
def _machine(model: Path) -> Iterator[Machine]:
    """Raises: DaemonFailed where none can be booted."""
    # Tests' own, and only this scenario needs it.
    from tests.systemd import installation, machine
    from tests.systemd.qwend_disk import qwend_disk

    if reason := machine.why_not() or installation.why_not():
        raise DaemonFailed(reason)
    with tempfile.TemporaryDirectory(prefix="qwend-bench-") as name:
        home = Path(name)
        disk = qwend_disk(
            installation.install(home / "opt"),
            home / "sys",
            config=f'[model]\nname = "{MODEL}"\n',
            service=TAPPED,
            binds=((ROOT / "scripts", Path(SCRIPTS)), (model.absolute(), Path(MODEL))),
        )
        (home / "state").mkdir()
        with machine.booted(home / "state", disk) as up:
            yield up


def _turn(machine: Machine, options: argparse.Namespace, number: int) -> Turn:
    company = Company(machine.groups.cpu_s)
    quiet = _stream(machine, options, seed=2 * number)
    with _busy(machine):
        beside = _stream(machine, options, seed=2 * number + 1)
    return Turn(quiet, beside, company.share())


def _stream(machine: Machine, options: argparse.Namespace, *, seed: int) -> StreamTimes:
    """One answer, read by somebody who may use the socket."""
    command = ["systemd-run", "--quiet", "--pipe", "--wait", f"--slice={options.client_slice}"]
    command += ["--property=User=member", f"--setenv=PYTHONPATH={SCRIPTS}"]
    arguments = (str(seed), str(PROMPT_TOKENS), str(options.tokens))
    done = machine.run(*command, PYTHON, "-m", "bench_support.one_stream", *arguments)
    sent_s, arrivals = json.loads(done.stdout)
    return StreamTimes(sent_s, tuple((count, at_s) for count, at_s in arrivals))


@contextmanager
def _busy(machine: Machine) -> Iterator[None]:
    """One for each core, each a service of its own in one slice."""
    names = [f"busy-{number}" for number in range(os.cpu_count() or 1)]
    for name in names:
        machine.run(
            *("systemd-run", "--quiet", f"--unit={name}", "--slice=busy.slice"),
            *("/usr/bin/python3", "-c", BUSY),
        )
    try:
        yield
    finally:
        machine.systemctl("stop", *names)


def _production(machine: Machine) -> list[tuple[int, int, float]]:
    machine.systemctl("stop", "qwend")
    notes = json.loads(machine.path(NOTES).read_text())
    return [(request, count, at_s) for request, count, at_s in notes]


def by_company(streams: Sequence[StreamTimes], late_s: Iterable[float]) -> dict[str, list[float]]:
    """Milliseconds of each delivery, by what ran beside: "quiet" and "beside" take turns.

    late_s: of all deliveries of all streams, one stream after the other.
    """
    found: dict[str, list[float]] = {"quiet": [], "beside": []}
    left = iter(late_s)
    for number, stream in enumerate(streams):
        into = found["beside" if number % 2 else "quiet"]
        into.extend(next(left) * 1e3 for _ in stream.arrivals)
    return found


def _show(number: int, turn: Turn) -> None:
    print(
        f"  turn {number + 1}: quiet {turn.quiet.tokens_per_s:.1f}, beside "
        f"{turn.beside.tokens_per_s:.1f} tokens/s, others {turn.company:.0%} of CPU",
        file=sys.stderr,
        flush=True,
    )


def _report(
    options: argparse.Namespace, model: Path, turns: list[Turn], delivery: dict[str, list[float]]
) -> dict[str, Any]:
    counted = sorted(turns, key=lambda turn: turn.company)[: options.turns]
    disturbed = sum(turn.company > QUIET_SHARE for turn in counted)
    if disturbed:
        print(f"beware: other programs ran in {disturbed} of {len(counted)} turns", file=sys.stderr)
    quiet = Spread.of([turn.quiet.tokens_per_s for turn in counted])
    beside = Spread.of([turn.beside.tokens_per_s for turn in counted])
    ratio = Spread.of([turn.ratio for turn in counted])
    late = {name: Spread.of(times) for name, times in delivery.items()}
    held = ratio.median >= LEAST_RATIO, late["beside"].percentile(95) <= MOST_DELIVERY_MS
    print(
        f"as a service, one stream, a busy process on each of {os.cpu_count()} cores, {model.name}:"
    )
    print("  median (lowest-highest)")
    print(f"  quiet              {quiet:.1f} tokens/s")
    print(f"  beside             {beside:.1f} tokens/s")
    print(f"  ratio of the two   {ratio:.3f}; at least {LEAST_RATIO}: {_word(held[0])}")
    for name, spread in late.items():
        shown = ", ".join(f"p{p} {spread.percentile(p):.2f}" for p in PERCENTILES)
        print(f"  delivery, {name:<8} {shown}, longest {spread.values[-1]:.2f} ms")
    print(f"  p95 beside at most {MOST_DELIVERY_MS:g} ms: {_word(held[1])}")
    return {
        "scenario": "systemd",
        "machine": this_machine().as_map(),
        "settings": {
            "model": model.name,
            "tokens": options.tokens,
            "turns": len(counted),
            "client_slice": options.client_slice,
        },
        "company_share": Spread.of([turn.company for turn in counted]).as_map(),
        "quiet_tokens_per_s": quiet.as_map(),
        "beside_tokens_per_s": beside.as_map(),
        "ratio": ratio.as_map(),
        "delivery_ms": {name: spread.as_map(*PERCENTILES) for name, spread in late.items()},
        "held": {"ratio": held[0], "delivery": held[1]},
    }


def _word(held: bool) -> str:
    return "held" if held else "not held"
