"""What a results folder says of one row of the leaderboard: ``entry.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from contracts.records import Request
from leaderboard.results.anchors import KINDS
from leaderboard.results.costs import check_costs
from leaderboard.results.image_facts import ImageFacts
from leaderboard.results.lines import read_json
from leaderboard.results.names import training_of
from leaderboard.results.trained_photos import trained_on
from lightning_modules.run import Run


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard."""

    label: str
    kind: str
    """method, or that of an anchor, see :data:`leaderboard.results.anchors.KINDS`."""
    weights: str = ""
    """SHA-256 of the adapter, or over the files of images made elsewhere; images of one label never mix two of them."""
    manifest: Mapping | None = None
    """The run's ``manifest.json``: code, versions, hardware, hashes, cost. For images that were made elsewhere what the
    ``entry.json`` beside them says."""
    folder: str = ""
    """Where the run or the images lay."""
    own_judges: Mapping[str, str] = field(default_factory=dict)
    """Key of the run's configuration by judge, where the method was made with the judge itself."""
    protocol: str = ""
    """Hash of the protocol that the images were generated under; written when a folder is claimed."""
    settings: str = ""
    """SHA-256 of the method's settings, which say how its weights are used; empty where it was not noted."""
    images: ImageFacts | None = None
    """What is known of images that were made elsewhere; ``None`` for those that were generated here."""
    lora: bool = False
    """Whether the weights are a folder of LoRAs that were trained elsewhere, and no run's."""
    knob: Mapping | None = None
    """``name`` and ``value`` of what a sweep turns, where the entry is a point of one."""

    def to_json(self) -> dict:
        """All fields, but those that few entries have only where they do."""
        found = {**vars(self), "images": self.images and self.images.to_json()}
        return {name: value for name, value in found.items() if name not in ("lora", "knob") or value}

    @classmethod
    def read(cls, path: Path) -> "Entry":
        """What ``entry.json`` says; raises ``LikenessError`` where it is damaged, or lies in another entry's folder."""
        try:
            data = read_json(path)
            images = data.pop("images", None)
            entry = cls(**data, images=None if images is None else ImageFacts.from_json(images))
        except ValueError as error:
            raise LikenessError(f"{path}: images: {error}") from error
        except (AttributeError, TypeError) as error:
            raise LikenessError(f"{path} was written by another version of Likeness: {error}") from error
        for name in ("label", "kind", "weights", "folder", "protocol", "settings"):
            if not isinstance(getattr(entry, name), str):
                raise LikenessError(f"{path}: {name} is {getattr(entry, name)!r}, no text")
        for name in ("manifest", "own_judges"):
            if not isinstance(getattr(entry, name) or {}, Mapping):
                raise LikenessError(f"{path}: {name} is {getattr(entry, name)!r}")
        trained_on(entry.manifest, path)
        if entry.knob is not None and not _is_knob(entry.knob):
            raise LikenessError(f"{path}: knob is {entry.knob!r}, no name with a value")
        if entry.kind not in KINDS:
            raise LikenessError(f"{path}: kind {entry.kind!r} is none of {', '.join(KINDS)}")
        if entry.label != path.parent.name:
            raise LikenessError(f"{path}: label {entry.label!r} is not the name of its folder")
        check_costs(entry.manifest or {}, path)
        return entry

    def run(self) -> Run:
        """The run that its images come from, turned as it was for them."""
        run = Run.named(self.folder)
        return run.turned(self.knob["value"]) if self.knob and training_of(self.label) != self.label else run

    def requests(self, protocol: Protocol) -> tuple[Request, ...]:
        """The requests that it has an image of: all of them, but for images that were made elsewhere."""
        missing = set(self.images.missing) if self.images else set()
        return tuple(request for request in protocol.requests if request.id not in missing)


def _is_knob(found: object) -> bool:
    return isinstance(found, Mapping) and [type(found.get(name)) for name in ("name", "value")] == [str, float]
