"""The way through, from photos to shards and a report. What is done is kept, so a stopped curation goes on."""

from collections.abc import Sequence
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import guard, make_folder
from contracts.lock import LOCK, folder_lock
from curation.captions import Captioner, WordChooser, Writer
from curation.choice import Dropped, Kept, choose
from curation.columns import Facing, rows_of
from curation.faces import FaceFinder
from curation.looks import Look, Looker
from curation.portraits import Cutter, Portrait
from curation.report import Report, write_report
from curation.settings import CurationSettings
from curation.shards import write_shards
from curation.sources import list_photos
from curation.work import Record, Work, array_text, complete, text_array
from networks.clip_judge import ClipJudge
from networks.segmenter import Segmenter

DATA = "data"
WORK = ".work"


def curate(photos: str, out: str, settings: CurationSettings) -> Report:
    """Make a dataset of the photos in the folder ``out``: shards in ``data``, ``report.html``, and what makes the next
    run quick in ``.work``.

    Args:
        photos: A folder, or a dataset of the hub.

    Raises:
        LikenessError: there is nothing to curate, an option or a table is wrong, a model cannot be loaded, or another
            curation is at work in ``out``.
    """
    folder = _out_folder(photos, out)
    listing = list_photos(photos, settings)
    # All that can be wrong with models is said before the first photo is looked at.
    finder = _finder(settings, any(photo.facts.has_face for photo in listing.photos))
    segmenter = Segmenter(settings.segmenter, "--segmenter") if settings.segmenter else None
    clip = ClipJudge(settings.clip) if settings.clip else None
    writer = Captioner(settings.captioner) if settings.captioner else WordChooser(clip) if clip else None
    with folder_lock(folder):
        make_folder(folder / WORK)
        looker, looks = Looker(finder), Work(folder / WORK, "looks")
        wanted = {looker.key(photo): photo for photo in listing.photos}
        complete(looks, wanted, looker.looks, "looking")
        choice = choose([(photo, Look.of(looks[looker.key(photo)])) for photo in listing.photos], settings)
        dropped = [Dropped(name, "", "not taken", why) for name, why in listing.left_out] + choice.dropped

        cutter, portraits = Cutter(settings, finder, segmenter, clip), Work(folder / WORK, "portraits")
        keys = [cutter.key(kept) for kept in choice.kept]
        complete(portraits, dict(zip(keys, choice.kept, strict=True)), cutter.portraits, "cutting")
        facing = [Facing.of(Portrait.of(portraits[key])) for key in keys]
        captions = Work(folder / WORK, "captions")
        written = _write_captions(writer, captions, choice.kept, keys, portraits, settings.noun)
        rows, backgrounds = rows_of(choice.kept, facing, written, settings)

        def portrait(i: int) -> Portrait:
            return Portrait.of(portraits[keys[i]])

        changed = write_shards(folder / DATA, rows, portrait)
        report = Report.of(settings, choice, dropped, rows, facing, backgrounds, changed)
        write_report(folder / "report.html", report, portrait)
        looks.keep_only(wanted)
        portraits.keep_only(keys)
    return report


def _out_folder(photos: str, out: str) -> Path:
    """The folder to write into; it must be empty, or that of an earlier curation, and not among the photos."""
    folder, source = Path(out).expanduser(), Path(photos).expanduser()
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise LikenessError(f"{out} lies among the photos in {photos}: give a folder outside of it")
    try:
        held = [path.name for path in folder.iterdir() if path.name != LOCK] if folder.exists() else []
    except OSError as error:
        raise LikenessError(f"{out} cannot be used ({error.strerror}): give a folder that can be written to") from error
    if held and WORK not in held:
        raise LikenessError(f"{out} is not empty and holds no curation: give a new folder")
    return guard(folder)


def _finder(settings: CurationSettings, with_faces: bool) -> FaceFinder | None:
    if not with_faces:
        return None
    if settings.faces is None:
        raise LikenessError(
            "--faces is missing: the folder of a face pack that finds and compares the faces; for things and animals "
            "give --objects"
        )
    return FaceFinder(settings.faces, settings.det_size)


def _write_captions(
    writer: Writer | None, captions: Work, kept: Sequence[Kept], keys: Sequence[str], portraits: Work, noun: str
) -> dict[int, tuple[str, str]]:
    """What is written of the photos that have no caption, and the way it came, by place."""
    if writer is None:
        captions.keep_only([])
        return {}
    facts = [one.source.facts for one in kept]
    nouns = [fact.subject_class or noun for fact in facts]
    named = [f"{writer.fingerprint}/{noun}/{key}" for noun, key in zip(nouns, keys, strict=True)]
    bare = {named[i]: i for i, fact in enumerate(facts) if not fact.caption}

    def write(some: Sequence[int]) -> list[Record]:
        images = [portraits[keys[i]]["image"].tobytes() for i in some]
        texts = writer.captions(images, [nouns[i] for i in some], [bool(facts[i].has_face) for i in some])
        return [{"text": text_array(text)} for text in texts]

    complete(captions, bare, write, "captioning", batch=8)
    captions.keep_only(named)
    return {i: (array_text(captions[key]["text"]), writer.origin) for key, i in bare.items()}
