"""The command line of ``evaluate.py``: quick, and one clear line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from evaluate import main, make_parser

CONFIG = "configs/evaluation/pocket.yaml"


def test_every_shipped_configuration_parses() -> None:
    for path in sorted(Path("configs/evaluation").glob("*.yaml")):
        given = make_parser().parse_args(["--config", str(path), "--output", "results/x", "--trainer.devices", "2"])
        assert Path(given.protocol.prompts).is_file()
        assert given.trainer.devices == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "x", "--protocol.sampels", "3"], ["protocol.sampels", "did you mean protocol.samples?"]),
        (["--outptu", "x"], ["outptu", "did you mean output?"]),
        (["--config", CONFIG, "--output", "x", "--protocol.samples", "many"], ["protocol.samples", "many"]),
        (["--config", "nowhere.yaml", "--output", "x"], ["nowhere.yaml"]),
        (["--config", CONFIG], ["output"]),
        (["--config", CONFIG, "--output", "x", "--stage", "draw"], ["stage", "draw"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words), line


def test_a_misspelt_key_in_a_file_is_named_with_the_nearest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(Path(CONFIG).read_text().replace("guidance:", "guidence:"))
    assert main(["--config", str(path), "--output", "x"]) == 2
    assert "did you mean protocol.guidance?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--runs", "runs/nowhere"], "runs/nowhere is no finished run"),
        (["--judges.faces", "nowhere"], "nowhere"),
        (["--protocol.sampler", "euler"], "euler"),
        (["--protocol.samples", "0"], "protocol.samples is 0"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(
    change: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert main(["--config", CONFIG, "--output", str(output), *change]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and words in line
    assert not output.exists()


def test_a_mistake_is_found_before_anything_heavy_is_loaded() -> None:
    code = "import sys, evaluate; code = evaluate.main(['--outptu', 'x']); print(code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
