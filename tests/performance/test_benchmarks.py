"""A ratio means something only where both sides do the same work: they must end with the same numbers."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from networks.backbone import Backbone
from networks.clip_image import ClipImageEncoder
from networks.sampler import SamplingSettings
from performance import __main__ as command
from performance import batched_enrolment, cached_encoders, generation, models, training_step
from performance.timing import Result

pytestmark = pytest.mark.skipif(not models.BASE.is_dir(), reason="the pocket models are not there")
Models = tuple[Backbone, ClipImageEncoder]


@pytest.fixture(scope="module")
def loaded() -> Models:
    return models.pocket_models()


def test_lightning_and_the_hand_written_loop_end_with_the_same_weights(loaded: Models) -> None:
    backbone, images = loaded
    model = models.spotdiff(copy.deepcopy(backbone), images.width)
    batch = models.pair_batch(model, 8, images.width)
    by_hand = copy.deepcopy(model)
    before = copy.deepcopy(model.adapter().state_dict())
    step = training_step.hand_written(by_hand, batch)
    for _ in range(3):
        step()
    training_step.fit(model, DataLoader([batch] * 3, batch_size=None))  # type: ignore[arg-type]
    expected = by_hand.adapter().state_dict()
    found = model.adapter().state_dict()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6, msg=name)
    assert any(not torch.equal(value, before[name]) for name, value in found.items())


def test_one_call_and_two_calls_give_the_same_latents(loaded: Models) -> None:
    backbone, images = loaded
    model = models.spotdiff(copy.deepcopy(backbone), images.width).eval()
    model.sampling = SamplingSettings(steps=4)
    batch = models.request_batch(model, 1, images.width)
    torch.testing.assert_close(
        generation.one_call(model, batch), generation.two_calls(model, batch), rtol=1e-3, atol=1e-3
    )


def test_images_of_a_batch_are_those_generated_one_by_one(loaded: Models) -> None:
    backbone, images = loaded
    model = models.spotdiff(copy.deepcopy(backbone), images.width).eval()
    model.sampling = SamplingSettings(steps=4)
    batch = models.request_batch(model, 3, images.width)
    together = model.generate(batch)
    for index in range(3):
        alone = model.generate(models.one_request(batch, index))
        assert (alone.int() - together[index : index + 1].int()).abs().max() <= 1


def test_cached_features_are_the_ones_encoded_online(loaded: Models, tmp_path: Path) -> None:
    backbone, images = loaded
    batch = models.pair_batch(models.spotdiff(copy.deepcopy(backbone), images.width), 8, images.width)
    online, cached = (fill(batch) for fill in cached_encoders.fills(backbone, images, tmp_path))
    for first, second in [
        (online.moments, cached.moments),
        (online.text_states.states, cached.text_states.states),
        (online.reference["clip"], cached.reference["clip"]),
        (online.second_view["clip"], cached.second_view["clip"]),
    ]:
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    assert not torch.equal(cached.reference["clip"], cached.second_view["clip"])


@pytest.mark.parametrize(("ratio", "code"), [(1.5, 0), (1.1, 1)])
def test_the_command_writes_the_results_and_fails_with_a_goal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ratio: float, code: int
) -> None:
    row = Result("guidance in one call", 1.0, ratio, ratio, 1.2, "higher", "ms/image", 1.0)
    monkeypatch.setattr(generation, "measure_guidance", lambda: row)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    assert command.main(["guidance"]) == code
    assert json.loads((tmp_path / "results.json").read_text()) == [row.to_json()]


def test_a_benchmark_alone_leaves_the_other_rows_as_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(name: str, ratio: float) -> Result:
        return Result(name, 1.0, ratio, ratio, 1.2, "higher", "ms", 1.0)

    results = tmp_path / "results.json"
    monkeypatch.setattr(command, "RESULTS", results)
    monkeypatch.setattr(
        command, "BENCHMARKS", {name: command.BENCHMARKS[name] for name in ("guidance", "training_step")}
    )
    monkeypatch.setattr(generation, "measure_guidance", lambda: row("guidance in one call", 1.5))
    monkeypatch.setattr(training_step, "measure", lambda: row("training step", 1.1))
    results.write_text(json.dumps([row("of a benchmark that is gone", 1.3).to_json()]))
    assert command.main([]) == 1
    written = json.loads(results.read_text())
    assert [r["name"] for r in written] == ["guidance in one call", "training step"], "a whole run keeps nothing old"
    monkeypatch.setattr(generation, "measure_guidance", lambda: row("guidance in one call", 1.7))
    assert command.main(["guidance"]) == 0, "the exit code is that of what was measured now"
    again = json.loads(results.read_text())
    assert again == [row("guidance in one call", 1.7).to_json(), written[1]]

    results.write_text("[{")
    with pytest.raises(SystemExit) as stop:
        command.main(["guidance"])
    assert stop.value.code == 2
    assert f"{results} is damaged" in capsys.readouterr().err
    assert results.read_text() == "[{"


def test_an_unknown_benchmark_is_an_error_that_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["guidence"])
    assert stop.value.code == 2
    assert "no benchmark is named guidence; there are training_step" in capsys.readouterr().err


def test_subjects_of_a_batch_end_with_the_vectors_they_get_alone() -> None:
    backbone = models.small_backbone()
    subjects = batched_enrolment.SUBJECTS
    together = batched_enrolment.optimise(batched_enrolment.fresh(backbone, subjects), subjects)
    for row, name in zip(together, subjects, strict=True):
        alone = batched_enrolment.optimise(batched_enrolment.fresh(backbone, (name,)), (name,))
        torch.testing.assert_close(alone[0], row, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3
