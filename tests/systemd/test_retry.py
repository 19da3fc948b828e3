"""The back-off: quick starts first, then slow ones, for as long as it takes."""

from __future__ import annotations

from tests.systemd.conftest import Boot

# As shipped but for the times: two quick starts, and the slow one after 3 s.
QUICK = """
[Unit]
StartLimitIntervalSec=3
StartLimitBurst=2
[Service]
RestartSec=1ms
"""
# The empty line first: the settings of a timer add up.
SLOW = "[Timer]\nOnActiveSec=\nOnActiveSec=3\nAccuracySec=1ms\n"
# Nothing of qwend is needed to see what systemd does when it cannot start.
SOUND = "/run/sound"
PROGRAM = f"""
ExecStartPre=/usr/bin/test -e {SOUND}
ExecStart=
ExecStart=/bin/sleep infinity
Type=exec
"""


def test_what_fails_for_good_is_tried_again_later_each_time(boot: Boot) -> None:
    machine = boot(
        service=QUICK + PROGRAM, etc={"systemd/system/qwend-retry.timer.d/test.conf": SLOW}
    )
    machine.systemctl("start", "qwend", check=False)
    for _ in range(2):
        machine.wait_until(
            lambda: machine.property("qwend-retry.timer", "SubState") == "waiting",
            "the end of the quick starts",
        )
        assert machine.property("qwend", "ActiveState") == "failed"
        machine.write(SOUND, "")
        machine.wait_until(
            lambda: machine.property("qwend", "ActiveState") == "active", "the slow start"
        )
        # The socket fell with the service, and is back with it.
        assert machine.property("qwend.socket", "ActiveState") == "active"
        machine.path(SOUND).unlink()
        machine.systemctl("kill", "--signal=KILL", "qwend")
