"""Every code that llama_decode can return is told to the requests it concerns, and to no others.

llama.h: 1 no slot for the batch, 2 aborted, -1 invalid batch, below that a fatal error. After 1 and
-1 the cells are as before; after the others what was computed of the batch stays in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from qwend.engine.engine import Engine
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.request import EngineRequest, SamplingParams
from tests.support.engine import answer, ask, by_request, engine_over, run
from tests.support.tiny_model import filled

pytestmark = [pytest.mark.llama, pytest.mark.row("F9")]
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
UNCHANGED, COMPUTED = (1, -1), (2, -2, -3)


@contextmanager
def failing_once(monkeypatch: pytest.MonkeyPatch, code: int, at: int) -> Iterator[list[int]]:
    """The call number `at` from now on returns the code. Yields the codes of all calls."""
    real: Callable[..., int] = llama_cpp.llama_decode
    codes: list[int] = []

    def decode(context: Any, batch: Any) -> int:
        if len(codes) + 1 == at:
            if code in COMPUTED:
                assert real(context, batch) == 0
            codes.append(code)
        else:
            codes.append(real(context, batch))
        return codes[-1]

    with monkeypatch.context() as patched:
        patched.setattr(llama_cpp, "llama_decode", decode)
        yield codes


def three() -> list[EngineRequest]:
    texts = ("the first text", "another text", "and a third one")
    return [ask(text, uid=uid, max_tokens=12, sampling=GREEDY) for uid, text in enumerate(texts)]


def check_filled(engine: Engine, backend: LlamaBackend) -> None:
    engine.check_integrity()
    believed = {one.seq_id: one.computed for one in engine.scheduler.running}
    for seq_id in range(backend.facts.sequences):
        assert filled(backend, seq_id) == believed.get(seq_id, 0)


@pytest.mark.parametrize("at", [1, 4], ids=["prefill", "decode"])
@pytest.mark.parametrize("code", [*UNCHANGED, *COMPUTED])
def test_a_failed_decode_ends_those_it_concerns_and_the_engine_goes_on(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch, code: int, at: int
) -> None:
    requests = three()
    alone = [answer(engine_over(backend, prefix_bytes=0), one).text for one in requests]
    engine = engine_over(backend, prefix_bytes=0, open_drafter=None)
    with failing_once(monkeypatch, code, at) as codes:
        ends = by_request(run(engine, *requests))
    assert codes.count(code) == 1
    failed = [one for one in requests if not hasattr(ends[one.id].end, "finish_reason")]
    assert failed, "a failure that nobody is told of"
    for one in failed:
        assert ends[one.id].failed.code == "model_error"
        expected = "no free cells" if code == 1 else f"returned {code}"
        assert expected in ends[one.id].failed.message
    if code == 1:
        assert failed == [one for one in requests if one in failed][-1:], "one at most"
    for one, text in zip(requests, alone, strict=True):
        if one not in failed:
            assert ends[one.id].text == text
    check_filled(engine, backend)
    again = by_request(run(engine, *three()))
    assert sorted(one.text for one in again.values()) == sorted(alone)


@pytest.mark.parametrize("code", [*UNCHANGED, *COMPUTED])
def test_who_is_not_in_the_batch_loses_nothing(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """One waits for credit; another's decode fails."""
    paused, unlucky, _ = three()
    alone = answer(engine_over(backend, prefix_bytes=0), paused).text
    engine = engine_over(backend, prefix_bytes=0, open_drafter=None)
    engine.submit(ask("the first text", id=paused.id, max_tokens=12, sampling=GREEDY, credit=3))
    events = []
    while not engine.idle:
        events += engine.step()
    with failing_once(monkeypatch, code, 3):
        events += run(engine, unlucky)
    check_filled(engine, backend)
    engine.grant(paused.id, 100)
    events += run(engine)
    ends = by_request(events)
    assert ends[unlucky.id].failed.code == "model_error"
    assert ends[paused.id].text == alone
