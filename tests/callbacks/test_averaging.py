"""Averages of the weights (EMA): of what is trained, exact over a resumed run, validated and exported."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import train
from callbacks.averaging import AveragedWeights
from performance.faults.inject import fault
from pocket.tiny.world import TinyWorld

DECAY, STEPS = 0.5, 4


def averaging(name: str = "EMAWeightAveraging", **settings: object) -> dict[str, object]:
    path = "lightning.pytorch.callbacks."
    module = "weight_averaging." if name == "WeightAveraging" else ""
    one = {"class_path": f"{path}{module}{name}", "init_args": settings}
    return {"trainer.callbacks": json.dumps([one]), "trainer.max_steps": STEPS, "checkpoint_every": 1}


def adapter(run: Path, step: int | None = None) -> dict[str, Tensor]:
    name = "adapter.safetensors" if step is None else f"adapters/step-{step:07d}.safetensors"
    return load_file(run / name)


@pytest.fixture(scope="module")
def plain(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without an average."""
    output = tmp_path_factory.mktemp("plain") / "run"
    settings = {"trainer.max_steps": STEPS, "checkpoint_every": 1}
    assert train.main(tiny_world.arguments(output, **settings)) == 0
    return output


@pytest.fixture(scope="module")
def averaged(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("averaged") / "run"
    assert train.main(tiny_world.arguments(output, **averaging(decay=DECAY))) == 0
    return output


def test_the_adapter_is_the_average_of_the_weights_of_all_steps(plain: Path, averaged: Path) -> None:
    expected = adapter(plain, 1)
    for step in range(2, STEPS + 1):
        now = adapter(plain, step)
        expected = {name: DECAY * before + (1 - DECAY) * now[name] for name, before in expected.items()}
    found = adapter(averaged)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(found[name], value) for name, value in adapter(plain).items())
    torch.testing.assert_close(adapter(averaged, STEPS), found, rtol=0, atol=0)


def test_training_goes_on_with_the_weights_themselves(plain: Path, averaged: Path) -> None:
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (plain, averaged)]
    assert not any(name.startswith("backbone.") for name in states[1]["state_dict"])
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name


def test_a_resumed_run_ends_with_the_same_average(tiny_world: TinyWorld, averaged: Path, tmp_path: Path) -> None:
    arguments = tiny_world.arguments(tmp_path / "run", **averaging(decay=DECAY))
    assert train.main([*arguments, *fault("Signal", name="SIGTERM", step=2)]) == 143
    assert train.main(arguments) == 0
    for name, value in adapter(averaged).items():
        assert torch.equal(value, adapter(tmp_path / "run")[name]), name


@pytest.mark.parametrize(
    "changes", [{}, averaging(decay=0.9), averaging("WeightAveraging")], ids=["none", "decay", "kind"]
)
def test_another_average_is_refused_in_the_middle(
    tiny_world: TinyWorld, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, object]
) -> None:
    begun = [
        *tiny_world.arguments(tmp_path / "run", **averaging(decay=DECAY)),
        *fault("Signal", name="SIGTERM", step=1),
    ]
    assert train.main(begun) == 143
    other = {**averaging(decay=DECAY), "trainer.callbacks": "null", **changes}
    assert train.main(tiny_world.arguments(tmp_path / "run", **other)) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert "was trained with trainer.callbacks [" in line and "EMAWeightAveraging" in line, line


def test_the_average_is_what_is_validated(
    tiny_world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights while an image is generated are those of the adapter of that step."""
    seen: list[dict[str, Tensor]] = []
    from lightning_modules.base import PersonalisationModule

    generate = PersonalisationModule.generate

    def watched(self: PersonalisationModule, batch: object) -> Tensor:
        seen.append({name: value.clone() for name, value in self.adapter().state_dict().items()})
        return generate(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(PersonalisationModule, "generate", watched)
    validated = {
        "data.validation.prompts": list(tiny_world.prompts[:1]),
        "trainer.val_check_interval": STEPS,
        "judges.faces": tiny_world.faces,
        "judges.clip": tiny_world.clip,
    }
    assert train.main(tiny_world.arguments(tmp_path / "run", **averaging(decay=DECAY), **validated)) == 0
    assert len(seen) == 1
    for name, value in adapter(tmp_path / "run").items():
        assert torch.equal(value, seen[0][name]), name


def test_what_did_not_change_keeps_every_bit() -> None:
    from lightning.pytorch.callbacks import EMAWeightAveraging

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.nn.Linear(64, 64)

        def adapter(self) -> torch.nn.ModuleDict:
            return torch.nn.ModuleDict({"part": self.part})

    module, averages = Module(), AveragedWeights(EMAWeightAveraging(decay=0.999))
    for _ in range(50):
        averages._update(module)  # type: ignore[arg-type]
    assert torch.equal(averages._average["part.weight"], module.part.weight)
