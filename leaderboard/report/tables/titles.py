"""What the columns of every written form are called, and which of them a narrow table shows."""

from collections.abc import Mapping

from contracts.prompts import further_subjects
from contracts.protocol import Prompt
from leaderboard.results.anchors import ANCHORS

ARROWS = {True: "↑", False: "↓"}
_COSTS = {
    "seconds_per_image": "Seconds per image",
    "enrol_seconds": "Seconds to enrol",
    "peak_memory_bytes": "Peak memory",
    "trainable_parameters": "Trained parameters",
    "train_seconds": "Seconds to train",
    "enrol_peak_memory_bytes": "Peak memory to enrol",
    "generate_peak_memory_bytes": "Peak memory to generate",
    "kept_bytes": "Kept of a subject",
}
NARROW = tuple(_COSTS)[:4]
"""The costs of a narrow table."""
_COUNTS = {
    "images": "Images",
    "missing": "Missing images",
    "without_face": "Images without a face",
    "several_faces": "Images with several faces",
    "blank": "Images of one colour",
    "prompts_cut": "Images whose prompt was cut",
}


def headline(board: Mapping) -> list[str]:
    """The metrics of a narrow table, in the order of the board."""
    return [name for name, card in board["metrics"].items() if card["headline"]]


def known_costs(board: Mapping) -> list[str]:
    """The costs that at least one entry knows."""
    names = board["entries"][0]["costs"] if board["entries"] else {}
    return [name for name in names if any(entry["costs"][name] is not None for entry in board["entries"])]


def narrow_costs(board: Mapping) -> list[str]:
    """Those of them that a narrow table shows."""
    return [name for name in known_costs(board) if name in NARROW]


def title_of(board: Mapping, name: str) -> str:
    """A metric's or cost's name for people, with a capital at its start."""
    title = board["metrics"][name]["title"] if name in board["metrics"] else _COSTS[name]
    return title[:1].upper() + title[1:]


def count_title(name: str) -> str:
    """What a count of an entry counts, for people: images in every case."""
    return _COUNTS[name]


def spoilt_faces(calibration: Mapping) -> str:
    """What the table of spoilt photos shows, in a sentence."""
    return (
        f"{calibration['photos']} photos of the subjects, untouched and with their faces spoilt on purpose, judged as "
        "the ceiling's are. A face that is not found counts as 0."
    )


def range_text(low: float | None, high: float | None) -> str:
    """Bounds as words: ``0 to 1``, ``from 0``, ``up to 1``; empty without any."""
    if low is None:
        return "" if high is None else f"up to {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def arrow(board: Mapping, name: str) -> str:
    """Which way is better, as one character; less of a cost is better."""
    return ARROWS[board["metrics"][name]["higher_is_better"]] if name in board["metrics"] else ARROWS[False]


def cost_text(name: str, value: float | None) -> str:
    """A cost with its unit; ``n/a`` where it is not known."""
    if value is None:
        return "n/a"
    if name.endswith("memory_bytes"):
        return f"{value / 1e9:.2f} GB"
    if name == "kept_bytes":
        return f"{value / 1e3:,.1f} kB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def anchor_note(kind: str) -> str:
    """What stands behind the label of an anchor; empty for a method."""
    return ANCHORS[kind].note if kind in ANCHORS else ""


def trainings(entry: Mapping) -> int:
    """How many trainings an entry is of."""
    return len(entry.get("trainings", [entry]))


def of_several(board: Mapping) -> str:
    """What is to be said of intervals besides that they are of subjects; empty where every entry is one training."""
    several = any(trainings(entry) > 1 for entry in board["entries"])
    return "; of several trainings a t interval over subjects and trainings" if several else ""


def entry_name(entry: Mapping) -> str:
    """An entry's label; anchors say what they are, and a method that was trained several times, that copies its
    reference, or that lacks images, says so."""
    missing = entry["counts"]["missing"]
    what = [note] if (note := anchor_note(entry["kind"])) else []
    what += ["training photos not said"] * bool(entry.get("unsaid"))
    what += [f"{trainings(entry)} trainings"] * (trainings(entry) > 1)
    what += ["copies"] * bool(entry["copies"]) + [f"lacks {missing} images"] * bool(missing)
    return f"{entry['label']} ({', '.join(what)})" if what else entry["label"]


def about(board: Mapping) -> str:
    """The protocol in one sentence."""
    p = board["protocol"]
    grid = f"{len(p['subjects'])} subjects x {len(p['prompts'])} prompts x {p['samples']} samples"
    prompts = [Prompt.from_json(prompt) for prompt in p["prompts"]]
    others = (
        sum(bool(q.nouns) and noun not in q.nouns for q in prompts for noun in p["subjects"].values()) * p["samples"]
    )
    if others:
        grid += f" - {others} whose prompt is for subjects of another class"
    twice = sum(subject in further_subjects(q.text) for q in prompts for subject in p["subjects"]) * p["samples"]
    if twice:
        grid += f" - {twice} with the request's own subject twice"
    size = f"{grid} = {p['images']} images per entry"
    if p.get("limit") is not None:
        size = f"QUICK LOOK, {p['images']} images per entry out of {grid}: not comparable with a full result"
    several = " Every image is of two subjects." if any(prompt.of_two for prompt in prompts) else ""
    if p.get("references"):
        tokens = {"average": "the mean of their tokens", "all": "all of their tokens"}[p["reference_tokens"]]
        several += f" Methods see {p['references']} photos of each subject, encoders use {tokens}."
    return (
        f"Protocol {p['hash']}: {size}; {p['sampler']}, {p['steps']} steps, guidance {p['guidance']:g}, "
        f"{p['resolution']} pixels, seed {p['seed']}.{several}" + "".join(f" {text}." for text in warnings(board))
    )


def warnings(board: Mapping) -> list[str]:
    """One sentence, without its full stop, for every entry that a network of its own judges."""
    return [
        f"{entry['label']} was made with the judge {judge} itself (its key {key}), whose columns flatter it"
        for entry in board["entries"]
        for judge, key in entry["own_judges"].items()
    ]
