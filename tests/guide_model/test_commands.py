"""What the guide tells people to type exists: commands, their options, scripts, units, names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from qwend.cli.main import cli
from qwend.daemon.main import main as qwend
from qwend.models.catalogue import catalogue
from scripts.guide_model.corpus import LANGUAGES, load_facts

REPOSITORY = Path(__file__).parents[2]
PROGRAMS: dict[str, click.Command] = {"qwenctl": cli, "qwend": qwend}
SYSTEMD_VERBS = {"start", "stop", "restart", "reload", "status", "enable", "disable"}
# What stands before the command itself: another user, another environment, an earlier pipe.
_BEFORE = re.compile(r"(.* \| )?(sudo )?([A-Z_]+=\S+ )*")


def commands(answer: str) -> list[list[str]]:
    """Return the command lines that an answer names, cut into words."""
    pieces = [_BEFORE.sub("", piece, count=1) for piece in re.findall(r"`([^`]+)`", answer)]
    return [
        shlex.split(piece)
        for piece in pieces
        if re.match(r"(qwenctl|qwend|systemctl|journalctl)( |$)|scripts/", piece)
    ]


def options(answer: str) -> list[str]:
    """Return the options that an answer names apart from their command: `--json`."""
    return re.findall(r"`(--?[a-z-]+)`", answer)


def click_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the subcommand that these words name, and the words that are left for it."""
    command, rest = PROGRAMS[words[0]], words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"there is no {' '.join(words)}"
        command, rest = found, rest[1:]
    return command, rest


def known_options(words: list[str]) -> set[str]:
    """Return the options that this command line could have."""
    if words[0].startswith("scripts/"):
        script = (REPOSITORY / words[0]).read_text(encoding="utf-8")
        usage = script[script.index("<<'TEXT'") :].split("\nTEXT\n")[0]
        return set(re.findall(r"--[a-z-]+", usage))
    if words[0] not in PROGRAMS:
        return set()
    parameters = [*PROGRAMS[words[0]].params, *click_command(words)[0].params]
    return {"--help", *(name for parameter in parameters for name in parameter.opts)}


ANSWERS = [
    pytest.param(answers[language], id=f"{fact}-{language}")
    for fact, answers in load_facts().items()
    for language in LANGUAGES
    if "`" in answers[language]
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_command_and_option_that_an_answer_names_exists(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()  # the placeholder, for arguments that must be files
    for words in commands(answer):
        if words[0] in PROGRAMS:
            command, rest = click_command(words)
            if rest != ["--help"] and not isinstance(command, click.Group):
                command.make_context(words[0], rest).close()  # it parses, and does not run
        elif words[0].startswith("scripts/"):
            assert {w for w in words if w.startswith("-")} <= known_options(words)
        else:
            verb = words[1] if words[0] == "systemctl" else "journalctl"
            assert verb in SYSTEMD_VERBS | {"journalctl"}
            for unit in words[2:]:
                path = REPOSITORY / "systemd" / (unit if "." in unit else f"{unit}.service")
                assert unit == "-u" or path.is_file(), unit
    named = {"qwenctl": known_options(["qwenctl"])}
    named |= {" ".join(words): known_options(words) for words in commands(answer)}
    for option in options(answer):
        assert any(option in known for known in named.values()), option


def test_the_model_that_an_answer_names_is_the_one_that_a_bare_pull_gets() -> None:
    named = {
        word
        for answers in load_facts().values()
        for words in commands(answers["en"])
        for word in words
        if word.startswith(("qwen2", "qwen3"))
    }
    assert named == {catalogue().default}


@pytest.mark.parametrize(
    "answer",
    [
        "`qwenctl fetch`",
        "`sudo qwenctl models list --sizes`",
        "`qwenctl quantize FILE`",
        "`cat notes.txt | qwenctl ask --loud TEXT`",
        "`QWEND_MODEL_CONTEXT=4096 qwend run`",
        "`scripts/install --everything`",
        "`sudo systemctl start qwen`",
        "`qwenctl status`, and add `-f` to follow it",
    ],
)
def test_a_command_or_option_that_does_not_exist_is_noticed(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        test_every_command_and_option_that_an_answer_names_exists(answer, tmp_path, monkeypatch)
