"""Getting a model's file: from a hub, over a bad network, checked byte for byte.

Importing it is cheap; what talks HTTP and TLS is imported by `pull` and not before.
"""
