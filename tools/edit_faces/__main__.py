r"""Edit people's W+ codes and measure what that changes: a strip of images and a table.

    python -m tools.edit_faces --run runs/pidiff --subjects s0225 --directions runs/directions.safetensors \
        --edit smiling=-2,-1,1,2 --faces pocket/weights/faces_b --det_size 128 --output results/smiling
    python -m tools.edit_faces --run runs/pidiff --photo me.png --edit mix=fine --with s0225 ...
    python -m tools.edit_faces --run runs/pidiff --edits configs/prompts/pocket_edits.yaml ...   # the protocol

Seed, prompt and strength of identity stay, only the code changes. Measured per image: cosine of the face to the
person's other photos (to the photo itself with ``--photo``), and the mean absolute difference to the unedited image
inside and outside the head. The output folder holds ``protocol.json``, ``records.jsonl`` (one line per image, the only
source of the table), ``strips/SUBJECT.SAMPLE.png`` and ``editing.md``. What is done is not done again; another protocol
is refused.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import file_sha256, guard, write_atomically, write_json
from contracts.prompts import PLACEHOLDER
from contracts.settings import DETECTION_SIDES
from contracts.strict_yaml import read_yaml
from leaderboard.report.statistics import Ratio, ratio_interval
from leaderboard.results.image_files import ImageWriter
from leaderboard.results.lines import LineLog, read_json, read_lines
from networks.face_analysis import FacePack
from networks.sampler import SamplingSettings
from tools.edit_faces.editor import UNEDITED, Editor, Person, people_of, person_in
from tools.edit_faces.edits import parse_series


@dataclass(frozen=True)
class Plan:
    """Everything that decides the images and the scores; two tables compare only if these agree."""

    subjects: tuple[str, ...]
    nouns: tuple[str, ...]
    """Class noun of each subject."""
    edits: tuple[str, ...]
    partner: str
    prompt: str
    samples: int
    seed: int
    sampling: dict
    run: str
    """SHA-256 of the adapter."""
    settings: str
    """SHA-256 of the run's model settings, which say how the adapter is used."""
    directions: str
    """SHA-256 of the file of directions; empty without."""
    encoder: str
    """Fingerprint of the W+ codes: weights, aligner, detector."""
    faces: str
    photos: str
    """SHA-256 over the photos that codes are made of, the partner's too, and those that identity is judged against."""

    @property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 over the canonical JSON of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Work:
    """What is to be generated of one person: these samples, from ``code`` and, where edits mix, that of ``other``."""

    person: Person
    samples: Sequence[int]
    code: Tensor
    other: Tensor | None


def find_work(editor: Editor, plan: Plan, people: Sequence[Person], partner: Person | None, output: Path) -> list[Work]:
    """What the folder lacks: a subject's sample that was cut short is done again.

    Raises ``LikenessError`` for a photo that no code can be made of.
    """
    path, series = output / "records.jsonl", [parse_series(text) for text in plan.edits]
    whole = {UNEDITED, *(label for one in series for label in one.labels)}
    found: dict[tuple[str, int], set[str]] = {}
    for row in read_lines(path) if path.is_file() else ():  # a label may be there twice: count none of them by lines
        if not {"subject", "sample", "edit"} <= row.keys():
            raise LikenessError(f"{path} is damaged, a line names no subject, sample and edit: take another --output")
        found.setdefault((row["subject"], row["sample"]), set()).add(row["edit"])
    mixes = any(one.level for one in series)
    work = []
    for i, person in enumerate(people):
        todo = [k for k in range(plan.samples) if not whole <= found.get((person.id, k), set())]
        if todo:
            second = partner or (people[(i + 1) % len(people)] if len(people) > 1 else None)
            other = editor.code(second) if mixes and second is not None else None
            work.append(Work(person, todo, editor.code(person), other))
    return work


