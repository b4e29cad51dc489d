"""``--verify``: every kind of change is found, and an untouched folder passes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from contracts.errors import LikenessError
from contracts.files import write_json
from leaderboard.report.report import write_report
from leaderboard.results.folder import Results
from leaderboard.verify import verify
from lightning_modules.run import Run
from networks.fingerprints import folder_fingerprint
from tests.helpers.boards import make_results, page_of

SETTINGS = "model: {class_path: lightning_modules.PIDiff, init_args: {scale: 1.0}}"
PARTS = {"base": "protocol.backbone", "clip": "judges.clip", "faces": "judges.faces"}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A finished evaluation of two runs whose adapters are still there, as are the judges and the base model."""
    made = make_results(tmp_path / "results")
    sources = {}
    for part, key in PARTS.items():
        folder = tmp_path / "weights" / part
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(part.encode())
        sources[key] = {"source": str(folder), "sha256": folder_fingerprint(folder)}
    write_json(made.sources, sources)
    for label in ("ours", "theirs"):
        adapter = tmp_path / label / "adapter.safetensors"
        adapter.parent.mkdir()
        adapter.write_bytes(label.encode())
        path = made.entry(label).root / "entry.json"
        about = json.loads(path.read_text())
        weights = hashlib.sha256(label.encode()).hexdigest()
        (adapter.parent / "config.yaml").write_text(SETTINGS)
        facts = {"weights": weights, "folder": str(adapter.parent), "settings": Run(adapter.parent).settings_hash}
        write_json(path, about | facts)
    write_report(made)
    return made


def test_an_untouched_folder_passes(results: Results) -> None:
    verdict = verify(results)
    assert (verdict.problems, verdict.unchecked) == ([], [])
    assert (verdict.entries, verdict.images, verdict.weights) == (4, 32, 5)
    assert {path.name for path in results.root.glob("leaderboard.*")} == {
        f"leaderboard.{end}" for end in ("json", "csv", "md", "tex", "html")
    }


def change_image(results: Results) -> str:
    results.entry("ours").image("s1.beach.00").write_bytes(results.reference("s1").read_bytes())
    return "s1.beach.00.png is not the image that was scored"


def lose_image(results: Results) -> str:
    results.entry("ours").image("s1.beach.00").unlink()
    return "s1.beach.00.png is missing"


def add_image(results: Results) -> str:
    results.entry("ours").image("s9.beach.00").write_bytes(b"")
    return "s9.beach.00.png is not in the plan"


def change_score(results: Results) -> str:
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"clip_t":0.24', '"clip_t":0.94', 1))
    return "records.jsonl was changed after the report"


def change_table(results: Results) -> str:
    path = results.root / "leaderboard.json"
    board = json.loads(path.read_text())
    board["entries"][1]["metrics"]["clip_t"]["value"] = 0.99
    write_json(path, board)
    return "leaderboard.json does not follow from the records"


def change_photo(results: Results) -> str:
    results.reference("s1").write_bytes(results.reference("s2").read_bytes())
    return "was changed"


def change_gallery(results: Results) -> str:
    tensors = {name: tensor + 1e-3 for name, tensor in load_file(results.galleries).items()}
    save_file(tensors, results.galleries)
    return "galleries.safetensors or a photo"


def change_weights(results: Results) -> str:
    (results.root.parent / "ours" / "adapter.safetensors").write_bytes(b"other")
    return "weights of ours"


def change_settings(results: Results) -> str:
    (results.root.parent / "ours" / "config.yaml").write_text(SETTINGS.replace("1.0", "1.2"))
    return "config.yaml has other model settings than the images of ours were generated with"


def break_settings(results: Results) -> str:
    (results.root.parent / "ours" / "config.yaml").write_text("model:")
    return "is not a run folder of train.py"


def change_record(results: Results) -> str:
    path = results.entry("ours").root / "records.jsonl"
    path.write_text(path.read_text().replace('"clip_t":0.24', '"clip_t":"high"', 1))
    return "records.jsonl, line 1: the score clip_t is 'high'"


