"""The screen of `qwenctl status`, from the map that a daemon sends."""

from __future__ import annotations

from typing import Any

from qwend.cli.status import lines

ENGINE = {
    "backend": "llama",
    "pid": 7,
    "threads": 2,
    "running": 1,
    "prefix_bytes": 74 << 10,
    "disk_bytes": 3 << 20,
}
ALONE = {"threads_now": 2, "threads_alone": 2, "threads_since_s": 900.0, "company": False}
IN_COMPANY = {"threads_now": 1, "threads_alone": 2, "threads_since_s": 12.3, "company": True}


def shown(**engine: Any) -> list[str]:
    return [text for _, text in lines({"engine": {**ENGINE, **engine}}, coloured=False)]


def test_it_says_how_many_threads_compute() -> None:
    assert any(", 2 threads," in text for text in shown())
    assert any(", 2 threads," in text for text in shown(**ALONE))
    # Fewer than there could be, because the machine is quicker so: that is no company.
    quicker = {**ALONE, "threads": 4, "threads_now": 1, "threads_alone": 1}
    assert any(", 1 thread," in text for text in shown(**quicker))


def test_company_is_one_plain_sentence() -> None:
    assert "1 of 2 threads: another program uses the CPU (since 12 s)" in shown(**IN_COMPANY)
    assert not any("another program" in text for text in shown(**ALONE))
    assert not any("another program" in text for text in shown())


def test_of_company_an_idle_engine_knows_only_what_was() -> None:
    idle = shown(**IN_COMPANY, running=0)
    assert "1 of 2 threads: another program used the CPU when it last answered" in idle


def test_both_tiers_of_the_prefix_cache_have_a_size() -> None:
    text = dict(lines({"engine": ENGINE}, coloured=False))["prefixes"]
    assert text == "74 KiB in memory, 3 MiB on disk"
    of_an_older_daemon = dict(lines({"engine": {"prefix_bytes": 1024}}, coloured=False))
    assert of_an_older_daemon["prefixes"] == "1 KiB in memory, 0 KiB on disk"


def test_a_calibration_says_whether_it_was_measured_now() -> None:
    assert "calibrated in 2.4 s" in shown(calibration={"took_s": 2.41, "kept": False, "tile": 4})
    kept = shown(calibration={"took_s": 0.2, "kept": True})
    assert "calibration of an earlier start confirmed in 0.2 s" in kept
    assert not any("calibrat" in text for text in shown())
    assert not any("calibrat" in text for text in shown(calibration="of a newer daemon"))


def test_it_names_what_the_model_goes_without() -> None:
    without = shown(without=["speculation", "sharing a part of a prefix"])
    assert "this model goes without speculation, sharing a part of a prefix" in without
    assert not any("without" in text for text in shown())


def test_it_says_how_the_weights_are_kept_and_why() -> None:
    plan = {"policy": "drop", "reason": "no room for the copy"}
    texts = [text for _, text in lines({"model": {"memory": plan}}, coloured=False)]
    assert "weights: drop, no room for the copy" in texts
    assert not any("weights" in text for text in shown())


def test_a_copy_on_the_disk_is_not_said_to_be_in_memory() -> None:
    for in_memory, said in ((True, "copy kept in memory"), (False, "copy kept on the disk")):
        model = {"name": "tiny", "warm": True, "memory": {"copy_in_memory": in_memory}}
        assert said in dict(lines({"model": model}, coloured=False))["model"]


def test_it_says_whether_the_weights_can_be_swapped() -> None:
    locked = {"own_bytes": 1, "locked_bytes": 1 << 20, "lock_refused": ""}
    assert "weights locked against swap" in shown(memory=locked)
    refused = {**locked, "lock_refused": "RLIMIT_MEMLOCK allows 8 MiB"}
    assert "weights not locked against swap: RLIMIT_MEMLOCK allows 8 MiB" in shown(memory=refused)
    unlocked = shown(memory={**locked, "locked_bytes": 0})
    assert not any("swap" in text for text in unlocked)


def test_a_daemon_that_says_nothing_is_shown_without_a_fault() -> None:
    assert list(lines({}, coloured=False))


def test_a_switch_under_way_is_shown_from_both_ends() -> None:
    loading = {"switching": {"model": "tiny", "stage": "loading", "percent": 42}}
    assert ("", "- tiny is being loaded: 42 %") in lines(loading, coloured=False)
    waiting = {"state": "ready", "switching": {"model": "tiny", "stage": "waiting", "percent": 0}}
    text = "- tiny is loaded once the answers under way have ended"
    assert ("", text) in lines(waiting, coloured=False)
    text = "ready: what is asked now waits for another model"
    assert ("state", text) in lines(waiting, coloured=False)
    roles = [{"name": "tiny", "role": "resident"}, {"name": "guide", "role": "leaving"}]
    text = "- guide still ends the answers that it has begun"
    assert ("", text) in lines({"switching": None, "models": roles}, coloured=False)
    none = [text for _, text in lines({"switching": None, "models": []}, coloured=False)]
    assert not any("load" in text or "ends" in text for text in none)


def test_a_model_that_was_let_go_is_not_said_to_answer_at_once() -> None:
    status: dict[str, object] = {"state": "ready", "model": {"name": "tiny"}}
    status["engine"] = {"state": "unloaded"}
    status["stage"] = "unloaded after 60 s without a request"
    shown = dict(lines(status, coloured=False))
    assert shown["state"] == "ready: the next request loads the model, and waits for it"
    assert shown["engine"] == "unloaded after 60 s without a request"
    assert shown["model"] == "tiny"


def test_settings_that_wait_for_a_restart_are_named() -> None:
    settings = ["engine.ubatch", "model.context"]
    texts = [text for _, text in lines({"needs_restart": settings}, coloured=False)]
    assert "- changed, and needs a restart: engine.ubatch, model.context" in texts
    assert not any("qwenctl load" in text for text in texts)
    assert not any("restart:" in text for text in shown())


def test_another_model_needs_no_restart() -> None:
    texts = [text for _, text in lines({"needs_restart": ["model.name"]}, coloured=False)]
    assert "- another model is the default; to have it answer now: qwenctl load NAME" in texts
    assert not any("restart:" in text for text in texts)
