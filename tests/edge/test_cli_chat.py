"""``edge chat``: from a pipe, its commands, and in a pseudo-terminal."""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from convert.errors import EdgeError
from convert.pipeline import convert
from edge.api import Engine
from edge.cli.chat import Chat, stats_text
from edge.cli.main import cli
from edge.conversation import Conversation
from tests.edge import tiny_gguf

PATIENCE = 30  # seconds to wait for what must come


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny-qwen.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


@pytest.fixture(scope="module")
def llm(tiny: Path) -> Iterator[Engine]:
    with Engine(tiny, slots=1) as engine:
        yield engine


def run(*arguments: object, text: str = "") -> Result:
    return CliRunner().invoke(cli, ["chat", *map(str, arguments)], input=text.encode())


def test_each_line_of_a_pipe_is_a_question(tiny: Path) -> None:
    one = run(tiny, "--temp", "0", text="你好\n")
    two = run(tiny, "--temp", "0", text="你好\n\nWhere are the toilets?")
    assert one.exit_code == two.exit_code == 0 and one.stderr == two.stderr == ""
    lines = two.stdout.splitlines()
    assert len(lines) == 2 and lines[0] == one.stdout.strip() and lines[1]
    assert "tokens/s" not in two.stdout and "\x1b" not in two.stdout


def test_a_line_of_a_pipe_is_no_command(tiny: Path, tmp_path: Path) -> None:
    assert run(tiny, "--temp", "0", "-n", "4", text=f"/save {tmp_path / 'x.json'}\n").exit_code == 0
    assert not (tmp_path / "x.json").exists()


def test_a_question_too_long_is_one_line_and_the_chat_goes_on(tiny: Path) -> None:
    asked = run(tiny, "--temp", "0", "-c", "64", text=f"{'你好' * 300}\n你好\n")
    assert asked.exit_code == 1 and asked.stderr.count("\n") == 1
    assert asked.stderr.startswith("error: the prompt has ") and "the context 64" in asked.stderr
    assert asked.stdout == run(tiny, "--temp", "0", text="你好\n").stdout


def test_options(tiny: Path) -> None:
    with_seed = [run(tiny, "--temp", "1.5", "--seed", "7", text="你好\n").stdout for _ in "ab"]
    assert with_seed[0] == with_seed[1]
    short, long = (run(tiny, "--temp", "0", *n, text="你好\n").stdout.strip() for n in (["-n", "3"], []))
    assert 0 < len(short) < len(long) and short[:2] == long[:2]
    refused = run(tiny, "--temp", "-1", text="你好\n")
    assert refused.exit_code == 1 and refused.stderr.startswith("error: temperature is ")
    assert "there is no model" in run("nothing", text="你好\n").stderr


def test_an_embedded_model_is_converted_first(tmp_path: Path) -> None:
    asked = run("tiny-qwen:Q4_0", "--models-dir", tmp_path, "--temp", "0", text="你好\n")
    assert asked.exit_code == 0 and asked.stdout.strip() and (tmp_path / "tiny-qwen").is_dir()


