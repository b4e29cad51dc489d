"""The exact claims on a tiny module, and the measured ones on numbers made up so that each holds or fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from claims import pidiff, pidiff_exact
from claims.checks import less, line
from claims.edited import EditMeasurements, EditSampler, of_rows, settings, unchanged
from claims.measurements import pose_reader
from claims.run_pair import check_pair
from contracts.errors import LikenessError
from datamodules.subjects import load_subjects
from networks.face_analysis import FacePack
from networks.residual_attention import ResidualProjections
from networks.sampler import SamplingSettings
from pocket.tiny.components import SIDE
from tests.tools.test_edit_faces import World
from tools.edit_faces.editor import Editor, people_of

FEW = SamplingSettings("ddim", steps=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("claims"))


@pytest.fixture
def editor(world: World) -> Editor:
    return Editor(str(world.run), world.directions, FacePack(world.faces), FEW)


def test_the_exact_claims_hold_and_the_run_is_as_before(world: World, editor: Editor) -> None:
    state = {name: value.clone() for name, value in editor.module.adapter().state_dict().items()}
    codes = torch.ones(1, 10, 8)
    before = pidiff_exact.generate_codes(editor.module, codes, pidiff_exact.PROMPT, "person", ("x",))
    checks = pidiff_exact.exact_checks(editor.module, str(world.base))
    assert [check.claim[:2] for check in checks] == ["W1", "W2", "W3", "W3", "W4", "W4", "W4", "W5"]
    assert [check.claim for check in checks if not check.holds] == []
    assert [check.left for check in checks[2:4]] == [7_079_424, 31_559_680]
    assert all(torch.equal(value, state[name]) for name, value in editor.module.adapter().state_dict().items())
    assert np.array_equal(
        pidiff_exact.generate_codes(editor.module, codes, pidiff_exact.PROMPT, "person", ("x",)), before
    )


def test_a_mapper_with_a_bias_of_its_own_breaks_w2(editor: Editor) -> None:
    editor.module.mapper.project["middle"].bias = torch.nn.Parameter(torch.arange(32.0))
    assert not pidiff_exact.mapper_checks(editor.module)[0].holds


def test_a_query_that_learns_in_stage_two_breaks_w4(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ResidualProjections, "query", lambda self, x: self.to_q(x))
    assert [check.holds for check in pidiff_exact.learning_checks(editor.module)] == [True, True, False, True]


def test_sweeps_and_edits_are_measured_on_test_subjects(world: World, editor: Editor) -> None:
    people = people_of(str(world.dataset), 2, SIDE, editor.faces)
    sampler = EditSampler(editor, people, 2, pose_reader(editor.faces, load_subjects(str(world.dataset), 2, SIDE)))
    with settings(editor.module, scale=0.0):
        base = sampler.generate(editor.module, unchanged)
    assert base.shape == (4, SIDE, SIDE, 3)
    rows, checks = pidiff.sweep_checks(sampler)
    assert rows["scale 0"].mean("inside") == rows["scale 0"].mean("outside") == 0.0 < rows["scale 1"].mean("inside")
    assert same(rows["delay 0"], rows["scale 1"]) and len(checks) == 4
    edited, checks = pidiff.edit_checks([sampler], [editor.module])
    assert {"with: smiling-2", "without: smiling+2", "mix fine", "mix middle", "coarse rows, equal step"} <= set(edited)
    assert same(edited["with: smiling+2"], edited["without: smiling+2"]) and len(checks) == 8
    reworded = edited["base: a shirt is named"]
    assert reworded.mean("inside") > 0.0 and editor.module.scale == 1.0, "other words, and the base model's alone"
    assert not checks[-1].holds and "2 subjects are too few" in line(checks[-1])
    assert checks[-1].left == checks[-1].right, "a run against itself"
    own = sampler.measure(base, base)
    other = sampler.measure(base, base, whose=1)
    expected = [float(e @ people[1].gallery) for e in editor.faces.judge(base).embeddings[:2]]
    expected += [float(e @ people[0].gallery) for e in editor.faces.judge(base).embeddings[2:]]
    assert other.identity == pytest.approx(np.reshape(expected, (2, 2)).mean(axis=1), abs=1e-6)
    assert own.mean("turn") == 0.0


def test_a_step_of_equal_length() -> None:
    own = torch.zeros(10, 8)
    other = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    fine = of_rows(8, 10)(own, other)
    coarse = of_rows(0, 4, norm_of=(8, 10))(own, other)
    assert fine[:8].eq(0).all() and coarse[4:].eq(0).all()
    torch.testing.assert_close(fine.norm(), coarse.norm())


TURN = 8.0
"""Degrees by which the made up pose reader is off."""
SUBJECTS = np.linspace(-1.0, 1.0, 6)
"""What sets six subjects apart, in every image of theirs."""
STILL = {"identity": 0.5, "inside": 0.2, "outside": 0.1, "colour": 0.05, "turn": 1.0}


def measured(**changes: float) -> EditMeasurements:
    return EditMeasurements(**{name: value * (1 + 0.3 * SUBJECTS) for name, value in (STILL | changes).items()})


def same(a: EditMeasurements, b: EditMeasurements) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in STILL)


SCALES = [measured(identity=i / 10, outside=i / 100) for i in range(4)]
DELAYS = [measured(identity=0.4 - i / 10, outside=0.1 - i / 100) for i in range(4)]


def test_sweeps_in_the_right_direction_hold() -> None:
    assert all(check.holds for check in pidiff.compare_sweeps(SCALES, DELAYS))


@pytest.mark.parametrize("sweep", ["scales", "delays"])
@pytest.mark.parametrize(("field", "place"), [("identity", 0), ("outside", 1)])
def test_a_step_back_beyond_the_noise_is_wrong(sweep: str, field: str, place: int) -> None:
    wrong = {"scales": list(SCALES), "delays": list(DELAYS)}
    back = -0.3 if sweep == "scales" else 0.3
    wrong[sweep][2] = replace(wrong[sweep][2], **{field: getattr(wrong[sweep][2], field) + back})
    checks = pidiff.compare_sweeps(**wrong)
    expected = place + (2 if sweep == "delays" else 0)
    assert [i for i, check in enumerate(checks) if not check.holds] == [expected]


ROWS = {
    "with: unedited": measured(),
    "with: another person": measured(outside=0.05),
    "with: smiling-2": measured(outside=0.02),
    "with: smiling+2": measured(outside=0.03),
    "without: another person": measured(outside=0.10),
    "without: smiling-2": measured(outside=0.05),
    "without: smiling+2": measured(outside=0.06),
    "mix fine": measured(identity=0.45, colour=0.05, turn=1.0),
    "mix middle": measured(identity=0.2),
    "coarse rows, equal step": measured(identity=0.3, turn=9.0),
}


def test_edits_in_the_right_direction_hold() -> None:
    assert all(check.holds for check in (*pidiff.compare_edits(ROWS, TURN), *pidiff.compare_runs(ROWS)))


@pytest.mark.parametrize(
    ("row", "change", "claims"),
    [
        (
            "with: another person",
            {"outside": 0.2},
            [
                "P2 another person changes less outside the head with it",
                "P2 and a smaller part of the change is outside",
            ],
        ),
        ("mix fine", {"colour": 0.001}, ["P1 an edit of the fine rows changes the head's colour"]),
        (
            "mix fine",
            {"turn": 8.5},
            ["P1 and leaves the pose: degrees by which the head turned, and the reader's error"],
        ),
        ("coarse rows, equal step", {"turn": 0.5}, ["P1 fine rows turn the head less than coarse ones"]),
        ("coarse rows, equal step", {"identity": 0.49}, ["C4 fine rows cost less identity than coarse ones"]),
        ("mix middle", {"identity": 0.5}, ["P3 mixing in the fine rows costs less identity than from the middle on"]),
        ("with: smiling+2", {"outside": 0.2}, ["W7 edits change less outside the head with the disentanglement loss"]),
        ("with: another person", {"inside": 0.01}, ["P2 and a smaller part of the change is outside"]),
    ],
)
def test_a_wrong_direction_is_named(row: str, change: dict, claims: list[str]) -> None:
    rows = ROWS | {row: replace(ROWS[row], **{name: getattr(measured(**change), name) for name in change})}
    checks = (*pidiff.compare_edits(rows, TURN), *pidiff.compare_runs(rows))
    assert [check.claim for check in checks if not check.holds] == claims


def test_a_direction_that_a_few_subjects_make_is_open() -> None:
    """The mean over subjects is lower with the loss, by one subject of six."""
    lucky = ROWS["without: another person"].outside.copy()
    lucky[0] -= 0.05
    rows = ROWS | {"with: another person": replace(ROWS["with: another person"], outside=lucky)}
    (check,) = [c for c in pidiff.compare_runs(rows) if c.claim.startswith("P2 another")]
    assert check.left < check.right and not check.holds
    assert line(check).startswith("open ") and line(check).endswith("no margin, they cannot be told apart")
    clear = next(c for c in pidiff.compare_runs(ROWS) if c.claim.startswith("P2 another"))
    assert line(clear).startswith("holds ") and "difference -0.05 [" in line(clear)
    back = next(c for c in pidiff.compare_runs(swapped()) if c.claim.startswith("P2 another"))
    assert line(back).startswith("does not hold ")


def swapped() -> dict[str, EditMeasurements]:
    """The two runs in each other's place."""
    other = {"with": "without", "without": "with"}
    runs = {name: row for name, row in ROWS.items() if name.split(":")[0] in other and "unedited" not in name}
    return ROWS | {f"{other[name.split(':')[0]]}:{name.split(':')[1]}": row for name, row in runs.items()}


