"""The short training of a trial, made of the configuration of a whole one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.search import setting
from datamodules.index import load_photos
from datamodules.sources import find_shards

TRIALS, SHARE, SUBJECTS = 8, 6, 8
"""What every method gets: so many trials of at most a sixth of its training, judged on so many subjects or more."""


@dataclass(frozen=True)
class Short:
    """``arguments`` of ``train.py`` that shorten a training to ``steps``, judged half-way and at its end."""

    arguments: tuple[str, ...]
    steps: int
    subjects: int


def shorten(config: Mapping[str, Any]) -> Short:
    """The short training for a resolved configuration.

    A method that optimises its subjects does so on subjects of the validation split, each a sixth of its steps.

    Raises:
        LikenessError: the configuration validates nothing, has no number of steps, or too few validation subjects.
    """
    if not setting(config, "data.validation.prompts") or not config.get("judges"):
        raise LikenessError("a search needs a validation: give judges and data.validation.prompts")
    subjects = max(SUBJECTS, setting(config, "data.validation.subjects"))
    given: dict[str, Any] = {"data.validation.subjects": subjects, "keep_adapters": 1}
    if setting(config, "data.enrolment"):
        steps = given["data.enrolment.steps"] = setting(config, "data.enrolment.steps") // SHARE
        # At once, as only subjects of the first group are validated.
        given |= {"data.subjects": validation_subjects(config, subjects), "data.enrolment.at_once": subjects}
    else:
        whole = setting(config, "trainer.max_steps")
        if not isinstance(whole, int) or whole < 0:
            raise LikenessError("a search needs trainer.max_steps, of which a trial takes a sixth")
        steps = given["trainer.max_steps"] = whole // SHARE
        if first := setting(config, "data.first_stage.steps"):
            given["data.first_stage.init_args.steps"] = first // SHARE
    if steps < 2:
        raise LikenessError(f"a sixth of the training is {steps} steps, too few to be judged half-way")
    given |= {"trainer.val_check_interval": steps // 2, "checkpoint_every": steps}
    return Short(tuple(f"--{key}={_word(value)}" for key, value in given.items()), steps, subjects)


def validation_subjects(config: Mapping[str, Any], count: int) -> list[str]:
    """The first ``count`` subjects, in sorted order, of the validation split.

    Raises:
        LikenessError: there are fewer.
    """
    source, cache = setting(config, "data.source"), setting(config, "data.cache_dir")
    photos = load_photos(find_shards(source, cache), cache_folder(cache))
    names = sorted({photo.subject_id for photo in photos if photo.split == "val"})
    if len(names) < count:
        raise LikenessError(f"the validation split of {source!r} has {len(names)} subjects, a search needs {count}")
    return names[:count]


def command(configs: Sequence[Path], rest: Sequence[str]) -> list[str]:
    """``train.py`` as a trial and its owner both start it."""
    return [*(word for config in configs for word in ("--config", str(config))), *rest]


def _word(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
