"""What judges make of spoilt faces: judged once for each judge, told on the board, kept when results are packed."""

import json
from pathlib import Path

import pytest
import yaml

from contracts.errors import LikenessError
from evaluate import main
from leaderboard.report.packing import packed_files
from leaderboard.results.archive import unpack, write_archive
from leaderboard.results.calibration import read_calibration
from leaderboard.results.folder import Results
from leaderboard.score.calibration import PHOTOS, SPOILS
from pocket.models.paths import DET_SIZE, FACES_B
from tests.leaderboard.conftest import World

REPORT = [f"leaderboard.{end}" for end in ("json", "csv", "md", "tex", "html")]


@pytest.fixture(scope="module")
def config(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evaluation of the tiny world, judged by the pocket pack that reads faces."""
    data = yaml.safe_load(world.config.read_text())
    data["judges"] |= {"faces": str(FACES_B), "det_size": [DET_SIZE]}
    path = tmp_path_factory.mktemp("calibration") / "evaluation.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def results(config: Path) -> Results:
    output = config.parent / "results"
    assert main(["--config", str(config), "--output", str(output)]) == 0
    return Results(output)


def board(results: Results) -> dict:
    return json.loads((results.root / "leaderboard.json").read_text())


def test_a_board_tells_what_its_judges_make_of_spoilt_faces(results: Results) -> None:
    told = board(results)["calibration"]
    assert told["photos"] == 2 * PHOTOS and told == read_calibration(results)
    rows = {row.pop("photos"): row for row in told["rows"]}
    assert list(rows) == ["untouched", *SPOILS]
    names = ["detection_rate", "face_complete", "identity_misses_zero"]
    assert all(list(row) == names for row in rows.values())
    whole = rows["untouched"]
    assert whole["detection_rate"] == 1.0 and whole["identity_misses_zero"] > 0.5
    for name in ("inner face painted over", "inner face blurred"):
        # Of eight photos two at most; tests of the pack have more of them, and its own bound.
        assert rows[name]["detection_rate"] <= 0.25 and rows[name]["identity_misses_zero"] < 0.1, name
    assert rows["eyes painted over"]["face_complete"] <= 0.125 < whole["face_complete"]
    assert rows["face in another's colour"]["identity_misses_zero"] < whole["identity_misses_zero"] - 0.1


def test_markdown_and_page_show_it(results: Results) -> None:
    markdown, page = ((results.root / f"leaderboard.{end}").read_text() for end in ("md", "html"))
    for text in ("The judges on spoilt faces", "inner face painted over"):
        assert text in markdown and text in page
    assert f"{2 * PHOTOS} photos of the subjects" in markdown


def test_it_is_made_once_and_again_for_other_judges(results: Results, config: Path) -> None:
    before = results.calibration.stat().st_mtime_ns
    assert main(["--config", str(config), "--output", str(results.root), "--stage", "score"]) == 0
    assert results.calibration.stat().st_mtime_ns == before
    whole = results.calibration.read_text()
    results.calibration.write_text(json.dumps(json.loads(whole) | {"of": "others"}))
    assert read_calibration(results) is None, "of other judges nothing is told"
    assert main(["--config", str(config), "--output", str(results.root), "--stage", "score"]) == 0
    assert results.calibration.read_text() == whole


def test_two_processes_write_the_same(results: Results, config: Path, tmp_path: Path) -> None:
    given = ["--config", str(config), "--output", str(tmp_path / "two"), "--trainer.devices", "2"]
    assert main([*given, "--trainer.strategy", "ddp_fork"]) == 0
    assert Results(tmp_path / "two").calibration.read_bytes() == results.calibration.read_bytes()


def test_packed_results_keep_it(results: Results, tmp_path: Path) -> None:
    before = {name: (results.root / name).read_bytes() for name in REPORT}
    write_archive(tmp_path / "packed.tar.xz", packed_files(results))
    unpack(tmp_path / "packed.tar.xz", tmp_path / "again")
    assert main(["--stage=report", f"--output={tmp_path / 'again'}"]) == 0
    assert {name: (tmp_path / "again" / name).read_bytes() for name in REPORT} == before


@pytest.mark.parametrize("damage", ["{", '{"of": 1}', '{"of": "OF", "photos": 8, "rows": [{}]}', '{"of": "OF"}'])
def test_a_damaged_file_is_one_line(results: Results, tmp_path: Path, damage: str) -> None:
    import shutil

    copy = Results(shutil.copytree(results.root, tmp_path / "copy"))
    copy.calibration.write_text(damage.replace("OF", copy.judged_by()))
    if '"of": 1' in damage:
        assert read_calibration(copy) is None
        return
    with pytest.raises(LikenessError, match=r"calibration\.json.*remove it and score again") as caught:
        read_calibration(copy)
    assert "\n" not in str(caught.value)
