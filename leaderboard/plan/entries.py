"""Who takes part in an evaluation beside the anchors: runs and folders of images, each under a label of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from contracts.entries import NamedFolder, parse_named_folder
from contracts.errors import LikenessError
from leaderboard.images.folder import open_folder
from leaderboard.images.taking import ImagesEntry
from leaderboard.loras import folder as loras
from leaderboard.loras.entry import LoraEntry
from leaderboard.results.anchors import LABELS, METHOD, kind_of
from leaderboard.results.costs import check_costs
from leaderboard.results.entry import Entry
from leaderboard.results.names import point_name, training_name
from lightning_modules.run import Run


@dataclass(frozen=True)
class RunEntry:
    """A run that takes part as ``entry``."""

    entry: Entry
    run: Run


def find_runs(arguments: Sequence[str], option: str = "--runs") -> list[RunEntry]:
    """Runs given as ``FOLDER`` (the label is the folder's name) or ``LABEL=FOLDER``, see
    :func:`contracts.entries.parse_named_folder`. With ``@STEP`` it is the adapter that the run kept of that step.

    Args:
        option: The option that they are given by, for errors.

    Raises:
        LikenessError: a folder is no run, a file of it is damaged, or a label is taken or not usable as a file name.
    """
    labels = set(LABELS)
    return [find_run(argument, labels, option) for argument in arguments]


def find_run(argument: str, labels: set[str], option: str = "--runs", several: bool = False) -> RunEntry:
    """One such run, whose label joins those that are taken. Raises as :func:`find_runs` does.

    With ``several`` a label of another run may be given again: this is a further training of that method then, and the
    entry is called so.
    """
    named = parse_named_folder(argument, option, steps=True)
    label = _take_label(named, labels, option, several)
    run = Run(named.path, named.step)
    if not run.adapter_file.is_file():
        raise LikenessError(f"{option}: {_no_adapter(run, named.step)}")
    check_costs(run.manifest, run.manifest_file)
    return RunEntry(_entry(label, run), run)


def find_points(one: RunEntry, values: Sequence[float]) -> list[RunEntry]:
    """The run as a point of a sweep, and its other points: an entry for each of the values but its own.

    Raises:
        LikenessError: the run's method does not have one of the values.
    """
    name, own = one.run.method.knob, one.run.own_value
    found = [replace(one, entry=replace(one.entry, knob={"name": name, "value": own}))]
    for value in values:
        if value != own:
            run = one.run.turned(value)
            entry = _entry(point_name(one.entry.label, value), run)
            entry = replace(entry, own_judges=one.entry.own_judges, knob={"name": name, "value": value})
            found.append(RunEntry(entry, run))
    return found


def _entry(label: str, run: Run) -> Entry:
    manifest = run.manifest if run.step is None else {**run.manifest, "kept": {"step": run.step}}
    place = str(run.folder) if run.step is None else f"{run.folder}@{run.step}"
    return Entry(label, METHOD, run.adapter_sha256, manifest, place, settings=run.settings_hash)


def _no_adapter(run: Run, step: int | None) -> str:
    what = "is no finished run: it has no adapter.safetensors" if step is None else f"has no adapter of step {step}"
    if not run.folder.is_dir():
        return f"there is no folder {str(run.folder)!r}"
    if not (steps := run.adapter_steps()):
        return f"{run.folder} {what}"
    return f"{run.folder} {what}; it kept those of steps {', '.join(map(str, steps))}: {run.folder}@{steps[-1]}"


def find_images(named: NamedFolder, labels: set[str], allow_missing: float) -> ImagesEntry:
    """A folder of images, whose label joins those that are taken.

    Under the own label of an anchor, such as the floor, the images are that anchor.

    Args:
        allow_missing: Share of the requests, 0 to 1, that may have no image.

    Raises:
        LikenessError: the folder cannot be read or holds no images, or the label is taken.
    """
    _take_label(named, labels, "--images")
    return ImagesEntry(open_folder(named.label, named.path), kind_of(named.label), allow_missing)


def find_lora(named: NamedFolder, labels: set[str]) -> LoraEntry:
    """A folder of LoRAs, whose label joins those that are taken.

    Raises:
        LikenessError: the folder cannot be read or holds no LoRA that says what it is, or the label is taken.
    """
    _take_label(named, labels, "--lora")
    return LoraEntry(loras.open_folder(named.label, named.path))


def _take_label(named: NamedFolder, labels: set[str], option: str, several: bool = False) -> str:
    """Add the folder's label to those that are taken, and return it; with ``several`` it is the name of the next
    training where the label is taken. Raises ``LikenessError`` where that cannot be."""
    label, number = named.label, 1
    while several and label in labels - LABELS:
        number += 1
        label = training_name(named.label, number)
    if label in labels:
        raise LikenessError(f"{option}: label {named.label!r} is taken: give it another one with LABEL={named.path}")
    labels.add(label)
    return label
