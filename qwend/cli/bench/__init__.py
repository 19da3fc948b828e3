"""`qwenctl bench`: how fast the daemon is, as a client of it sees it.

Rule 1: everything goes through the socket, and is what any program could ask.
Rule 2: nothing here knows how the daemon computes.
"""
