"""One timed stream from the system's daemon, as a program: SEED PROMPT_TOKENS TOKENS.

Prints [when sent, [[tokens so far, when], ...]] as JSON. Run where the client is to be measured.
"""

from __future__ import annotations

import json
import random
import sys

from qwend.client import Client

from .stream_times import prompt_tokens, timed_stream


def main() -> None:
    seed, prompt, tokens = (int(word) for word in sys.argv[1:])
    with Client() as client:
        times = timed_stream(client, prompt_tokens(prompt, random.Random(seed)), tokens)
    print(json.dumps([times.sent_s, times.arrivals]))


if __name__ == "__main__":
    main()
