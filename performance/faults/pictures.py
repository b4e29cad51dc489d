"""Photos, prompts, images and tables: what users have in their folders, and what one bad one of many does."""

import io
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from performance.faults.bench import Bad, Bench, refused, succeeded
from performance.faults.compare import boards_differ
from performance.faults.fault import a_fault
from pocket.models.paths import FACES_A
from pocket.render.dataset import rows_of
from pocket.tiny.world import GRID

PEOPLE = ("anna", "ben", "cleo")
MEMORY = 2**30
"""Bytes that a command may take for a picture that nobody can use."""


def photos(folder: Path) -> Path:
    """Three people with four photos each."""
    for number, name in enumerate(PEOPLE):
        (folder / name).mkdir(parents=True)
        for row, photo in enumerate(rows_of(30 + number, GRID)[:4]):
            (folder / name / f"{row}.png").write_bytes(photo["image"]["bytes"])
    return folder


def picture(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few hundred kilobytes that says it has ``side`` x ``side`` pixels, all of them white."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(side * 100), 9)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _curated(bench: Bench, folder: Path, dropped: int, *faces: str) -> str:
    """Curate photos of which some must be dropped, each with its reason in the report."""
    output = bench.new() / "out"
    ended = bench.curate(folder, output, "--min_side=32", *(faces or (f"--faces={bench.world.faces}",)))
    succeeded(ended)
    if ended.grown_bytes > MEMORY:
        raise Bad("silent", f"it took {ended.grown_bytes / 1e9:.1f} GB")
    lines = [line for line in ended.out.splitlines() if "dropped" in line or "drop" in line]
    report = (output / "report.html").read_text()
    if not lines or ("bad" not in report and "bad" not in ended.out):
        raise Bad("silent", f"no word of {dropped} dropped photos: {ended.out[-200:]}")
    return lines[0].strip()


@a_fault("photos cut short, empty, text, a pipe, and 30,000 x 30,000 pixels, in curate.py")
def bad_photos(bench: Bench) -> str:
    folder = photos(bench.new() / "photos")
    good = (folder / "anna" / "0.png").read_bytes()
    for name, data in {
        "bad-cut.png": good[: len(good) // 2],
        "bad-empty.png": b"",
        "bad-text.png": b"no image",
        "bad-bomb.png": bomb(),
        "bad-format.png": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    }.items():
        (folder / "anna" / name).write_bytes(data)
    os.mkfifo(folder / "anna" / "bad-pipe.png")
    return _curated(bench, folder, 6)


@a_fault("no face, two faces, a tiny face and one that fills the picture, in curate.py")
def odd_faces(bench: Bench) -> str:
    folder = photos(bench.new() / "photos")
    one, two = (np.asarray(Image.open(folder / name / "0.png").convert("RGB")) for name in PEOPLE[:2])
    tiny = np.full((256, 256, 3), 200, np.uint8)
    tiny[:16, :16] = np.asarray(Image.fromarray(one).resize((16, 16)))
    grey = np.full((64, 64, 3), 127, np.uint8)
    fills = np.asarray(Image.fromarray(one[16:48, 16:48]).resize((64, 64)))
    for name, pixels in {"none": grey, "two": np.concatenate([one, two], 1), "tiny": tiny, "fills": fills}.items():
        (folder / "anna" / f"bad-{name}.png").write_bytes(picture(pixels))
    return _curated(bench, folder, 2, f"--faces={FACES_A}")


@a_fault("a photo of 30,000 x 30,000 pixels, text and a folder without photos, in generate.py", short=True)
def bad_photo(bench: Bench) -> str:
    folder = bench.new()
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "text.png").write_bytes(b"no image")
    (folder / "empty").mkdir()
    lines = []
    for name in ("bomb.png", "text.png", "empty"):
        ended = bench.generate(bench.generation(bench.new() / "out", folder / name))
        lines.append(refused(ended, name))
        if ended.grown_bytes > MEMORY:
            raise Bad("silent", f"it took {ended.grown_bytes / 1e9:.1f} GB")
    return lines[0]


@a_fault("prompts of 500 words, in other scripts, with line breaks and ../")
def odd_prompts(bench: Bench) -> str:
    folder = bench.new()
    prompts = [
        "a <subject>" + " very" * 500,
        "a <subject> 🎩 بجانب البحر",
        "a <subject>\nin two lines",
        "a <subject> ../../../../etc/passwd",
        "a <subject> <img src=x onerror=alert(1)>",
    ]
    succeeded(bench.generate(bench.generation(folder / "out", bench.photo(), prompts=prompts)))
    images = list((folder / "out" / "images").rglob("*.png"))
    outside = [path for path in folder.iterdir() if path.name != "out"]
    if len(images) != len(prompts) or outside:
        raise Bad("lost", f"{len(images)} images of {len(prompts)}, and outside of the folder {outside}")
    return f"{len(images)} images, all of them in the folder"


@a_fault("an empty prompt")
def empty_prompt(bench: Bench) -> str:
    return refused(bench.generate(bench.generation(bench.new() / "out", bench.photo(), prompts=[""])), "--prompts")


def _brought(bench: Bench, folder: Path) -> Path:
    """The images of the unbroken board as if another program had made them."""
    shutil.copytree(bench.board / "entries" / "ours" / "images", folder)
    return folder


@a_fault("images without a face, black, and one that cannot be read, in evaluate.py --images")
def black_images(bench: Bench) -> str:
    black = picture(np.zeros((64, 64, 3), np.uint8))
    theirs, broken = _brought(bench, bench.new() / "theirs"), _brought(bench, bench.new() / "broken")
    for path in theirs.glob("*.png"):
        path.write_bytes(black)
    next(broken.glob("*.png")).write_bytes(b"no image")
    output = bench.new() / "board"
    ended = bench.evaluate([*bench.evaluation(output), "--images", f"black={theirs}"])
    succeeded(ended)
    entries = {one["label"]: one["metrics"] for one in json.loads((output / "leaderboard.json").read_text())["entries"]}
    rate = entries["black"]["detection_rate"]["value"]
    if rate != 0:
        raise Bad("silent", f"black images have a detection rate of {rate}")
    if "black" not in ended.out.replace("| black", ""):
        raise Bad("silent", "no note says that images are black")
    line = refused(bench.evaluate([*bench.evaluation(bench.new() / "board"), "--images", f"broken={broken}"]), "broken")
    return f"detection rate 0 and a note; unreadable: {line}"


@a_fault("twelve images for two processes, and one image for two")
def odd_counts(bench: Bench) -> str:
    output = bench.new() / "board"
    succeeded(bench.evaluate(bench.evaluation(output, **{"trainer.devices": 2})))
    differ = [name for name in boards_differ(output, bench.board) if "stages" not in name]
    if differ:
        raise Bad("lost", f"two processes make another table: {differ[:2]}")
    succeeded(bench.evaluate(bench.evaluation(bench.new() / "board", **{"trainer.devices": 2, "limit": 1})))
    return "the same table; a process without work ends well"


@a_fault("one bad run among good ones")
def one_bad_run(bench: Bench) -> str:
    bad, output = bench.copy_of_whole(), bench.new() / "board"
    (bad / "adapter.safetensors").write_bytes(b"no adapter")
    ended = bench.evaluate(bench.evaluation(output, [f"ours={bench.whole}", f"bad={bad}"]))
    return refused(ended, "adapter.safetensors")


@a_fault("two entries under one label", short=True)
def same_label(bench: Bench) -> str:
    runs = [f"a={bench.whole}", f"a={bench.copy_of_whole()}"]
    return refused(bench.evaluate(bench.evaluation(bench.new() / "board", runs)), "label")


@a_fault("NaN, another metric's version, and 100,000 brackets in a record")
def bad_record(bench: Bench) -> str:
    lines = []
    for old, new in (
        ('"scores":{', '"scores":{"x":NaN,'),
        ('"metric_versions":{', '"metric_versions":{"x":"of old",'),
        ('"details":', f'"more":{"[" * 100_000},"details":'),
    ):
        output = bench.copy_of_board()
        path = output / "entries" / "ours" / "records.jsonl"
        text = path.read_text()
        if old not in text:
            raise Bad("silent", f"records have no {old}")
        path.write_text(text.replace(old, new, 1))
        lines.append(refused(bench.evaluate(["--stage=report", f"--output={output}"]), "ours"))
    return lines[0]


@a_fault("results of another protocol in the folder")
def other_protocol(bench: Bench) -> str:
    return refused(bench.evaluate(bench.evaluation(bench.copy_of_board(), **{"protocol.seed": 7})), "protocol")


@a_fault("formulas and markup in prompts")
def markup(bench: Bench) -> str:
    prompts = bench.new() / "prompts.yaml"
    texts = [
        "a <subject> =cmd|' /C calc'!A1",
        "a <subject> <img src=x onerror=alert(1)>",
        r"a <subject> \input{x} | $y$",
    ]
    lines = [{"id": f"p{i}", "class": "scene", "text": text} for i, text in enumerate(texts)]
    prompts.write_text(json.dumps({"prompts": lines}))
    output = bench.new() / "board"
    ended = bench.evaluate(bench.evaluation(output, **{"protocol.prompts": prompts}))
    succeeded(ended)
    for path in output.glob("leaderboard*.csv"):
        if any(
            cell.lstrip('"').startswith(("=", "+", "@"))
            for row in path.read_text().splitlines()
            for cell in row.split(",")
        ):
            raise Bad("executed", f"{path.name} holds a formula")
    if "<img src=x" in (output / "leaderboard.html").read_text():
        raise Bad("executed", "the page holds markup of a prompt")
    return "escaped in every table"


@a_fault("a path with = in it, and a run named FOLDER@STEP", short=True)
def paths(bench: Bench) -> str:
    run = Path(shutil.copytree(bench.whole, bench.new() / "a=b"))
    output = bench.new() / "board"
    refused(bench.evaluate(bench.evaluation(output, [str(run)])), f"LABEL={run}")
    succeeded(bench.evaluate(bench.evaluation(output, [f"twin={run}", f"early={bench.whole}@2"])))
    labels = sorted(path.name for path in (output / "entries").iterdir())
    if not {"early", "twin"} <= set(labels):
        raise Bad("silent", f"entries are {labels}")
    return f"entries {', '.join(labels)}"
