"""`qwenctl doctor`: what this machine is, what is tuned on it, and what would mend the rest.

Rule 1: a check is a pure function of a `Scene`; only `look.py` touches the machine.
Rule 2: nothing here changes anything; what would is printed, for a person to run.
"""
