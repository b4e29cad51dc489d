"""Images of whoever is in a photo: runs x subjects x prompts, without judges, floor or ceiling.

    from leaderboard.generate.own_photos import generate_images

An image is the one that an evaluation would generate for the same subject, prompt, sample and settings in a batch of
the same requests. Its file says how it was made, so files that are there are known again. The output folder holds

images/LABEL/REQUEST.png     every image
images.jsonl                 a line for each of them, made from what the files say
contact_sheet.png            those of the last call, the reference photos first
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from lightning.fabric import Fabric

from contracts.errors import LikenessError
from contracts.files import guard, write_atomically
from contracts.lock import folder_lock
from contracts.protocol import Prompt
from contracts.records import Request
from contracts.settings import GenerationSettings, ProcessSettings
from leaderboard.generate.contact_sheet import Block, Row, make_sheet
from leaderboard.generate.generation import ModelGenerator, cut_into_batches, images_of
from leaderboard.generate.given_subjects import GivenSubject, subject_in_photos, subjects_of_dataset
from leaderboard.generate.own_plan import RunPlan, plan_run
from leaderboard.plan.entries import find_runs
from leaderboard.plan.prompts import given_prompts
from leaderboard.processes import launch
from leaderboard.results.image_files import ImageWriter, read_provenance, write_image
from leaderboard.results.lines import json_line
from networks.precision import generating_precision

NO_SETTINGS = GenerationSettings()
_OURS = {"images", "images.jsonl", "contact_sheet.png"}


@dataclass(frozen=True)
class OwnImage:
    """One image that was asked for, generated now or before."""

    path: Path
    run: str
    """The label of the run."""
    request: Request


def generate_images(
    runs: Sequence[str],
    prompts: Sequence[str],
    output: str | Path,
    photos: Sequence[str] = (),
    subjects: Sequence[str] = (),
    dataset: str = "pocket10k",
    settings: GenerationSettings = NO_SETTINGS,
) -> list[OwnImage]:
    """Generate every image that ``output`` lacks, then the list and the contact sheet.

    Args:
        runs: Run folders, each as ``FOLDER`` or ``LABEL=FOLDER``.
        prompts: Texts with ``<subject>`` in them, twice where an image is to show both of two subjects, or prompt sets
            (files that end in ``.yaml``). ``<ID>`` is another of the subjects by its name.
        output: Folder for the images; what is there and was generated in the same way stays.
        photos: ``[NOUN=]FILE`` or ``[NOUN=]FOLDER``, each of them one subject.
        subjects: Names of subjects of ``dataset``.
        dataset: ``pocket10k``, a folder or a hub data set.
        settings: How.

    Returns:
        All images that were asked for: run by run, subject by subject, prompt by prompt.

    Raises:
        LikenessError: something that the user can mend; what was finished before stays.
    """
    output = guard(output)
    _check_output(output)
    settings = replace(settings, precision=generating_precision(settings.precision, settings.device))
    found = find_runs(runs, option="--run")
    given = _subjects(photos, subjects, dataset)
    asked = given_prompts(prompts)
    _check_two(asked, given)
    plans = [plan_run(one, given, asked, settings) for one in found]
    with folder_lock(output):
        wanted = [(plan, missing) for plan in plans if (missing := plan.missing(output))]
        for note in dict.fromkeys(note for one in (*given, *plans) for note in one.notes):
            print(f"note: {note}")
        processes = ProcessSettings(accelerator=settings.device, precision=settings.precision)
        launch(processes, partial(_enrol_and_generate, wanted=wanted, output=output, settings=settings), "--device")
        write_image(output / "contact_sheet.png", np.asarray(make_sheet(_blocks(plans, output))), {"synthetic": True})
    return [OwnImage(plan.file(output, request), plan.label, request) for plan in plans for request in plan.requests]


def _check_output(output: Path) -> None:
    """Refuse a folder that holds something else."""
    try:
        there = {path.name for path in output.iterdir()} if output.exists() else set()
    except OSError as error:
        raise LikenessError(f"--output {output} is no folder for images ({error.strerror})") from None
    if other := sorted(name for name in there - _OURS if not name.startswith(".")):
        raise LikenessError(f"--output {output} holds {other[0]}, which is none of its images: take another --output")


def _subjects(photos: Sequence[str], names: Sequence[str], dataset: str) -> list[GivenSubject]:
    """All subjects, the user's own first."""
    own = [subject_in_photos(argument) for argument in photos]
    given: list[GivenSubject] = [*own, *subjects_of_dataset(dataset, names)]
    if not given:
        raise LikenessError("nobody to generate: give --photo FILE, or --subject NAME of --dataset")
    for argument, subject in zip(photos, own, strict=True):
        if sum(subject.id == other.id for other in own) > 1:
            raise LikenessError(f"--photo {argument} is given twice, perhaps under two names")
    return given


