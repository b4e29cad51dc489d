"""The made-up protocol of benchmarks that work on a results folder; no model is asked for anything."""

from collections.abc import Mapping, Sequence

from contracts.protocol import Prompt, Protocol
from leaderboard.plan.prompts import PROMPT_CLASSES


def made_up_protocol(
    subjects: Mapping[str, str], prompts: Sequence[str], samples: int, resolution: int, metrics: Mapping[str, str]
) -> Protocol:
    """A protocol of class nouns by subject, prompt texts, images of ``resolution`` pixels, and versions by metric.

    The prompts take the prompt classes in turn.
    """
    digits = len(str(len(prompts) - 1))
    return Protocol(
        subjects=dict(subjects),
        prompts=tuple(
            Prompt(f"p{i:0{digits}d}", PROMPT_CLASSES[i % len(PROMPT_CLASSES)], text) for i, text in enumerate(prompts)
        ),
        samples=samples,
        sampler="ddim",
        steps=1,
        guidance=1.0,
        resolution=resolution,
        seed=0,
        backbone="0" * 64,
        photos="0" * 64,
        metrics=metrics,
    )
