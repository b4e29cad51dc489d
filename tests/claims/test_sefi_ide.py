"""Directions on numbers made up so that each of them holds or fails; the exact claims on a tiny base model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from claims import enrolled, sefi_ide, stage_reductions
from claims.checks import line
from claims.enrolled import RunMeasurements
from claims.sefi_ide import Sweep
from contracts.conditioning import Conditioning
from contracts.text import Text
from lightning_modules.sefi_ide import SefiIDE
from networks.text_encoders import TextEncoders
from pocket.tiny.components import tiny_base

SPREAD = np.array([-0.01, -0.005, 0.0, 0.005, 0.01])
"""Five subjects who are alike."""


def measured(identity: float, prompt: float, edits: float = 0.5) -> RunMeasurements:
    return RunMeasurements(identity + SPREAD, {"all": prompt + SPREAD, **dict.fromkeys(sefi_ide.EDITS, edits + SPREAD)})


FLOOR = measured(0.0, 0.6, 0.6)


def sweep(names: list[str], rows: list[RunMeasurements]) -> Sweep:
    return Sweep(names, rows, FLOOR)


WEIGHTS = [
    measured(0.50, 0.40),
    measured(0.45, 0.45),
    measured(0.455, 0.50),
    measured(0.30, 0.55),
    measured(0.10, 0.60),
]
PAIRS = {
    "1 pairs": measured(0.30, 0.5, 0.40),
    "5 pairs": measured(0.35, 0.5, 0.50),
    "10 pairs": measured(0.25, 0.5, 0.55),
}


def failing(checks: list) -> list[str]:
    return [check.claim.split(" ", 1)[1] for check in checks if not check.holds]


def test_the_weights_order_holds_within_the_margin() -> None:
    assert not failing(sefi_ide.weight_checks(sweep(["w"] * 5, WEIGHTS)))


@pytest.mark.parametrize(
    ("place", "value", "claims"),
    [
        (2, measured(0.51, 0.50), ["identity never rises with the weight"]),
        (3, measured(0.30, 0.44), ["prompt fit never falls with the weight"]),
        (
            4,
            measured(0.60, 0.60),
            [
                "identity never rises with the weight",
                "the heaviest weight gives less identity than the lightest",
            ],
        ),
    ],
)
def test_a_weight_out_of_order_is_named(place: int, value: RunMeasurements, claims: list[str]) -> None:
    rows = [*WEIGHTS[:place], value, *WEIGHTS[place + 1 :]]
    assert failing(sefi_ide.weight_checks(sweep(["w"] * 5, rows))) == claims


def test_pairs_are_compared_by_edits_and_identity() -> None:
    whole = sweep(list(PAIRS), list(PAIRS.values()))
    assert not failing(sefi_ide.pair_checks(whole))
    worse = sweep(list(PAIRS), [PAIRS["1 pairs"], measured(0.2, 0.5, 0.3), PAIRS["10 pairs"]])
    assert failing(sefi_ide.pair_checks(worse)) == [
        "one pair follows edits less well than five",
        "ten pairs keep less identity than five",
    ]
    assert str(whole).splitlines()[1].split() == ["1", "pairs", "0.300", "0.833", "0.667"]


def test_a_difference_of_single_subjects_leaves_a_claim_open() -> None:
    """The means are apart as in ``WEIGHTS`` and ``PAIRS``, for the sake of one subject of five."""
    one = np.array([5.0, 0.0, 0.0, 0.0, 0.0])

    def chance(like: RunMeasurements, of: RunMeasurements) -> RunMeasurements:
        prompt = {name: values + (of.prompt[name] - values).mean() * one for name, values in like.prompt.items()}
        return RunMeasurements(like.identity + (of.identity - like.identity).mean() * one, prompt)

    ends = sefi_ide.weight_checks(sweep(["w"] * 5, [*WEIGHTS[:4], chance(WEIGHTS[0], WEIGHTS[4])]))[2:]
    like = PAIRS["5 pairs"]
    pairs = sefi_ide.pair_checks(
        sweep(list(PAIRS), [chance(like, PAIRS["1 pairs"]), like, chance(like, PAIRS["10 pairs"])])
    )
    focus = sefi_ide.focus_check(0.5 + SPREAD + 0.1 * one, 0.5 + SPREAD)
    assert [line(check)[:4] for check in (*ends, *pairs, focus)] == ["open"] * 5
    assert not any(check.holds for check in (*ends, *pairs, focus))


def test_focus_is_compared_by_subject() -> None:
    assert sefi_ide.focus_check(0.6 + SPREAD, 0.5 + 2 * SPREAD).holds
    assert line(sefi_ide.focus_check(0.5 + SPREAD, 0.6 + SPREAD)).split()[:2] == ["does", "not"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_base(tmp_path_factory.mktemp("claims") / "base"))


def test_the_exact_claims_hold_for_random_weights(base: str) -> None:
    assert [check.claim for check in stage_reductions.exact_checks(base) if not check.holds] == []


def test_a_wrong_stage_is_noticed(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Conditioning.at

    def shifted(self: Conditioning, timestep: torch.Tensor) -> object:
        return right(self, (timestep + 1).clamp(max=999))

    monkeypatch.setattr(Conditioning, "at", shifted)
    wrong = [check.claim[:2] for check in stage_reductions.exact_checks(base) if not check.holds]
    assert wrong == ["F3"]


def test_vectors_beside_their_place_are_no_textual_inversion(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the method is at odds with itself in no way."""

    right = TextEncoders.encode_placed

    def beside(self: TextEncoders, ids: Tensor, positions: Tensor, vectors: Tensor) -> Text:
        return right(self, ids, positions + 1, vectors)

    monkeypatch.setattr(TextEncoders, "encode_placed", beside)
    wrong = [check.claim[:2] for check in stage_reductions.exact_checks(base) if not check.holds]
    assert "F2" in wrong


