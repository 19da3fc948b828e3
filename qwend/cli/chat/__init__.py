"""`qwenctl chat`: a conversation in the terminal, or line by line through a pipe.

Rule 1: whatever happens to one answer or to the daemon, the conversation stays.
Rule 2: only `terminal` knows prompt_toolkit, which takes a while to import.
"""
