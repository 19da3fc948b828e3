"""The `qwenctl` command: one file per subcommand, each imported only when it is called.

Rule 1: this package is a client like any other: it knows the client library and the settings.
Rule 2: it knows nothing of the daemon's or the engine's insides.
"""
