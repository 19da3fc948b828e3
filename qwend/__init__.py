"""qwend keeps a small Qwen model hot and streams its tokens over a Unix socket."""

__version__ = "0.1.0"
