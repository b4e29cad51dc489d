"""The command line of ``curate.py``: one clear line for every mistake, and a whole run."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from curate import main, make_parser
from pocket.models.paths import FACES_A
from tests.helpers.photos import encoded, people, photo, write

GIVEN = ["--source", "renderer", "--licence", "Apache-2.0", "--consent", "nobody real"]


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if not text.startswith(("looking", "cutting"))]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["photos"]),
        (["photos", "out"], ["source"]),
        (["photos", "out", *GIVEN[:4]], ["consent"]),
        (["photos", "out", *GIVEN[:5], "  "], ["--consent is empty"]),
        (["photos", "out", "--source", "", *GIVEN[2:]], ["--source is empty"]),
        (["photos", "out", *GIVEN, "--fcaes", "x"], ["fcaes", "did you mean faces?"]),
        (["photos", "out", *GIVEN, "--shares", "[0.5,0.1,0.1]"], ["--shares", "add up to 1"]),
        (["photos", "out", *GIVEN, "--masks", "magic"], ["masks", "magic"]),
        (["photos", "out", *GIVEN, "--det_size", "[100]"], ["--det_size is [100]", "multiples of 32"]),
        (["photos", "out", *GIVEN, "--seed", "-1"], ["--seed -1", "from 0"]),
        (["photos", "out", *GIVEN, "--references", "0"], ["--references 0"]),
        (["photos", "out", *GIVEN, "--min_side", "900"], ["--resolution 512 is below --min_side 900"]),
        (["photos", "out", *GIVEN, "--backgrounds", "1"], ["--backgrounds 1"]),
        (["/nowhere/photos", "out", *GIVEN, "--faces", "x"], ["'/nowhere/photos' is missing"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = error_of(arguments, capsys)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--faces", "nowhere"], ["face pack 'nowhere' is not a folder"]),
        ([], ["--faces is missing", "--objects"]),
        (["--faces", str(FACES_A), "--segmenter", "no.onnx"], ["--segmenter: no file no.onnx"]),
        (["--faces", str(FACES_A), "--clip", "/no/clip"], ["no model folder at '/no/clip'"]),
        (["--faces", str(FACES_A), "--captioner", "/no/blip"], ["no model folder at '/no/blip'"]),
        (["--faces", str(FACES_A), "--subjects", "no.csv"], ["no.csv cannot be read"]),
    ],
)
def test_what_is_missing_is_said_before_photos_are_looked_at(
    more: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos = write(tmp_path / "photos", {"a/1.png": encoded(photo("q0", 0)), "a/2.png": encoded(photo("q0", 1))})
    monkeypatch.setattr("curation.looks.read_picture", lambda *_: pytest.fail("a photo was opened"))
    line = error_of([str(photos), str(tmp_path / "out"), *GIVEN, *more], capsys)
    assert all(word in line for word in words), line


def test_switches_need_no_value_and_a_file_may_hold_all(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "source: studio\nlicence: own\nconsent: signed\nobjects: true\nshares: [0, 0, 1]\n"
    )
    given = make_parser().parse_args(["photos", "out", "--config", str(tmp_path / "c.yaml"), "--test_only"])
    assert given.objects and given.test_only and not given.download
    assert (given.photos, given.source, given.shares) == ("photos", "studio", [0, 0, 1])


def test_a_run_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = people(tmp_path / "photos", ["q0", "q1"], 3)
    arguments = [str(photos), str(tmp_path / "out"), *GIVEN, "--faces", str(FACES_A), "--test_only"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "kept 6 photos of 2 subjects (2 test)" in said
    assert "can feed evaluation" in said and "2 references, 4 held-out photos" in said
    assert "cannot feed pose and background experts" in said
    assert (tmp_path / "out" / "report.html").is_file()


def test_photos_of_which_none_is_left_are_a_mistake_with_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write(tmp_path / "photos", {"a/1.jpg": "text", "a/2.jpg": "text"})
    assert main([str(photos), str(tmp_path / "out"), *GIVEN, "--objects"]) == 2
    said = capsys.readouterr()
    assert "dropped 2 unreadable" in said.out
    assert f"error: no photo is left to make a dataset of: see {tmp_path}/out/report.html" in said.err
    assert "a/2.jpg" in (tmp_path / "out" / "report.html").read_text()


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, curate\ntry:\n    curate.main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({'torch', 'cv2', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--consent" in done.stdout


def test_a_run_that_is_stopped_leaves_nothing_half_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = people(tmp_path / "photos", ["q0", "q1"], 4)
    for number in range(40):  # the same photo many times: quick to make, slow to look at
        data = (photos / "q0" / "00.png").read_bytes()
        (photos / "q0" / f"copy {number}.png").write_bytes(data + number.to_bytes(2, "big"))
    arguments = [str(photos), str(tmp_path / "out"), *GIVEN, "--faces", str(FACES_A), "--test_only"]
    with subprocess.Popen([sys.executable, "curate.py", *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "0/48" not in said:
            letter = process.stderr.read(1)
            assert letter, said
            said += letter
        process.send_signal(signal.SIGTERM)
        said += process.stderr.read()
    assert process.returncode == 130, said
    assert said.rstrip().endswith("stopped: what is done is kept; the same command goes on from here")
    assert not (tmp_path / "out" / "data").exists()
    assert main(arguments) == 0
    done = capsys.readouterr().out
    assert "kept 8 photos" in done and "dropped 40 near-duplicate" in done
