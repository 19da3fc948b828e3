"""The end of a child process, awaited. Owns nothing but the wait."""

from __future__ import annotations

import asyncio
import os
import subprocess


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Its return code, as `Popen.wait` gives it, once it has ended; its last word was read then."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # a kernel before 5.3
        return await asyncio.to_thread(process.wait)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        # Readable when the process has ended, pidfd_open(2).
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()