def _check_two(prompts: Sequence[Prompt], subjects: Sequence[GivenSubject]) -> None:
    """Where a prompt says ``<subject>`` twice, it must be clear who is meant."""
    for prompt in prompts:
        if prompt.of_two and (many := sum(prompt.is_for(one.id, one.noun) for one in subjects)) != 2:
            raise LikenessError(
                f"--prompts: {prompt.text!r} shows two subjects and is for {many} of those given: give two with "
                "--photo or --subject, or name the second one as <ID>"
            )


def _enrol_and_generate(
    fabric: Fabric, wanted: Sequence[tuple[RunPlan, Set[str]]], output: Path, settings: GenerationSettings
) -> None:
    if fabric.world_size > 1:
        raise LikenessError("generate.py works in one process: start it without torchrun or srun")
    for plan, _ in wanted:
        plan.enrol(settings.device)
    try:
        for plan, missing in wanted:
            _generate(fabric, plan, missing, output, settings.batch_size)
    finally:
        _write_list(output)


def _generate(fabric: Fabric, plan: RunPlan, missing: Set[str], output: Path, batch_size: int) -> None:
    photos = {subject: [photo.data for photo in photos] for subject, photos in plan.photos.items()}
    generator = ModelGenerator(
        fabric,
        plan.protocol,
        photos,
        plan.backbone,
        plan.module,
        plan.features,
        plan.precision,
        compiled=plan.compiled,
    )
    # Whole batches, or an image would be computed beside others than in a call that was not interrupted.
    # A batch is of one subject or of two.
    kinds = ([r for r in plan.requests if (r.beside is not None) is two] for two in (False, True))
    every = [batch for requests in kinds for batch in cut_into_batches(requests, batch_size)]
    batches = [batch for batch in every if any(request.id in missing for request in batch)]
    with ImageWriter() as writer:
        for batch, images, _ in images_of(generator, batches, plan.label, plan.protocol.resolution):
            writer.finish()  # of the batch before, so that no more than two lie in memory
            for request, image in zip(batch, images, strict=True):
                if request.id in missing:
                    writer.write(plan.file(output, request), image, plan.provenance(request))


def _write_list(output: Path) -> None:
    """List every image of the folder, of earlier calls too."""
    if files := sorted(output.glob("images/*/[!.]*.png")):
        rows = ({"file": file.relative_to(output).as_posix(), **read_provenance(file)} for file in files)
        write_atomically(output / "images.jsonl", "".join(map(json_line, rows)).encode())


def _blocks(plans: Sequence[RunPlan], output: Path) -> list[Block]:
    """What the contact sheet shows: subject by subject, and of each every run."""
    blocks = []
    for subject, noun in plans[0].protocol.subjects.items():
        for plan in plans:
            rows = []
            for prompt in plan.protocol.prompts:
                asked = [r for r in plan.requests if (r.subject, r.prompt_id) == (subject, prompt.id)]
                text = asked[0].prompt if asked else prompt.text
                rows.append(Row(text, [plan.file(output, request) for request in asked]))
            photo = plan.photos[subject][0]
            blocks.append(Block(f"{subject} ({noun}), by {plan.label}", photo.name, photo.data, rows))
    return blocks
