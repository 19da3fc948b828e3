"""The commands inside a chat: lines that begin with a slash.

Rule 1: what a command does to the conversation is here; nothing is asked of the daemon.
Rule 2: this file does not know the terminal.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.turn import Settings
from qwend.cli.transcript import is_json, write_new

HELP = {
    "/help": "show this list",
    "/clear": "forget the conversation; the system prompt stays",
    "/system": "/system TEXT sets the system prompt, /system alone shows it",
    "/timings": "show times and token counts after each answer, or stop showing them",
    "/save": "/save FILE writes the conversation: JSON for *.json, else Markdown",
    "/exit": "leave (Ctrl-D does, too)",
}
KEYS = "Enter sends, Alt-Enter begins a new line, Ctrl-C stops an answer, Ctrl-D leaves."


class Leave(Exception):
    """The person wants to end the chat."""


def is_command(line: str) -> bool:
    """Is it no question? "/etc/fstab is empty, why?" is one."""
    name = line.strip().partition(" ")[0]
    return name.startswith("/") and "/" not in name[1:]


class SlashCommands:
    """say: shows a line to the person."""

    def __init__(
        self, conversation: Conversation, settings: Settings, say: Callable[[str], None]
    ) -> None:
        self._conversation = conversation
        self._settings = settings
        self._say = say

    def run(self, line: str) -> bool:
        """Run the line if it is a command; return whether it is. Raises: Leave."""
        if not is_command(line):
            return False
        name, _, rest = line.strip().partition(" ")
        match name:
            case "/help":
                self._say("\n".join(f"{each:<10}{text}" for each, text in HELP.items()))
                self._say(KEYS)
            case "/clear":
                self._clear()
            case "/system":
                self._system(rest.strip())
            case "/timings":
                self._settings.timings = not self._settings.timings
                self._say(f"Timings are {'shown' if self._settings.timings else 'not shown'}.")
            case "/save":
                self._save(rest.strip())
            case "/exit" | "/quit":
                raise Leave
            case _:
                near = difflib.get_close_matches(name, HELP, n=1)
                hint = f"did you mean {near[0]}?" if near else "/help lists what there is."
                self._say(f"There is no {name}; {hint}")
        return True

    def _clear(self) -> None:
        session = self._conversation.session
        if session is not None:
            self._say(f"It is kept; 'qwenctl sessions delete {session}' forgets it for good.")
            return
        self._conversation.clear()
        self._say("The conversation is forgotten.")

    def _system(self, text: str) -> None:
        if text and self._conversation.session is not None and len(self._conversation):
            self._say("The session has begun: its system prompt stays as it is.")
        elif text:
            self._conversation.system = text
            self._say("The system prompt is set, for the answers to come.")
        else:
            self._say(self._conversation.system or "The daemon's own system prompt is in use.")

    def _save(self, name: str) -> None:
        if not name:
            self._say("Say where: /save FILE")
            return
        path = Path(name).expanduser()
        said = self._conversation
        try:
            write_new(path, said.as_json() if is_json(path) else said.as_markdown())
        except OSError as error:
            self._say(f"Cannot save to {path}: {error.strerror}")
        else:
            self._say(f"{len(self._conversation)} messages saved to {path}.")
