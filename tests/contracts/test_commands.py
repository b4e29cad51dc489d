"""How a command ends: its exit code and what it says."""

import errno
import os

import pytest

from contracts.commands import as_command
from contracts.errors import REPORT, STOPPED, LikenessError


def raising(error: BaseException) -> int:
    @as_command
    def main() -> int:
        raise error

    return main()


def test_the_code_is_what_the_command_returns() -> None:
    @as_command
    def main(code: int) -> int:
        return code

    assert [main(0), main(code=1)] == [0, 1]


def test_each_mistake_of_the_user_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(LikenessError("--a is 0\n--b is 1")) == 2
    assert capsys.readouterr().err == "error: --a is 0\nerror: --b is 1\n"


@pytest.mark.parametrize(
    ("number", "file", "line"),
    [
        (errno.ENOSPC, None, os.strerror(errno.ENOSPC)),
        (errno.EACCES, "out/x.csv", f"out/x.csv: {os.strerror(errno.EACCES)}"),
    ],
)
def test_what_the_system_refuses_is_a_line(
    number: int, file: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(OSError(number, os.strerror(number), file)) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("error", [OSError("a library's own"), RuntimeError("unforeseen")])
def test_a_fault_of_ours_is_told_with_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(error) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told and str(error) in told and REPORT in told


def test_ctrl_c_ends_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == STOPPED
    assert capsys.readouterr().err == "\nstopped\n"
