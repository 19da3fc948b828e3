"""The front: owns the socket, who may do what, the journal of running requests, and the engine.

It never imports llama_cpp or numpy: what can end a process lives in the engine's.
"""