def test_commands(llm: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat = Chat(llm, Conversation(), {"temperature": 0.0}, in_terminal=True)
    chat.handle("/stats")
    assert "no answers yet" in capsys.readouterr().out
    chat.handle("你好")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == chat.conversation.turns[0][1]
    assert re.fullmatch(r"prefill [\d.]+ tokens/s \(\d+(, \d+ cached)?\), decode [\d.]+ tokens/s \(\d+\)", shown[1])
    chat.handle("/system\nBe brief.")
    chat.handle(f"/save {tmp_path / 'a b.json'}")
    saved = json.loads((tmp_path / "a b.json").read_text("utf-8"))["messages"]
    assert [message["role"] for message in saved] == ["system", "user", "assistant"]
    chat.handle("/undo")
    assert chat.conversation.turns == [] and "forgotten: 你好" in capsys.readouterr().out
    chat.handle("/system")
    assert chat.conversation.messages == []
    chat.handle(f"/load {tmp_path / 'a b.json'}")
    assert chat.conversation.messages == saved
    chat.handle("/help")
    assert "/undo" in capsys.readouterr().out
    with pytest.raises(EOFError):
        chat.handle("/exit")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/foo", "there is no command /foo"),
        ("/undo", "nothing to undo"),
        ("/save", "the name of the file is missing"),
        ("/load nowhere.json", "cannot be read"),
        ("/think maybe", "thinking is on, off, or the most tokens"),
        ("/think", "thinking is on, off, or the most tokens"),
        ("/think -1", "thinking is on, off, or the most tokens"),
        ("/think " + "9" * 5000, "thinking is on, off, or the most tokens"),
        ("/think off", "does not let one choose"),
        ("/think 20", "does not think"),
    ],
)
def test_what_is_wrong_is_one_line(llm: Engine, command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    chat = Chat(llm, Conversation(), {}, in_terminal=True)
    with pytest.raises(EdgeError, match=says):
        chat.handle(command)
    assert not chat.try_to(chat.handle, command)
    assert capsys.readouterr().err.count("\n") == 1


def test_think_reaches_the_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = "{{ messages[-1].content }}{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
    path = tiny_gguf.write(tmp_path / "x.gguf", {"tokenizer.chat_template": template})
    with Engine(path, slots=1) as engine:
        chat = Chat(engine, Conversation(), {"max_tokens": 1, "temperature": 0.0}, in_terminal=True)
        for command, tokens in (("", 2), ("/think on", 6), ("/think off", 7)):  # a token a byte: hi, hiTrue, hiFalse
            if command:
                chat.handle(command)
            chat.handle("hi")
            assert chat.timings[-1].prompt_tokens == tokens
    assert "thinking is off" in capsys.readouterr().out


def test_think_takes_the_place_of_what_was_said_before(tmp_path: Path) -> None:
    """``/think on`` after ``/think 200`` kept the limit, and ``/think 200`` after ``/think off`` did nothing."""
    path = tiny_gguf.write(tmp_path / "x.gguf", {"tokenizer.chat_template": "x{{ enable_thinking }}<think>"})
    with Engine(path, slots=1) as engine:
        chat = Chat(engine, Conversation(), {"max_tokens": 1}, in_terminal=True)
        for command, thinks, budget in (
            ("200", True, 200),
            ("on", True, None),
            ("off", False, None),
            ("200", True, 200),
            ("off", False, None),
        ):
            chat.handle(f"/think {command}")
            assert (chat.variables, chat.thinking_budget) == ({"enable_thinking": thinks}, budget)
        assert not chat.try_to(chat.handle, "/think maybe")
        assert (chat.variables, chat.thinking_budget) == ({"enable_thinking": False}, None)


def test_stats_add_up(llm: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    chat = Chat(llm, Conversation(), {"temperature": 0.0}, in_terminal=True)
    chat.handle("你好")
    chat.handle("Where are the toilets?")
    first, second = chat.timings
    text = stats_text(chat.timings, llm.ctx)
    assert text.startswith(f"answers: 2; {first.prompt_tokens + second.prompt_tokens} tokens in (")
    assert f"{first.generated_tokens + second.generated_tokens} out" in text
    assert f"{second.prompt_tokens + second.generated_tokens} of {llm.ctx} tokens of the context" in text
    assert second.cached_tokens >= first.prompt_tokens  # the conversation is not read again


def endless(folder: Path) -> Path:
    """A model whose greedy answer goes on until the context is full."""
    weights = tiny_gguf.tensors()
    # The logits of what ends an answer are 0, and never the largest of 300.
    weights["token_embd.weight"][[tiny_gguf.END_OF_TEXT, tiny_gguf.IM_END]] = 0
    return tiny_gguf.write(folder / "endless.gguf", {"qwen2.context_length": 60000}, weights)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_piped_chat(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "chat", str(endless(tmp_path)), "--temp", "0", "-c", "50000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"hello\nhello\n")
        process.stdin.flush()
        assert process.stdout.read(1)  # the answer begins
        process.send_signal(signal.SIGINT)
        try:
            _, told = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert (told, process.returncode) == (b"interrupted\n", 130)


# --- in a pseudo-terminal


class Terminal:
    """The master's end: what the program shows, and a keyboard."""

    def __init__(self, fd: int) -> None:
        self.fd, self.seen = fd, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until ``pattern`` comes; returns what came up to its end, without escape sequences."""
        until = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen[-2000:]!r}"
            self.seen += re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self._decoder.decode(os.read(self.fd, 65536)))
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown


@contextmanager
def terminal(*arguments: object) -> Iterator[Terminal]:
    """``edge chat`` in a pseudo-terminal; it must end well by itself."""
    import pty
    import termios

    pid, fd = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "edge", "chat", *map(str, arguments)]
        # Nobody answers here when the program asks where the cursor is.
        os.execve(sys.executable, command, {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"})
    termios.tcsetwinsize(fd, (40, 200))
    status = None
    try:
        yield Terminal(fd)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            time.sleep(0.05)
        if ended[0]:
            status = os.waitstatus_to_exitcode(ended[1])
    finally:
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)
    assert status == 0


needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in Python")


@needs_pty
def test_a_conversation_in_a_terminal(tiny: Path) -> None:
    expected = run(tiny, "--temp", "0", text="你好\n").stdout.strip()
    with terminal(tiny, "--temp", "0") as screen:
        screen.wait_for(">")
        screen.type("garbage\x03你好\r")  # Ctrl-C clears the line
        assert expected in screen.wait_for(r"prefill .*\(\d+\)\r\n>")
        screen.type("a\\\rb\x1b\rc\x1b[200~\rd\x1b[201~\r")  # \ and Enter, Alt-Enter, a paste with a line break
        screen.wait_for(r"prefill .*\(\d+\)\r\n>")
        screen.type("/undo\r")
        assert "forgotten: a\r\nb\r\nc\r\nd" in screen.wait_for("d\r\n>")
        screen.type("/exit\r")


@needs_pty
def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    with terminal(endless(tmp_path), "--temp", "0", "-c", "50000") as screen:
        screen.wait_for(">")
        screen.type("hello\r")
        screen.wait_for(r"hello\r+\n[^\r]")  # the answer begins
        screen.type("\x03")
        screen.wait_for(r"decode .* \(stopped\)")
        screen.wait_for(">")
        screen.type("/stats\r")
        screen.wait_for(r"answers: 1(.|\n)*>")
        screen.type("\x04")  # Ctrl-D
