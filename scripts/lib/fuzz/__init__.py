"""Looking for inputs that a target of tests/fuzz cannot take. `scripts/fuzz --help` says how."""
