"""The learnt vectors of many subjects: what an adapter of SeFi-IDE holds."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from contracts.errors import LikenessError
from contracts.prompts import NAME, OWN
from networks.adapter_file import check_adapter, read_adapter

_PREFIX = "subjects."


class SubjectVectors(nn.Module):
    """Room for the vectors (N, denoising stages, sides, tokens, D) of N subjects. A side is key or value.

    ``nouns`` is the class noun by subject, in the order of the rows. A subject without vectors has been enlisted but
    not enrolled. ``waves`` holds the time of each subject's wave: its ``seconds`` and the subjects ``at_once`` in it.
    """

    values: Tensor

    def __init__(self, nouns: Mapping[str, str], shape: tuple[int, int, int, int]) -> None:
        """Raises :class:`LikenessError` for a name that cannot stand in a placeholder."""
        super().__init__()
        for name in nouns:
            if not NAME.fullmatch(name) or name == OWN:
                raise LikenessError(f"subject id {name!r} must be made of letters, digits, _ and -, and not be {OWN!r}")
        self.nouns = dict(nouns)
        self._rows = {name: row for row, name in enumerate(nouns)}
        self.register_buffer("values", torch.zeros(len(nouns), *shape))
        self._enrolled: set[str] = set()
        self.waves: dict[str, dict[str, float]] = {}

    def get_extra_state(self) -> dict:
        """What a checkpoint needs beside the vectors: class nouns, who is enrolled, and the time it took."""
        return {"nouns": self.nouns, "enrolled": self.known, "waves": self.waves}

    def set_extra_state(self, state: dict) -> None:
        """A checkpoint's rows must be those of the same subjects."""
        if state["nouns"] != self.nouns:
            raise ValueError("the checkpoint is of other subjects")
        self._enrolled = set(state["enrolled"])
        self.waves = {name: dict(wave) for name, wave in state["waves"].items()}

    @property
    def known(self) -> list[str]:
        """The enrolled subjects."""
        return [name for name in self.nouns if name in self._enrolled]

    def __getitem__(self, name: str) -> Tensor:
        """The vectors (stages, sides, tokens, D) of a subject.

        Raises :class:`LikenessError` naming the subject and the command that enrols it.
        """
        if name not in self._enrolled:
            raise LikenessError(missing_subjects([name], self.known))
        return self.values[self._rows[name]]

    @torch.no_grad()
    def put(self, names: Sequence[str], vectors: Tensor) -> None:
        """Enrol subjects with vectors (len(names), stages, sides, tokens, D)."""
        rows = [self._rows[name] for name in names]
        self.values[rows] = vectors.to(self.values)
        self._enrolled.update(names)

    def add_seconds(self, wave: Sequence[str], seconds: float) -> None:
        """Count further ``seconds`` for the wave that these subjects share."""
        for name in wave:
            before = self.waves.get(name, {"seconds": 0.0})["seconds"]
            self.waves[name] = {"seconds": before + seconds, "at_once": len(wave)}

    def parts(self) -> nn.Module:
        """The enrolled subjects by name, without gradient: what the adapter file holds."""
        parts = nn.Module()
        # Not registered the usual way: that refuses a subject called like an attribute of a module, `half` for one.
        parts._parameters.update({name: nn.Parameter(self[name], requires_grad=False) for name in self.known})
        return parts

    def metadata(self) -> dict[str, str]:
        """What the adapter file says besides."""
        return {"nouns": json.dumps({name: self.nouns[name] for name in self.known})}


def read_subject_vectors(path: Path, method: str, backbone: str, shape: tuple[int, int, int, int]) -> SubjectVectors:
    """The subjects of an adapter file.

    Raises :class:`LikenessError` naming what does not fit: another method or backbone, or vectors that are not
    (stages, sides, tokens, D) = ``shape``.
    """
    tensors, metadata = read_adapter(path)
    check_adapter(path, metadata, method, backbone)
    nouns = subjects_of(metadata)
    if nouns is None or {_PREFIX + name for name in nouns} != tensors.keys():
        raise LikenessError(f"{str(path)!r} does not say whose vectors it holds")
    vectors = SubjectVectors(nouns, shape)
    for name in nouns:
        found = tensors[_PREFIX + name]
        if tuple(found.shape) != shape:
            raise LikenessError(
                f"{str(path)!r} does not fit: the vectors of {name} are {tuple(found.shape)}, expected {shape} "
                "(model.stages, key and value or both in one, model.tokens_per_subject, width of the text encoder)"
            )
        vectors.put([name], found[None])
    return vectors


def subjects_of(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """Class noun by subject from an adapter's metadata; ``None`` where the method enrols without a file."""
    return json.loads(metadata["nouns"]) if "nouns" in metadata else None


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
