from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.slash import HELP, Leave, SlashCommands
from qwend.cli.chat.turn import Settings


class Chat:
    """The commands, and what they said and did."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.settings = Settings({})
        self.said: list[str] = []
        self._commands = SlashCommands(self.conversation, self.settings, self.said.append)

    def run(self, line: str) -> bool:
        return self._commands.run(line)


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.mark.parametrize("line", ["hello", "/etc/fstab is empty, why?", "1/2", ""])
def test_a_question_is_no_command(chat: Chat, line: str) -> None:
    assert not chat.run(line)
    assert chat.said == []


def test_help_lists_every_command(chat: Chat) -> None:
    assert chat.run("/help")
    assert all(name in chat.said[0] for name in HELP)


def test_clear_keeps_the_system_prompt(chat: Chat) -> None:
    chat.run("/system Be brief.")
    chat.conversation.ask("one")
    chat.conversation.answer("1")

    chat.run("/clear")

    assert [each.content for each in chat.conversation.messages] == ["Be brief."]


def test_timings_switches_to_and_fro(chat: Chat) -> None:
    chat.run("/timings")
    assert chat.settings.timings
    chat.run("/timings")
    assert not chat.settings.timings


@pytest.mark.parametrize("line", ["/exit", "/quit", " /exit "])
def test_exit_leaves(chat: Chat, line: str) -> None:
    with pytest.raises(Leave):
        chat.run(line)


def test_a_misspelt_command_is_answered_with_the_nearest(chat: Chat) -> None:
    assert chat.run("/claer")
    assert chat.said == ["There is no /claer; did you mean /clear?"]


def test_save_writes_a_private_file(chat: Chat, tmp_path: Path) -> None:
    chat.conversation.ask("Why?")
    chat.conversation.answer("Because.")

    chat.run(f"/save {tmp_path}/my chat.md")

    file = tmp_path / "my chat.md"
    assert file.read_text() == "**user**\n\nWhy?\n\n**assistant**\n\nBecause.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_save_never_writes_over_a_file(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("mine")

    chat.run(f"/save {file}")

    assert file.read_text() == "mine"
    assert "File exists" in chat.said[0]


def test_save_needs_a_name(chat: Chat) -> None:
    chat.run("/save")
    assert chat.said == ["Say where: /save FILE"]


def test_a_question_without_any_answer_is_taken_back(chat: Chat) -> None:
    chat.conversation.ask("one")
    chat.conversation.answer("")

    assert chat.conversation.messages == ()
