"""The tensors that were learnt for many subjects: what the adapter of a per-subject method holds."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from contracts.errors import LikenessError
from contracts.prompts import NAME, OWN
from contracts.strict_json import parse
from networks.adapter_file import check_adapter, read_adapter

VECTORS = "vectors"
"""The name of a tensor of token vectors. A file holds it under the subject's name alone."""
_PREFIX = "subjects."

Nouns = Mapping[str, str]
"""Class noun by subject, or by placeholder in a prompt."""
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a subject's tensors by name."""


@dataclass(frozen=True)
class AdapterLayout:
    """What an adapter says of its subjects beside the numbers."""

    shapes: Shapes
    """Of one subject's tensors; they are the same for every subject."""
    metadata: Mapping[str, str]
    """The file's own."""


class SubjectTensors(nn.Module):
    """Room for the named tensors of N subjects, each stacked to (N, ...).

    ``nouns`` is the class noun by subject, in the order of the rows. A subject has room from the beginning and is
    ``known`` once its tensors are stored. ``timings`` says how long each subject's optimisation took: the ``seconds``
    of its group, and how many subjects the group had (``at_once``).
    """

    def __init__(self, nouns: Nouns, shapes: Shapes) -> None:
        """Raises :class:`LikenessError` for a name that cannot stand in a placeholder."""
        super().__init__()
        for name in nouns:
            if not NAME.fullmatch(name) or name == OWN:
                raise LikenessError(f"subject id {name!r} must be made of letters, digits, _ and -, and not be {OWN!r}")
        self.nouns = dict(nouns)
        self.shapes = dict(shapes)
        self.timings: dict[str, dict[str, float]] = {}
        self._rows = {name: row for row, name in enumerate(nouns)}
        self._stored: set[str] = set()
        for name, shape in shapes.items():
            self.register_buffer(_key(name), torch.zeros(len(nouns), *shape))

    def get_extra_state(self) -> dict:
        """What a checkpoint needs beside the tensors: class nouns, who is known, and the time it took."""
        return {"nouns": self.nouns, "enrolled": self.known, "timings": self.timings}

    def set_extra_state(self, state: dict) -> None:
        """A checkpoint's rows must be those of the same subjects."""
        if state["nouns"] != self.nouns:
            raise ValueError("the checkpoint is of other subjects")
        self._stored = set(state["enrolled"])
        self.timings = {name: dict(timing) for name, timing in state["timings"].items()}

    @property
    def known(self) -> list[str]:
        """The subjects whose tensors are stored."""
        return [name for name in self.nouns if name in self._stored]

    @property
    def values(self) -> dict[str, Tensor]:
        """The stacks (N, ...) by tensor name."""
        return {name: self.get_buffer(_key(name)) for name in self.shapes}

    def __getitem__(self, subject: str) -> dict[str, Tensor]:
        """The tensors of a subject by name.

        Raises :class:`LikenessError` naming the subject and the command that enrols it.
        """
        if subject not in self._stored:
            raise LikenessError(missing_subjects([subject], self.known))
        return {name: stack[self._rows[subject]] for name, stack in self.values.items()}

    @torch.no_grad()
    def store(self, subjects: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        """Keep the ``tensors`` by name, each (len(subjects), ...), of some subjects, which are known from now on."""
        rows = [self._rows[subject] for subject in subjects]
        for name, stack in self.values.items():
            stack[rows] = tensors[name].to(stack)
        self._stored.update(subjects)

    def add_seconds(self, group: Sequence[str], seconds: float) -> None:
        """Count further ``seconds`` of work on all subjects of a group at once."""
        for name in group:
            before = self.timings.get(name, {"seconds": 0.0})["seconds"]
            self.timings[name] = {"seconds": before + seconds, "at_once": len(group)}

    def parts(self) -> nn.Module:
        """The known subjects' tensors, without gradient: what the adapter file holds."""
        parts = nn.Module()
        # Not registered the usual way: that refuses a subject called like an attribute of a module, `half` for one.
        parts._parameters.update(
            {
                _file_key(subject, name): nn.Parameter(value, requires_grad=False)
                for subject in self.known
                for name, value in self[subject].items()
            }
        )
        return parts

    def metadata(self) -> dict[str, str]:
        """What the adapter file says besides."""
        return {"nouns": json.dumps({name: self.nouns[name] for name in self.known})}


def read_subject_tensors(path: Path, method: str, backbone: str, shapes: Shapes) -> SubjectTensors:
    """The subjects of an adapter file.

    Raises :class:`LikenessError` naming what does not fit: another method or backbone, or tensors that are not of
    these ``shapes``.
    """
    tensors, metadata = read_adapter(path)
    check_adapter(path, metadata, method, backbone)
    nouns = subjects_of(metadata)
    found = split_by_subject(tensors)
    if nouns is None or nouns.keys() != found.keys():
        raise LikenessError(f"{str(path)!r} does not say whose tensors it holds")
    subjects = SubjectTensors(nouns, shapes)
    for subject, own in found.items():
        for name in sorted(own.keys() | shapes.keys()):
            has = tuple(own[name].shape) if name in own else "missing"
            if has != shapes.get(name):
                raise LikenessError(
                    f"{str(path)!r} does not fit: {name} of {subject}: {has}, expected {shapes.get(name, 'nothing')}; "
                    "give the model settings that it was trained with"
                )
        subjects.store([subject], {name: value[None] for name, value in own.items()})
    return subjects


def split_by_subject(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Each subject's tensors by name, from all tensors of an adapter file."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        subject, _, name = key.removeprefix(_PREFIX).partition(".")
        found.setdefault(subject, {})[name or VECTORS] = value
    return found


def subjects_of(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """Class noun by subject from an adapter's metadata; ``None`` where the method enrols without a file. Raises
    :class:`LikenessError` where it says something else."""
    if "nouns" not in metadata:
        return None
    try:
        nouns = parse(metadata["nouns"])
    except ValueError:
        nouns = None
    if not isinstance(nouns, dict) or not all(isinstance(noun, str) for noun in nouns.values()):
        raise LikenessError("the adapter's list of subjects and their class nouns is damaged: train it again")
    return nouns


def missing_subjects(wanted: Sequence[str], known: Sequence[str], run: str = "RUN") -> str:
    """The line for subjects that a run lacks: who they are, and the command that enrols them and the known ones, to be
    pasted into a shell."""
    some = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
    # Every id quoted as in JSON: YAML would read 10023, 0007, 1e5 or `on` as no names.
    named = shlex.quote(json.dumps([*known, *wanted], separators=(",", ":")))
    return (
        f"not enrolled in this run: {', '.join(wanted)} (it has {len(known)}: {some or 'nobody'}); enrol with "
        f"python train.py --config {shlex.quote(f'{run}/config.yaml')} --output NEW --data.subjects {named}"
    )


def _key(name: str) -> str:
    """The buffer of a tensor: without dots, and unlike any attribute of a module."""
    return f"values/{name.replace('.', '/')}"


def _file_key(subject: str, name: str) -> str:
    """The key of a subject's tensor in a file. A subject's name has no dots."""
    return subject if name == VECTORS else f"{subject}.{name}"
