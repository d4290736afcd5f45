"""What a server is told: files of keys, pages for visitors, and who may reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.server.config import Config, ConfigError, Kiosk, check_reach, is_loopback, read_keys, read_kiosk


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_several_keys_and_remarks(file: Path) -> None:
    file.write_text("\ufeff# of the team\nfirst\n\n  second  # the kiosk's\n#third\n", encoding="utf-8")
    assert read_keys(file) == ("first", "second")


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n \n", "two words\n", "schlüssel\n", "a\x07b\n"])
def test_files_without_a_key(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_keys(file)
    assert "schl" not in str(caught.value), "a key is not shown"


def test_a_key_file_that_is_none(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the key file"):
        read_keys(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the key file"):
        read_keys(file)


def test_a_kiosk(file: Path) -> None:
    file.write_text('title = "Museum"\nlanguage = "zh"\nquestions = ["Where?", "When?"]\nmax_tokens = 200\n')
    assert read_kiosk(file) == Kiosk(title="Museum", language="zh", questions=["Where?", "When?"], max_tokens=200)
    file.write_text("")
    assert read_kiosk(file) == Kiosk()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = ", "is not TOML"),
        ('titel = "x"', "titel: "),
        ("title = 5", "title: "),
        ('language = "fr"', "language: "),
        ("idle_seconds = 1", "idle_seconds: "),
        ("max_tokens = 0", "max_tokens: "),
        ("answer_seconds = 0.5", "answer_seconds: "),
        ("answer_seconds = nan", "answer_seconds: "),
        ('questions = "one"', "questions: "),
        ('questions = ["ok", 5]', "questions.1: "),
        (f"questions = {['x'] * 25}", "questions: "),
    ],
)
def test_a_wrong_kiosk_names_the_field(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_kiosk(file)
    assert told in str(caught.value) and str(file) in str(caught.value)


def test_the_command_line_knows_better_how_long_answers_may_take() -> None:
    assert Config().soft_deadline is None and Config(kiosk=Kiosk()).soft_deadline is None
    assert Config(kiosk=Kiosk(answer_seconds=40)).soft_deadline == 40
    assert Config(kiosk=Kiosk(answer_seconds=40), answer_seconds=20).soft_deadline == 20


def test_a_kiosk_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_kiosk(file)
    file.write_bytes(b'title = "\xff"')
    with pytest.raises(ConfigError, match="is not TOML"):
        read_kiosk(file)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_the_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_reach(Config(host=host), without_key=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "kiosk.example.org", ""])
def test_others_need_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="--api-key-file"):
        check_reach(Config(host=host), without_key=False)
    check_reach(Config(host=host), without_key=True)
    check_reach(Config(host=host, keys=("key",)), without_key=False)
    check_reach(Config(host=host, socket=Path("x.sock")), without_key=False)


@pytest.mark.parametrize(
    "origin", ["*", "https://*", "chat.example.org", "https://chat.example.org/", "file://x", "https://"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ConfigError, match="no origin"):
        check_reach(Config(origins=("https://chat.example.org", origin)), without_key=False)
