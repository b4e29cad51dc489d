"""What is worth a word before anything is generated."""

from pathlib import Path

import pytest
import yaml

from evaluate import main
from tests.leaderboard.conftest import PROMPTS, World


def test_prompt_classes_that_weigh_unequally_are_noted(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"id": "snow", "class": "scene", "text": "a photo of a <subject>, in the snow"}
    note = "2 scene, 1 style, 1 accessory): read the values by class"
    for prompts, noted in ((PROMPTS, False), ([*PROMPTS, more], True)):
        file = tmp_path / "prompts.yaml"
        file.write_text(yaml.safe_dump({"prompts": prompts}))
        config = world.change(prompts=str(file), subjects=1, samples=1)
        output = tmp_path / f"results-{len(prompts)}"
        assert main(["--config", str(config), "--output", str(output), "--stage", "generate"]) == 0
        assert (note in capsys.readouterr().out) is noted
