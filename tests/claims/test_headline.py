"""``python -m claims.headline`` on made-up results, whose scores are of our choosing."""

import json
from pathlib import Path

import numpy as np
import pytest

from claims import headline
from claims.effects import paired_effect, unpaired_effect
from contracts.files import write_json
from leaderboard.results.folder import Results
from tests.helpers.boards import FIT, IDENTITY, KINDS, SIX, make_results

SCORES = {
    "spotdiff": (0.6, 0.25),
    "ip_adapter": (0.4, 0.2),
    "pidiff": (0.5, 0.249),
    "pidiff@2": (0.7, 0.22),
    "wplus_adapter": (0.3, 0.249),
    "wplus_adapter@2": (0.4, 0.22),
    "sefi_ide": (0.5, 0.22),
    "textual_inversion": (0.3, 0.2),
    "dreambooth_lora": (0.5, 0.24),
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    for label, (identity, fit) in SCORES.items():
        monkeypatch.setitem(IDENTITY, label, identity)
        monkeypatch.setitem(FIT, label, fit)
    monkeypatch.setattr(headline, "_training_photos", lambda row: 10_000)
    found = make_results(tmp_path, kinds=KINDS | dict.fromkeys(SCORES, "method"), subjects=SIX)
    for label in SCORES:
        path = found.entry(label).entry_file
        entry = json.loads(path.read_text())
        seconds = {"spotdiff": 0.1, "sefi_ide": 30.0, "textual_inversion": 0.05}.get(label)
        entry["manifest"] = {**entry["manifest"], "enrol_seconds": seconds}
        if label.partition("@")[0] in ("pidiff", "wplus_adapter"):
            entry["knob"] = {"name": "scale", "value": float(label.partition("@")[2] or 1)}
        write_json(path, entry)
    return found


def verdicts(text: str) -> dict[str, str]:
    return {line[14:].split(":")[0]: line[:13].strip() for line in text.splitlines() if "against" in line}


def test_each_claim_is_decided_on_the_board(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert headline.main(["--results", str(results.root)]) == 1
    told = capsys.readouterr().out
    found = verdicts(told)
    assert found["SpotDiff preserves more identity than IP-Adapter"] == "holds"
    assert found["SpotDiff edits better than IP-Adapter"] == "holds"
    assert found["SpotDiff enrols faster than sefi_ide, in seconds"] == "holds"
    assert found["SpotDiff enrols faster than textual_inversion, in seconds"] == "does not hold"
    assert found["SpotDiff learnt from 10,000 photos at most"] == "holds"
    assert found["PIDiff has more identity than wplus_adapter where both keep 95% of the prompt"] == "holds"
    assert found["SeFi-IDE has more identity than textual_inversion"] == "holds"
    assert found["SeFi-IDE has more identity than dreambooth_lora"] != "holds"
    assert found["SeFi-IDE fits prompts better than dreambooth_lora"] == "does not hold"
    left_out = told.splitlines()[-1]
    assert "PIDiff against ip_adapter_faceid" in left_out and "--protocol.nobody" in left_out


def test_entries_may_have_other_labels(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--results", str(results.root), "--label", "spotdiff=theirs", "sefi_ide=ours"]
    assert headline.main(words) == 1
    assert verdicts(capsys.readouterr().out)["SpotDiff preserves more identity than IP-Adapter"] == "does not hold"
    for wrong, said in (("spotdiff=nobody", "'nobody' is no entry of"), ("spot=ours", "give NAME=LABEL")):
        assert headline.main(["--results", str(results.root), "--label", wrong]) == 2
        assert said in capsys.readouterr().err


def test_trainings_of_two_methods_have_nothing_in_common() -> None:
    rng = np.random.default_rng(0)
    subjects = rng.normal(0, 0.1, 25)
    ours, theirs = (subjects + rng.normal(0, 0.02, (k, 1)) + rng.normal(0, 0.05, (k, 25)) for k in (3, 2))
    found = unpaired_effect(ours + 0.3, theirs)
    assert (found.subjects, found.seeds) == (25, 2)
    assert found.low is not None and found.high is not None and found.low < 0.3 < found.high
    one, other = unpaired_effect(ours[:1], theirs[:1]), paired_effect(ours[0], theirs[0])
    assert one.difference == pytest.approx(other.difference) and one.low == pytest.approx(other.low)
    ours[0, 3] = np.nan
    assert unpaired_effect(ours, theirs).subjects == 24
    assert unpaired_effect(ours[:, :4], theirs[:, :4]).low is None
