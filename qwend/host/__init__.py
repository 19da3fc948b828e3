"""What the machine is and what may be changed on it, always below a `HostRoot`.

Rule 1: everything read from or written to /sys, /proc and the warm directory goes through here.
Rule 2: this package knows nothing of the engine; it says what there is, not what to do with it.
"""
