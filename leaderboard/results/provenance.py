"""What is true of one run of the stages and may differ in the next, kept beside an entry's images.

``stages.json`` lists how images were generated and scored, each distinct way once: after an interruption with another
batch size or other packages there are two. ``timings/enrolment.json`` holds the seconds of one enrolment,
``timings/costs.json`` peak memory and the size of what is kept of a subject.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

from contracts.errors import LikenessError
from contracts.files import write_json
from leaderboard.results.anchors import CEILING
from leaderboard.results.entry import Entry
from leaderboard.results.folder import EntryFolder, Results
from leaderboard.results.lines import read_json

PACKAGES = (
    "torch",
    "lightning",
    "diffusers",
    "transformers",
    "torchmetrics",
    "insightface",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "numpy",
    "scipy",
    "pillow",
)
"""What generates and judges images; those that are not installed are left out."""
GENERATED = "generate"
_COSTS = "timings/costs.json"
_KINDS = {"stage": str, "batch_size": int, "packages": dict}


def note_stage(folder: EntryFolder, stage: str, batch_size: int) -> None:
    """Write down that ``stage`` (such as score) works on the entry in batches of ``batch_size``, and with what."""
    _note(folder, stages_of(folder), {"stage": stage, "batch_size": batch_size, "packages": _versions()})


def note_generation(
    folder: EntryFolder, entry: Entry, batch_size: int, precision: str, device: str, begun: bool, compiled: bool = False
) -> None:
    """Write down that the entry is generated in batches of ``batch_size``, and with what.

    Args:
        precision: Lightning's name for the numbers that the networks compute in.
        device: Kind of device.
        begun: Whether some of its images are there already.
        compiled: Whether the base model's repeated blocks are compiled.

    Raises:
        LikenessError: those, or another entry's images, were generated with another precision. Photos are copied,
            whatever it is.
    """
    known = stages_of(folder)
    if not begun:  # what was noted before generated nothing that is still there
        known = [facts for facts in known if facts["stage"] != GENERATED]
    before = [facts["precision"] for facts in known if facts.get("precision") not in (None, precision)]
    if before and entry.kind != CEILING.kind:
        raise LikenessError(
            f"{folder.root} holds images generated with precision {before[0]}, trainer.precision is {precision} now: "
            f"go on with --trainer.precision {before[0]}, or remove the folder to generate them all again"
        )
    if entry.kind != CEILING.kind:
        check_precision({**precisions(folder.results, leave_out=entry.label), entry.label: {precision}})
    how: dict[str, object] = {"precision": precision, "device": device, "packages": _versions()}
    how |= {"compiled": True} if compiled else {}
    _note(folder, known, {"stage": GENERATED, "batch_size": batch_size, **how})


def precisions(results: Results, leave_out: str = "") -> dict[str, set[str]]:
    """What the images of each entry were generated in, by label, where it was written down; photos are copied."""
    entries = [entry for entry in results.entries() if entry.kind != CEILING.kind and entry.label != leave_out]
    noted = {e.label: {facts.get("precision") for facts in stages_of(results.entry(e.label))} for e in entries}
    return {label: known for label, found in noted.items() if (known := {p for p in found if p is not None})}


def check_precision(found: Mapping[str, set[str]]) -> None:
    """Raise ``LikenessError`` where entries were generated in different numbers, which moves what they are ranked by.

    Args:
        found: Precisions by label.
    """
    (first, expected), *others = found.items() or [("", set())]
    for label, other in others:
        if other != expected:
            a, b = (" and ".join(sorted(names)) for names in (expected, other))
            raise LikenessError(
                f"{first} was generated with precision {a} and {label} with {b}, which share no board: give "
                f"--trainer.precision {a}, or another --output"
            )


def _note(folder: EntryFolder, known: list[dict], facts: dict) -> None:
    if facts not in known:
        write_json(folder.root / "stages.json", [*known, facts])


def stages_of(folder: EntryFolder) -> list[dict]:
    """How the entry was generated and scored: ``stage``, ``batch_size`` and ``packages`` (version by name) of each way,
    ``precision`` and ``device`` of generation where they were written down.

    Raises:
        LikenessError: the file is damaged.
    """
    path = folder.root / "stages.json"
    stages = read_json(path) if path.is_file() else []
    if not isinstance(stages, list) or not all(map(_is_stage, stages)):
        raise LikenessError(f"{path} is damaged: it lists no stages; remove it")
    return stages


def _is_stage(facts: object) -> bool:
    return isinstance(facts, dict) and all(isinstance(facts.get(name), kind) for name, kind in _KINDS.items())


def note_enrolment(folder: EntryFolder, entry: Entry, measure: Callable[[], float | None]) -> None:
    """Measure how long enrolling a subject takes, once, for a run whose manifest does not say it.

    Args:
        measure: Gives the seconds, or ``None`` where there is nothing to enrol.
    """
    path = folder.root / "timings" / "enrolment.json"
    if (entry.manifest or {}).get("enrol_seconds") is None and not path.is_file():
        seconds = measure()
        if seconds is not None:
            write_json(path, {"seconds": round(seconds, 6)})


def note_costs(folder: EntryFolder, **costs: int | None) -> None:
    """Write down further costs of the entry that are known by now. Of what was noted before the larger one stays: a
    process that goes on where another stopped has not seen its peak."""
    noted = costs_of(folder)
    new = {name: max(cost, noted.get(name, 0)) for name, cost in costs.items() if cost is not None}
    if noted != (both := noted | new):
        write_json(folder.root / _COSTS, both)


def costs_of(folder: EntryFolder) -> dict[str, int]:
    """What :func:`note_costs` wrote down. Raises ``LikenessError`` where the file is damaged."""
    path = folder.root / _COSTS
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict) or any(type(cost) is not int or cost < 0 for cost in found.values()):
        raise LikenessError(f"{path} is damaged: it holds no whole numbers of at least 0; remove it")
    return found


def enrol_seconds(folder: EntryFolder, entry: Entry) -> float | None:
    """Seconds to enrol a subject: the manifest's of a run that optimises per subject, or what was measured; ``None``
    where nothing is enrolled. Raises ``LikenessError`` where the file is damaged."""
    known = (entry.manifest or {}).get("enrol_seconds")
    path = folder.root / "timings" / "enrolment.json"
    if known is not None or not path.is_file():
        return known
    found = read_json(path)
    seconds = found.get("seconds") if isinstance(found, dict) else None
    if not (isinstance(seconds, int | float) and seconds >= 0):
        raise LikenessError(f"{path} is damaged: seconds is {seconds!r}, no number of at least 0; remove it")
    return seconds


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
