"""The entries of a leaderboard: runs under labels, the floor that has no subject, the ceiling that is no model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from contracts.records import Request
from datamodules.subjects import SubjectPhotos
from leaderboard.results.costs import check_costs
from leaderboard.results.folder import Entry
from leaderboard.results.galleries import Gallery
from lightning_modules.run import Run
from networks.keyed_noise import keyed_generator

FLOOR = Entry("prompt-only", "floor")
CEILING = Entry("real-photo", "ceiling")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class RunEntry:
    """A run that takes part as ``entry``."""

    entry: Entry
    run: Run


def find_runs(arguments: Sequence[str]) -> list[RunEntry]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    found: list[RunEntry] = []
    for argument in arguments:
        label, _, path = argument.rpartition("=")
        folder = Path(path)
        label = label or folder.resolve().name
        if not _LABEL.fullmatch(label):
            raise LikenessError(f"--runs: label {label!r} must be made of letters, digits, '.', '_' and '-'")
        if label in {FLOOR.label, CEILING.label, *(other.entry.label for other in found)}:
            raise LikenessError(f"--runs: label {label!r} is taken: give this run another one with LABEL={folder}")
        run = Run(folder)
        if not run.adapter_file.is_file():
            raise LikenessError(f"--runs: {folder} is no finished run: it has no adapter.safetensors")
        check_costs(run.manifest, run.manifest_file)
        entry = Entry(label, "method", run.adapter_sha256, run.manifest, str(folder), settings=run.settings_hash)
        found.append(RunEntry(entry, run))
    return found


def left_out_photo(protocol: Protocol, galleries: Mapping[str, Gallery], request: Request) -> int:
    """Which held-out photo stands in for a request in the ceiling: it is judged against the others.

    The photos of a subject are dealt out in an order of their own, so that they repeat as late as possible.
    """
    usable = galleries[request.subject].usable
    order = torch.randperm(len(usable), generator=keyed_generator("ceiling", protocol.seed, request.subject))
    prompt = [p.id for p in protocol.prompts].index(request.prompt_id)
    return int(usable[int(order[(prompt * protocol.samples + request.sample) % len(usable)])])


class CeilingArtist:
    """Answers a request with another real photo of the subject."""

    def __init__(self, protocol: Protocol, galleries: Mapping[str, Gallery], subjects: Sequence[SubjectPhotos]) -> None:
        self._protocol, self._galleries = protocol, galleries
        self._held_out = {subject.id: subject.held_out for subject in subjects}

    def draw(self, batch: Sequence[Request]) -> NDArray[np.uint8]:
        """Held-out photos (B, H, W, 3)."""
        return np.stack([self._held_out[r.subject][left_out_photo(self._protocol, self._galleries, r)] for r in batch])

    def enrol_seconds(self) -> None:
        """A photo needs nothing."""

    def provenance(self, request: Request) -> dict[str, object]:
        """Says that the image is a photo, and which one."""
        return {"photo": left_out_photo(self._protocol, self._galleries, request), "subject": request.subject}
