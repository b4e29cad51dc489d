"""Labels of the pocket world's photos, from the factors that they were rendered from.

    python -m pocket.render.attributes --output runs/attributes.csv

One row per photo of ``pocket10k``: its ``sha256`` and one number per attribute. ``python -m tools.find_directions``
finds directions in W+ for such labels, of this or of any other set.
"""

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import cache_folder, write_atomically
from datamodules.index import Photo, load_photos
from datamodules.sources import find_shards
from pocket.render.factors import BACKGROUNDS, POSES, Shot, Subject, draw_shot, draw_subject

_LENGTH = {"bald": 0.0, "buzzed": 1.0, "short": 2.0, "parted": 2.0, "spiky": 2.0, "fringed": 2.0}


def factors_of(photo: Photo) -> tuple[Subject, Shot]:
    """Who is in a photo of pocket10k, and how it was taken."""
    assert photo.pose_id is not None and photo.background_id is not None  # they are known of every photo there
    background, plain = BACKGROUNDS[photo.background_id], photo.split != "train"
    key = f"{photo.subject_id}/{photo.pose_id}/{background}"
    style = "photo" if plain else None
    return draw_subject(photo.subject_id), draw_shot(key, POSES[photo.pose_id], background, style, not plain)


def attributes_of(who: Subject, shot: Shot) -> dict[str, float]:
    """Numbers that a face shows: 0 or 1 for what is there or not, else in the renderer's units."""
    return {
        "smiling": float(shot.expression == "smiling"),
        "surprised": float(shot.expression == "surprised"),
        "yaw": shot.yaw,
        "pitch": shot.pitch,
        "face_width": who.face_width,
        "eye_size": who.eye_size,
        "mouth_width": who.mouth_width,
        "nose_length": who.nose_length,
        "beard": float(who.beard in ("goatee", "full")),
        "hair_length": _LENGTH.get(who.hair_style, 3.0),
        "hair_light": _lightness(who.hair_colour),
        "skin_light": _lightness(who.skin),
        "glasses": float(shot.glasses != "none"),
        "hat": float(shot.hat != "none"),
        "light": shot.light,
        "warmth": shot.warmth,
    }


def _lightness(colour: tuple[int, int, int]) -> float:
    """Luma (ITU-R BT.601) in 0..1."""
    r, g, b = colour
    return (0.299 * r + 0.587 * g + 0.114 * b) / 255


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pocket.render.attributes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV file to write")
    arguments = parser.parse_args()
    photos = load_photos(find_shards("pocket10k"), cache_folder())
    rows = []
    for photo in photos:
        who, shot = factors_of(photo)
        if shot.style == "photo":
            rows.append({"sha256": photo.sha256, **attributes_of(who, shot)})
    write_labels(arguments.output, rows)
    print(f"wrote {arguments.output}: {len(rows)} photos, {len(rows[0]) - 1} attributes")
    return 0


def write_labels(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A CSV file with the columns of the first row; raises ``LikenessError`` when it cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise LikenessError(f"--output: {path} could not be written ({error})") from error


if __name__ == "__main__":
    sys.exit(main())