def copy_entry(results: Results) -> str:
    other = make_results(results.root.parent / "other", steps=50)
    shutil.copytree(other.entry("theirs").root, results.entry("copied").root)
    path = results.entry("copied").root / "entry.json"
    write_json(path, {**json.loads(path.read_text()), "label": "copied"})
    return f"copied was generated under protocol {other.protocol().hash}"


@pytest.mark.parametrize(
    "change",
    [
        change_image,
        lose_image,
        add_image,
        change_score,
        change_table,
        change_photo,
        change_gallery,
        change_weights,
        change_settings,
        break_settings,
        change_record,
        copy_entry,
    ],
    ids=lambda change: change.__name__,
)
def test_every_change_is_found(results: Results, change) -> None:  # type: ignore[no-untyped-def]
    message = change(results)
    assert any(message in problem for problem in verify(results).problems), verify(results).problems


def test_weights_that_are_elsewhere_are_not_called_wrong(results: Results) -> None:
    (results.root.parent / "ours" / "adapter.safetensors").unlink()
    verdict = verify(results)
    assert verdict.problems == []
    assert verdict.unchecked == [
        f"weights of ours: {results.root.parent / 'ours' / 'adapter.safetensors'} is not on this machine"
    ]


@pytest.mark.parametrize("listed", [True, False], ids=["beside a manifest", "without a manifest"])
@pytest.mark.parametrize("part", PARTS)
def test_a_changed_judge_or_base_model_is_wrong(results: Results, part: str, listed: bool) -> None:
    weights = results.root.parent / "weights"
    file = weights / part / "model.safetensors"
    if listed:
        about = {"bytes": len(part), "sha256": hashlib.sha256(part.encode()).hexdigest()}
        write_json(weights / "manifest.json", {"files": {f"{part}/model.safetensors": about}})
    assert verify(results).problems == []
    file.write_bytes(part.upper().encode())
    verdict = verify(results)
    (problem,) = verdict.problems
    assert problem.startswith(f"weights of {PARTS[part]}: {file.parent} is ") and verdict.unchecked == []
    shutil.rmtree(file.parent)
    verdict = verify(results)
    assert verdict.problems == []
    assert verdict.unchecked == [f"weights of {PARTS[part]}: {file.parent} is not on this machine"]


def test_what_no_list_of_sources_names_is_not_called_checked(results: Results) -> None:
    results.sources.unlink()
    verdict = verify(results)
    assert (verdict.problems, verdict.weights) == ([], 2)
    assert verdict.unchecked == [f"weights of base model and judges: {results.sources} is missing"]
    write_json(results.sources, {"judges.clip": {"source": "here"}})
    with pytest.raises(LikenessError, match=r"sources\.json is damaged \(KeyError: 'sha256'\)"):
        verify(results)


@pytest.mark.parametrize(
    "board", [{}, [], 3, {"protocol": [], "entries": []}, {"protocol": {}, "entries": [{}]}], ids=str
)
def test_a_table_that_is_none_is_one_line(results: Results, board: object) -> None:
    path = results.root / "leaderboard.json"
    write_json(path, board)
    (problem,) = verify(results).problems
    assert problem.startswith(f"{path} is damaged (") and problem.endswith("): run `--stage report`")


def test_a_protocol_that_is_none_is_one_line(results: Results) -> None:
    write_json(results.root / "protocol.json", [])
    with pytest.raises(LikenessError, match=r"^protocol\.json is damaged"):
        verify(results)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("stages.json", {}),
        ("stages.json", [{}]),
        ("stages.json", [{"stage": "score", "batch_size": "4", "packages": {}}]),
        ("timings/enrolment.json", []),
        ("timings/enrolment.json", {}),
        ("timings/enrolment.json", {"seconds": "long"}),
        ("timings/enrolment.json", {"seconds": -1}),
    ],
    ids=str,
)
def test_facts_that_are_none_are_one_line(results: Results, name: str, content: object) -> None:
    path = results.entry("prompt-only").root / name
    write_json(path, content)
    (problem,) = verify(results).problems
    assert problem.startswith(f"{path} is damaged: ") and problem.endswith("; remove it")


def test_the_written_page_is_the_one_of_the_board(results: Results) -> None:
    board = json.loads((results.root / "leaderboard.json").read_text())
    assert (results.root / "leaderboard.html").read_text() == page_of(results, board)