def test_one_subject_tells_nothing_apart() -> None:
    check = less("x", np.array([0.1]), np.array([0.2]))
    assert not check.holds and check.verdict == "open" and "1 subjects are too few" in line(check)


def config(folder: Path, **changes: object) -> Path:
    arguments = {"backbone": "b", "disentanglement_weight": 0.5} | changes.pop("model", {})  # type: ignore[operator]
    data = {"seed": 0, "validation": {"prompts": ["a <subject>"]}} | changes
    folder.mkdir()
    settings = {"output": str(folder), "seed_everything": 0, "data": data, "trainer": {"max_steps": 9, "devices": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"model": {"init_args": arguments}}))
    return folder


def test_the_runs_that_are_compared_differ_in_the_weight_only(tmp_path: Path) -> None:
    run = config(tmp_path / "run")
    none = {"model": {"disentanglement_weight": 0.0}}
    claim = ("disentanglement_weight", 0)
    check_pair(run, config(tmp_path / "without", **none, validation={"prompts": []}), *claim)
    with pytest.raises(LikenessError, match=r"differs from --run in data\.seed too: train it with --config"):
        check_pair(run, config(tmp_path / "seed", **none, seed=1), *claim)
    with pytest.raises(LikenessError, match=r"is 0\.5 in --run and 0\.5 in --without"):
        check_pair(run, config(tmp_path / "same"), *claim)
    with pytest.raises(LikenessError, match="is not a run folder of train"):
        check_pair(run, tmp_path / "nowhere", *claim)


def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["claims", "--run", str(tmp_path), "--directions", "x"])
    assert pidiff.main() == 2
    assert capsys.readouterr().err.startswith("error: ")
