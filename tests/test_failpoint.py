"""Failpoints: the grammar of QWEND_FAIL, what a term does and how often, and where they are."""

from __future__ import annotations

import ast
import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwend
from qwend.errors import ConfigError
from qwend.failpoint import POINTS, Panic, in_force, reach, set_points

ROOT = Path(qwend.__file__).parent
POINT = "snapshot.write"


@pytest.fixture(autouse=True)
def none_set() -> Iterator[None]:
    yield
    set_points({})


def outcomes(expression: str, count: int, point: str = POINT) -> list[int | str]:
    """Reach the point so often: 0 or the errno of each time, or how else it ended."""
    set_points({"QWEND_FAIL": expression})
    found: list[int | str] = []
    for _ in range(count):
        try:
            reach(point)
            found.append(0)
        except OSError as error:
            found.append(error.errno or "none")
        except Panic as error:
            found.append(str(error))
    return found


def test_three_times_off_and_then_one_error() -> None:
    found = outcomes("snapshot.write:3*off->1*error(ENOSPC)", 6)
    assert found == [0, 0, 0, errno.ENOSPC, 0, 0]


def test_the_error_is_of_the_class_that_the_system_call_would_raise() -> None:
    set_points({"QWEND_FAIL": "snapshot.write:error(ECONNRESET)"})
    with pytest.raises(ConnectionResetError, match=r"Connection reset .*failpoint snapshot\.write"):
        reach(POINT)


def test_a_text_is_an_error_of_input_and_output() -> None:
    set_points({"QWEND_FAIL": "snapshot.write:error(the card; is out)"})
    with pytest.raises(OSError, match=r"the card; is out") as caught:
        reach(POINT)
    assert caught.value.errno == errno.EIO


def test_what_has_no_count_is_done_for_ever() -> None:
    assert outcomes("snapshot.write:error", 4) == [errno.EIO] * 4
    assert outcomes("snapshot.write:1*off->error(EDQUOT)", 3) == [0, errno.EDQUOT, errno.EDQUOT]


def test_other_points_and_those_that_are_not_set_do_nothing() -> None:
    assert outcomes("snapshot.write:error;engine.load:1*error(ENOMEM)", 2, "engine.load") == [
        errno.ENOMEM,
        0,
    ]
    reach("snapshot.fsync")
    set_points({"QWEND_FAIL": ""})
    reach(POINT)


def test_spaces_and_a_last_semicolon_are_allowed() -> None:
    assert outcomes(" snapshot.write : 1*off -> 1*error(ENOSPC) ; ", 3) == [0, errno.ENOSPC, 0]


def test_a_chance_that_fails_leaves_it_to_the_next_term() -> None:
    dice = iter((0.05, 0.15, 0.999, 0.0))
    set_points({"QWEND_FAIL": "snapshot.write:10%error(ENOSPC)->panic(else)"}, lambda: next(dice))
    for raised in (OSError, Panic):
        with pytest.raises(raised):
            reach(POINT)


def test_a_count_is_used_up_only_by_what_is_done() -> None:
    dice = iter((0.9, 0.9, 0.1, 0.1))
    set_points({"QWEND_FAIL": "snapshot.write:50%1*error"}, lambda: next(dice))
    reach(POINT)
    reach(POINT)
    with pytest.raises(OSError, match="failpoint"):
        reach(POINT)
    reach(POINT)


def test_panic_is_no_error_that_anybody_handles() -> None:
    assert outcomes("snapshot.write:panic", 1) == ["failpoint snapshot.write"]
    assert outcomes("snapshot.write:raise(why)", 1) == ["why"]
    assert not issubclass(Panic, OSError | qwend.errors.QwendError)


def test_print_says_so_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcomes("snapshot.write:1*print(here)", 2) == [0, 0]
    assert capsys.readouterr().err == "failpoint snapshot.write was reached: here\n"


def test_delay_waits_so_many_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert outcomes("snapshot.write:delay(250)", 1) == [0]
    assert slept == [0.25]


@pytest.mark.parametrize(
    ("action", "status"),
    [("exit(7)", 7), ("exit", 1), ("kill(SIGTERM)", -15), ("kill(TERM)", -15), ("kill", -9)],
)
def test_exit_and_kill_end_the_process(action: str, status: int) -> None:
    script = (
        "import os; from qwend.failpoint import reach, set_points; set_points(os.environ); "
        "reach('engine.load')"
    )
    environ = {"QWEND_FAIL": f"engine.load:{action}"}
    ended = subprocess.run([sys.executable, "-c", script], env=environ, cwd=ROOT.parent, timeout=60)
    assert ended.returncode == status


@pytest.mark.parametrize(
    ("expression", "character", "said"),
    [
        ("snapshot.wrte:off", 1, "did you mean 'snapshot.write'"),
        ("snapshot.write", 1, "expected POINT:TERM"),
        ("snapshot.write:", 16, "expected one of off, error"),
        ("snapshot.write:3*errr", 18, "did you mean 'error'"),
        ("snapshot.write:error(ENOSPCC)", 16, "ENOSPCC is no name"),
        ("snapshot.write:error(ENOSPC", 21, "expected -> or ;"),
        ("snapshot.write:kill(SIGNONE)", 16, "SIGNONE is no signal"),
        ("snapshot.write:delay", 16, "milliseconds"),
        ("snapshot.write:delay(-1)", 16, "milliseconds"),
        ("snapshot.write:off(1)", 16, "off takes no argument"),
        ("snapshot.write:off->error", 21, "never comes here"),
        ("snapshot.write:1*off error", 22, "expected -> or ;"),
        ("engine.load:off;engine.load:off", 16, "twice"),
        ("snapshot.write:2off", 16, "expected one of"),
        ("Snapshot.write:off", 1, "expected POINT:TERM"),
    ],
)
def test_a_wrong_expression_is_refused_at_its_place(
    expression: str, character: int, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        set_points({"QWEND_FAIL": expression})
    assert f"QWEND_FAIL, character {character} (" in str(caught.value)
    assert said in str(caught.value)
    assert in_force() == ()


def test_who_fails_on_purpose_says_so() -> None:
    (told,) = set_points({"QWEND_FAIL": "engine.load:off;engine.start:off"})
    assert (told,) == in_force()
    assert "QWEND_FAIL" in told
    assert "engine.load, engine.start" in told
    assert set_points({}) == ()


def _reached() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef | None, str]]:
    """Each call of failpoint.reach in the package: file, function around it, point."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint.reach":
                around = [f for f in functions if node in ast.walk(f)]
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), path
                yield path, around[-1] if around else None, str(argument.value)


def test_every_point_is_in_the_table_and_every_row_of_it_is_a_point() -> None:
    assert {point for _, _, point in _reached()} == set(POINTS)


def test_no_point_lies_within_a_step() -> None:
    # What a step runs: the scheduler, the backend, the sampler, and all they are made of. The disk
    # is the writer's thread, the hop is before and after a step.
    allowed = {"snapshot_files.py", "calibration_cache.py", "hop_socket.py", "worker.py"}
    engine = {path.name for path, _, _ in _reached() if path.is_relative_to(ROOT / "engine")}
    assert engine <= allowed


def test_a_point_that_is_not_set_calls_nothing() -> None:
    called: list[str] = []
    sys.setprofile(lambda frame, event, argument: called.append(event))
    try:
        reach(POINT)
    finally:
        sys.setprofile(None)
    # Its own call and return, and the call that ends the profile: no lock, no dice, no parsing.
    assert called == ["call", "return", "c_call"]
