"""`qwenctl models`: the models of this machine, and those that could be.

Every subcommand is a file; `command` is their table.
"""