def edit_all(editor: Editor, plan: Plan, work: Sequence[Work], output: Path) -> None:
    """Generate and measure; what is whole stays in the folder when it is cut short."""
    series = [parse_series(text) for text in plan.edits]
    with LineLog(output / "records.jsonl") as log, ImageWriter() as writer:
        lines = list[dict]()  # of the strip that is being written
        for one in work:
            person = one.person
            for sample in one.samples:
                key = ("edit", plan.seed, person.id, sample)
                labels, images = editor.generate(person, one.code, one.other, series, plan.prompt, key)
                scores = editor.measure(images, person)
                origin = {"synthetic": True, "protocol": plan.hash, "subject": person.id, "sample": sample}
                writer.finish()
                log.append(lines)
                writer.write(output / "strips" / f"{person.id}.{sample:02d}.png", np.hstack(list(images)), origin)
                rows = zip(labels, scores, strict=True)
                lines = [{"subject": person.id, "sample": sample, "edit": name, **row} for name, row in rows]
        writer.finish()
        log.append(lines)


def table(plan: Plan, records: Sequence[Mapping]) -> str:
    """Markdown: each edit's mean scores with 95 % intervals over subjects, and identity lost to the unedited image.

    An image without a face has identity 0; where the unedited one has none, there is nothing to lose.
    """
    labels = [UNEDITED, *(label for text in plan.edits for label in parse_series(text).labels)]
    lines = [
        "| edit | identity | identity lost | change inside the head | change outside |",
        "|---|---:|---:|---:|---:|",
    ]
    scores = {(r["edit"], r["subject"], r["sample"]): r for r in records}  # the latest, where one was done again
    for label in labels:
        rows = []
        for (edit, subject, sample), row in scores.items():
            if edit == label:
                before, after = scores[UNEDITED, subject, sample]["identity"], row["identity"]
                rows.append(
                    {**row, "identity": after or 0.0, "lost": None if before is None else before - (after or 0.0)}
                )
        cells = [_cell(plan.subjects, rows, name) for name in ("identity", "lost", "inside", "outside")]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(subjects: Sequence[str], rows: Sequence[Mapping], name: str) -> str:
    known = {s: [r[name] for r in rows if r["subject"] == s and r[name] is not None] for s in subjects}
    column = Ratio(np.array([sum(v) for v in known.values()], float), np.array([len(v) for v in known.values()], float))
    interval = ratio_interval(column)
    if interval.value is None:
        return "-"
    return f"{interval.value:.3f}" + ("" if interval.low is None else f" [{interval.low:.3f}, {interval.high:.3f}]")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.edit_faces", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--run", required=True, help="run folder of PIDiff")
    parser.add_argument("--faces", required=True, help="face pack that judges; not one that taught the W+ encoder")
    parser.add_argument(
        "--det_size", type=int, nargs="+", default=list(DETECTION_SIDES), help="sides in pixels at which it finds faces"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for strips, records and the table")
    parser.add_argument("--dataset", default="pocket10k", help="dataset whose test subjects are edited")
    parser.add_argument("--subjects", nargs="+", default=["12"], help="how many test subjects, or their names")
    parser.add_argument("--photo", type=Path, help="edit the person in this photo instead; alpha is its mask")
    parser.add_argument("--noun", default="person", help="class noun with --photo")
    parser.add_argument("--directions", type=Path, help="file that python -m tools.find_directions wrote")
    parser.add_argument("--edits", type=Path, help="YAML file with prompt, samples and edits")
    parser.add_argument("--edit", nargs="+", default=[], metavar="EDIT", help="NAME=STRENGTH,... or mix=LEVEL")
    parser.add_argument("--with", dest="partner", help="test subject to mix with; the next subject unless given")
    parser.add_argument("--prompt", help="with <subject> once")
    parser.add_argument("--samples", type=int, help="images per subject and edit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", default="dpm-solver++")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    return parser


def read_edits(path: Path | None) -> dict:
    """What the file of edits says; raises ``LikenessError`` where it is missing or says something else."""
    if path is None:
        return {}
    try:
        data = read_yaml(path)
    except OSError as error:
        raise LikenessError(f"--edits: {path} cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(data, dict) or not data.keys() <= {"prompt", "samples", "edits"}:
        raise LikenessError(f"--edits: {path} must have prompt, samples and edits, and nothing else")
    if not isinstance(data.get("edits", []), list):
        raise LikenessError(f"--edits: {path}: edits must be a list, such as [smiling=2, mix=fine]")
    return data


def make_plan(given: argparse.Namespace, editor: Editor, people: Sequence[Person], partner: Person | None) -> Plan:
    """Everything that is decided; raises ``LikenessError`` for a wrong edit or prompt before anything is generated."""
    file = read_edits(given.edits)
    edits = tuple(str(text) for text in (*file.get("edits", ()), *given.edit))
    if not edits:
        raise LikenessError("nothing to edit: give --edit or --edits")
    prompt = given.prompt or str(file.get("prompt", f"a photo of a {PLACEHOLDER}"))
    if prompt.count(PLACEHOLDER) != 1:
        raise LikenessError(f"--prompt {prompt!r} must hold {PLACEHOLDER} once")
    samples = given.samples if given.samples is not None else file.get("samples", 1)
    if not isinstance(samples, int) or samples < 1:
        raise LikenessError(f"--samples is {samples}, it must be at least 1")
    if partner is not None and partner.id in {person.id for person in people}:
        raise LikenessError(f"--with {partner.id} is one of the people to edit, who cannot be mixed with themself")
    nobody = torch.zeros(editor.module.code_shape)
    for text in edits:
        mixed = nobody if given.partner or len(people) > 1 else None
        parse_series(text).apply(nobody, mixed, editor.directions)
    photos = hashlib.sha256()
    for person in (*people, *((partner,) if partner else ())):
        photos.update(hashlib.sha256(person.photo).digest() + person.judged_by.encode())
    return Plan(
        subjects=tuple(person.id for person in people),
        nouns=tuple(person.noun for person in people),
        edits=edits,
        partner=given.partner or "",
        prompt=prompt,
        samples=samples,
        seed=given.seed,
        sampling=asdict(editor.module.sampling),
        run=editor.run.adapter_sha256,
        settings=editor.run.settings_hash,
        directions=file_sha256(given.directions) if given.directions else "",
        encoder=editor.fingerprint,
        faces=editor.faces.key,
        photos=photos.hexdigest(),
    )


def run(given: argparse.Namespace) -> str:
    """Do what the command line says and return the table."""
    sampling = SamplingSettings(given.sampler, given.steps, given.guidance)
    editor = Editor(given.run, given.directions, FacePack(given.faces, given.det_size), sampling)
    side = editor.module.backbone.resolution
    if given.photo is not None:
        people = [person_in(given.photo, given.noun, editor.faces)]
    else:
        one = given.subjects[0] if len(given.subjects) == 1 else ""
        people = people_of(given.dataset, int(one) if one.isdigit() else given.subjects, side, editor.faces)
    partner = people_of(given.dataset, [given.partner], side, editor.faces)[0] if given.partner else None
    plan = make_plan(given, editor, people, partner)
    known = guard(given.output) / "protocol.json"
    stored = read_json(known) if known.is_file() else {"hash": plan.hash}
    if not isinstance(stored, dict) or stored.get("hash") != plan.hash:
        raise LikenessError(f"{given.output} holds edits of another protocol: take another --output")
    if given.output.exists() and not known.is_file() and (not given.output.is_dir() or any(given.output.iterdir())):
        raise LikenessError(f"{given.output} is neither empty nor a folder of edits: take another --output")
    work = find_work(editor, plan, people, partner, given.output)
    write_json(known, {"hash": plan.hash, **asdict(plan)})
    edit_all(editor, plan, work, given.output)
    text = table(plan, list(read_lines(given.output / "records.jsonl")))
    write_atomically(given.output / "editing.md", (text + "\n").encode())
    return text


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    given = make_parser().parse_args(arguments)
    print(run(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
