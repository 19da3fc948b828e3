"""The engine: turns requests into tokens, several sequences per step.

Everything here is pure but `llama/`, the only importer of llama_cpp, and `worker.py`, the main of
the engine process. Nothing here knows of sockets, clients or the host.
"""
