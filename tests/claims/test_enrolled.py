"""What the images of a run show, subject by subject, judged on a world of the smallest size."""

from typing import Any

import numpy as np
import pytest
import torch

from claims import enrolled
from claims.enrolled import ProtocolSampler
from contracts.prompts import PLACEHOLDER
from datamodules.subjects import load_subjects
from leaderboard.generate.generation import PromptOnly
from leaderboard.plan.prompts import read_prompts
from metrics.functional.clip_t import clip_t
from networks.clip_judge import ClipJudge
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from pocket.tiny.components import SIDE
from pocket.tiny.world import TinyWorld
from tests.helpers.enrolment import NAMES


@pytest.fixture
def sampler(tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> ProtocolSampler:
    """Of two test subjects, two samples a prompt."""
    monkeypatch.setattr(
        enrolled, "load_subjects", lambda _, names, side: load_subjects(str(tiny_world.dataset), names, side)
    )
    monkeypatch.setattr(enrolled.paths, "FACES_B", tiny_world.faces)
    monkeypatch.setattr(enrolled.paths, "CLIP", tiny_world.clip)
    return ProtocolSampler(NAMES[:2], 2, SIDE)


def test_every_prompt_is_generaten_for_every_subject(sampler: ProtocolSampler, tiny_world: TinyWorld) -> None:
    floor = PromptOnly(str(tiny_world.base)).eval()
    floor.sampling = SamplingSettings("ddim", steps=1)
    measured = sampler.measure(floor)
    prompts = read_prompts(enrolled.PROMPTS)
    assert set(measured.prompt) == {prompt.prompt_class for prompt in prompts} | {"all"}
    assert all(
        values.shape == (2,) and np.isfinite(values).all() for values in (measured.identity, *measured.prompt.values())
    )
    counts = {name: sum(prompt.prompt_class == name for prompt in prompts) for name in measured.prompt if name != "all"}
    expected = sum(count * measured.prompt[name] for name, count in counts.items()) / len(prompts)
    np.testing.assert_allclose(measured.prompt["all"], expected)


def test_each_subject_is_judged_by_its_own_images(
    sampler: ProtocolSampler, tiny_world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first subject a held-out photo is measured, of the second one the dark, where no face is found."""
    photos = sampler.subjects[0].held_out

    def generate(self: ProtocolSampler, module: object, part: list[tuple[Any, ...]]) -> np.ndarray:
        return np.stack([photos[0] if s.id == NAMES[0] else np.zeros_like(photos[0]) for s, _, _ in part])

    monkeypatch.setattr(ProtocolSampler, "_generate", generate)
    measured = sampler.measure(PromptOnly(str(tiny_world.base)))
    faces = FacePack(str(tiny_world.faces)).judge(photos).embeddings
    assert measured.identity == pytest.approx([np.mean(faces @ faces[0]), 0.0], abs=1e-6)
    clip = ClipJudge(str(tiny_world.clip))
    noun = sampler.subjects[0].noun
    texts = [p.text for p in read_prompts(enrolled.PROMPTS) if p.prompt_class == "accessory"]
    words, _ = clip.text_features([text.replace(PLACEHOLDER, noun) for text in texts])
    wanted = clip_t(clip.image_features(photos[:1]).expand(len(texts), -1), words)
    assert len(texts) == 2 and measured.prompt["accessory"][0] == pytest.approx(float(torch.mean(wanted)), abs=1e-5)
