"""What is true of one run of the stages and may differ in the next, kept beside an entry's images.

``stages.json`` lists how images were drawn and scored, each distinct way once: after an interruption with another batch
size or other packages there are two. ``timings/enrolment.json`` holds the seconds of one enrolment.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from leaderboard.results import Entry, EntryFolder, read_json, write_json

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
"""What draws and judges images; those that are not installed are left out."""


def note_stage(folder: EntryFolder, stage: str, batch_size: int) -> None:
    """Write down that ``stage`` (generate or score) works on the entry in batches of ``batch_size``, and with what."""
    facts = {"stage": stage, "batch_size": batch_size, "packages": _versions()}
    known = stages_of(folder)
    if facts not in known:
        write_json(folder.root / "stages.json", [*known, facts])


def stages_of(folder: EntryFolder) -> list[dict]:
    """How the entry was drawn and scored: ``stage``, ``batch_size`` and ``packages`` (version by name) of each way."""
    path = folder.root / "stages.json"
    return read_json(path) if path.is_file() else []


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


def enrol_seconds(folder: EntryFolder, entry: Entry) -> float | None:
    """Seconds to enrol a subject: the manifest's of a run that optimises per subject, or what was measured; ``None``
    where nothing is enrolled."""
    known = (entry.manifest or {}).get("enrol_seconds")
    path = folder.root / "timings" / "enrolment.json"
    return read_json(path)["seconds"] if known is None and path.is_file() else known


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
