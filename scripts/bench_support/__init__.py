"""What `scripts/bench` and `scripts/make-bench-model` share; not installed with qwend.

Everything here lives in one cache directory and can be deleted at any time: the source of
llama.cpp, the peers built from it, and the bench models.
"""
