"""The command line of ``evaluate.py``: quick, and one clear line for every mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from evaluate import main, make_parser
from tests.helpers.boards import make_results

CONFIG = "configs/evaluation/pocket.yaml"


def test_every_shipped_configuration_parses() -> None:
    for path in sorted(Path("configs/evaluation").glob("*.yaml")):
        given = make_parser().parse_args(["--config", str(path), "--output", "results/x", "--trainer.devices", "2"])
        ours = given.protocol.prompts.startswith("configs/")  # the others come with a data set
        assert Path(given.protocol.prompts).is_file() or not ours
        assert given.trainer.devices == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "x", "--protocol.sampels", "3"], ["protocol.sampels", "did you mean protocol.samples?"]),
        (["--outptu", "x"], ["outptu", "did you mean output?"]),
        (["--config", CONFIG, "--output", "x", "--protocol.samples", "many"], ["protocol.samples", "many"]),
        (["--config", "nowhere.yaml", "--output", "x"], ["nowhere.yaml"]),
        (["--config", CONFIG], ["--output is missing"]),
        (["--config", CONFIG, "--output", "x", "--limit", "few"], ["limit", "few"]),
        (["--stage", "report"], ["--output is missing"]),
        (["--compare", "a", "b"], ["--output is missing"]),
        (["--compare", "a", "--output", "x"], ["compare"]),
        (["--compare", "a", "b", "--output", "nowhere"], ["nowhere"]),
        (["--verify", "nowhere"], ["nowhere holds no results"]),
        (["--verify", "x", "--protocol.steps", "3"], ["protocol.steps"]),
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


@pytest.mark.parametrize("stray", [{"RANK": "1"}, {"SLURM_PROCID": "1"}, {"LOCAL_RANK": "1"}], ids=str)
def test_a_rank_without_a_group_is_no_reason_to_be_silent(
    stray: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in stray.items():
        monkeypatch.setenv(name, value)
    assert main(["--config", CONFIG]) == 2
    assert "error: --output is missing" in capsys.readouterr().err


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
        (["--runs", "runs/nowhere"], "there is no folder 'runs/nowhere'"),
        (["--judges.faces", "nowhere"], "nowhere"),
        (["--protocol.sampler", "euler"], "euler"),
        (["--protocol.samples", "0"], "protocol.samples is 0"),
        (["--limit", "0"], "--limit is 0"),
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


def test_a_finished_folder_is_read_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = make_results(tmp_path, subjects={f"s{i}": "person" for i in range(4)}).root
    assert main(["--stage", "report", "--output", str(output)]) == 0
    assert "| ours" in capsys.readouterr().out
    assert main(["--stage=cards", f"--output={output}"]) == 0
    assert "identity_recovered" in (listed := capsys.readouterr().out) and "kid@x|1" in listed
    assert main(["--compare", "ours", "theirs", "--output", str(output)]) == 0
    assert "ours - theirs" in capsys.readouterr().out
    assert main(["--verify", str(output)]) == 0
    assert "verified: 4 entries, 64 images with their records" in capsys.readouterr().out
    (output / "entries" / "ours" / "images" / "s0.beach.00.png").unlink()
    assert main(["--verify", str(output)]) == 1
    assert "s0.beach.00.png is missing" in capsys.readouterr().out


def test_cards_of_a_configuration_need_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", CONFIG, "--stage", "cards"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("identity_recovered", "detection_rate", "clip_t@clip-", "KID, n = 400"))
    assert main(["--config", CONFIG, "--stage", "cards", "--limit", "24"]) == 0
    assert "KID, n = 24" in capsys.readouterr().out


def test_cards_alone_are_those_of_the_pocket_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", CONFIG, "--stage", "cards"]) == 0
    listed = capsys.readouterr().out
    assert main(["--stage", "cards"]) == 0
    assert capsys.readouterr().out == listed
    assert main(["--stage=cards", "--protocol.samples", "3"]) == 0
    assert "KID, n = 600" in capsys.readouterr().out