def test_the_command_prints_and_answers(
    base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sefi_ide.paths, "BASE", Path(base))
    monkeypatch.setattr("sys.argv", ["claims.sefi_ide"])
    assert sefi_ide.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and all(line.startswith("holds") for line in lines[:-2])
    assert lines[-2] == "8 holds, 0 does not hold, 0 open"
    assert lines[-1] == "left out: F5, F6, F8 (--work)"


@pytest.mark.parametrize("option", ["--subjects", "--steps", "--samples", "--seeds"])
def test_a_number_below_one_is_refused_at_once(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sefi_ide.paths, "BASE", tmp_path / "nothing is read")
    monkeypatch.setattr("sys.argv", ["claims.sefi_ide", "--work", str(tmp_path / "work"), option, "0"])
    assert sefi_ide.main() == 2
    assert capsys.readouterr().err == f"error: {option} is 0, it must be at least 1\n"
    assert not (tmp_path / "work").exists()


def test_a_mistake_that_the_parser_of_training_wraps_is_one_line(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong_settings(work: Path, *_: object) -> None:
        enrolled.enrolled(work, "run", ["s0225"], {"model.backbone": base, "data.enrolment.steps": 0})

    monkeypatch.setattr(sefi_ide.paths, "BASE", Path(base))
    monkeypatch.setattr(sefi_ide, "trained_checks", wrong_settings)
    monkeypatch.setattr("sys.argv", ["claims.sefi_ide", "--work", str(tmp_path)])
    assert sefi_ide.main() == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: data.enrolment.steps is 0, it must be at least 1"


def test_a_run_is_found_again_until_something_that_decides_it_changes(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(Path(enrolled.CONFIG).read_text())
    monkeypatch.setattr(enrolled, "CONFIG", str(config))
    monkeypatch.setattr(enrolled.paths, "BASE", Path(base))
    monkeypatch.setattr(enrolled.Run, "load", lambda run: SefiIDE(base, attention_side=8))
    trained: list[str] = []

    def train(arguments: list[str]) -> None:
        output = next(Path(a.removeprefix("--output=")) for a in arguments if a.startswith("--output="))
        output.mkdir(parents=True)
        (output / "adapter.safetensors").touch()
        trained.append(output.name)

    monkeypatch.setattr(enrolled.train, "train", train)

    def again(subjects: list[str], **settings: object) -> int:
        """How many runs there are after this one."""
        enrolled.enrolled(tmp_path / "work", "weight", subjects, settings)
        return len(trained)

    assert (again(["a", "b"], w=0.001), again(["a", "b"], w=0.001)) == (1, 1)
    assert (again(["a", "c"], w=0.001), again(["a", "b"], w=0.003)) == (2, 3)
    config.write_text(config.read_text().replace("learning_rate: 5.0e-2", "learning_rate: 1.0e-2"))
    assert (again(["a", "b"], w=0.001), again(["a", "b"], w=0.001)) == (4, 4)
    assert len(set(trained)) == 4
