"""How long work shows itself: bars on a terminal, plain lines elsewhere, errors in one line."""

from __future__ import annotations

import re
import signal

import pytest
from click.testing import CliRunner

from featurebench.cli import main, options, progress, signals
from featurebench.errors import FeatureBenchError, StoreError
from featurebench.experiment import QUIET


def test_plain_lines_come_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 4.0, 11.0, 12.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with progress._plain("embedding x", 1000) as advance:
        for _ in range(4):
            advance(250, "bound by reading")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["...        embedding x: 500/1,000, 45.5/s, 11 s left, bound by reading"]


def test_nothing_is_printed_for_short_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress._plain("short", 3) as advance:
        for _ in range(3):
            advance(1)
    assert capsys.readouterr().err == ""


def test_bar_shows_label_and_count_and_is_gone_afterwards(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = progress._Terminal()
    with terminal.track("embedding x", 10) as advance:
        advance(4)
        terminal.say("arm", "[net]+knn: 1.0 s")
        advance(6)
    err = capsys.readouterr().err
    assert "\narm        [net]+knn: 1.0 s\n" in plain(err)
    assert "embedding x" in err
    assert "10/10" in err
    # The last thing written erases the line.
    assert err.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))


def plain(text: str) -> str:
    """What a terminal shows, without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


def test_slow_work_is_told_in_seconds_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 15.0, 30.0, 45.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with progress._plain("probing 2 arms", 5) as advance:
        advance(0, "net+knn")
        advance(1, "net+knn")
        advance(0, "net+lda")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "...        probing 2 arms: 1/5, 30.0 s each, 120 s left, net+knn",
        "...        probing 2 arms: 1/5, 45.0 s each, 180 s left, net+lda",
    ]


def test_quiet_console_takes_everything_and_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    QUIET.say("step", "message")
    with QUIET.track("label", 5) as advance:
        advance(5)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("error", [FeatureBenchError("mend it"), StoreError("the disk is full")])
def test_what_the_user_can_mend_is_status_2(
    monkeypatch: pytest.MonkeyPatch, error: FeatureBenchError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("featurebench.experiment.write_starter", fail)
    result = CliRunner().invoke(main, ["init", "."])
    assert result.exit_code == 2
    assert result.stderr == f"featurebench: {error}\n"


@pytest.mark.parametrize("number", [28, 30, 13])
def test_a_full_or_closed_disk_is_status_2(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "the reason", "results/run.json")

    monkeypatch.setattr("featurebench.experiment.write_starter", fail)
    result = CliRunner().invoke(main, ["init", "."])
    assert result.exit_code == 2
    assert "cannot write results/run.json: the reason" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("featurebench.experiment.write_starter", fail)
    result = CliRunner().invoke(main, ["init", "."])
    assert result.exit_code == 1
    assert isinstance(result.exception, KeyError)


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("featurebench.experiment.write_starter", stop)
    result = CliRunner().invoke(main, ["init", "."])
    assert result.exit_code == 130
    assert "goes on from there" in result.stderr


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]
)
def test_a_signal_ends_in_order(
    capsys: pytest.CaptureFixture[str], sent: signal.Signals, status: int
) -> None:
    tidied: list[int] = []

    def work() -> None:
        with signals.orderly_end():
            try:
                signal.raise_signal(sent)
            finally:
                tidied.append(1)

    with pytest.raises(SystemExit) as caught:
        work()
    assert (caught.value.code, tidied) == (status, [1])
    assert "goes on from there" in capsys.readouterr().err
    assert signal.getsignal(sent) not in {signals._stop, signals._stop_at_once}


def test_a_quiet_console_tells_notices_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = progress.make_console(quiet=True)
    console.say("embedding", "done")
    console.say("notice", "out of memory")
    with console.track("label", 5) as advance:
        advance(5)
    assert capsys.readouterr().err == "notice     out of memory\n"


def test_own_command_leaves_an_option_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for written in (["--processes", "2"], ["--processes=2"]):
        monkeypatch.setattr("sys.argv", ["featurebench", "extract", *written, "a.yaml"])
        command = options.own_command("--processes")
        assert command[1:] == ["-m", "featurebench.cli", "extract", "a.yaml"]


def test_unknown_verb_and_option_are_status_2() -> None:
    for arguments in (["prob"], ["run"], ["run", "x.yaml", "--fast"], ["store"]):
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_device_of_the_command_line_wins(tmp_path: object) -> None:
    from pathlib import Path

    from featurebench.config import load_config

    file = Path(str(tmp_path)) / "study.yaml"
    file.write_text("data: {folder: x}\nbackbones: [{model: y}]\nheads: {knn: }\n")
    config = load_config(file)
    assert options.on_device(config, None) is config
    changed = options.on_device(config, "cuda:1")
    assert (changed.compute.device, config.compute.device) == ("cuda:1", "auto")
    assert changed.base == config.base
