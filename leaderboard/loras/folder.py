"""A folder of LoRAs that another program trained: whose each one is, by which words, and what it was trained on.

Each is called by its subject's id (``s0001.safetensors``, or a folder ``s0001/`` of peft's), or ``map.csv`` says whose
it is. Nothing outside of the folder is read, also not through links.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from contracts import strict_json
from contracts.errors import LikenessError
from contracts.files import file_sha256
from leaderboard.images import about
from leaderboard.images.folder import some
from networks.lora_file import lora_files, read_about

MAP = "map.csv"
COLUMNS = ("subject", "file", "trigger", "noun", "photos")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class GivenLora:
    """One subject's LoRA."""

    place: Path
    trigger: str
    noun: str | None
    """What follows the trigger in a prompt; ``None`` is the subject's class noun."""
    photos: tuple[str, ...] | None
    """SHA-256 of the files that it was trained on; ``None`` where nobody says it."""

    def words(self, noun: str) -> str:
        """How a prompt names the subject, whose class noun is ``noun``."""
        return f"{self.trigger} {noun if self.noun is None else self.noun}".strip()


@dataclass(frozen=True)
class LoraFolder:
    """LoRAs by subject, read but for their numbers."""

    label: str
    folder: Path
    loras: Mapping[str, GivenLora]
    manifest: Mapping
    """What ``entry.json`` says."""
    _hashes: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)
    """Of the files that were hashed: they may be large, and every point of a sweep is of the same ones."""

    def check_covers(self, subjects: Sequence[str]) -> None:
        """Raise ``LikenessError`` where a subject has none."""
        if missing := [subject for subject in subjects if subject not in self.loras]:
            there = [subject for subject in subjects if subject in self.loras]
            narrow = f", or narrow the board for every row alike with --subjects {' '.join(there)}" if there else ""
            raise LikenessError(
                f"--lora: {self.folder} has no LoRA of {len(missing)} of {len(subjects)} subjects "
                f"({some(missing)}): add them{narrow}"
            )

    def weights(self, subjects: Sequence[str], nouns: Mapping[str, str]) -> str:
        """SHA-256 over the files of these subjects, and over the words that prompts name them by."""
        digest = hashlib.sha256()
        for subject in subjects:
            lora = self.loras[subject]
            files = lora_files(lora.place)
            self._hashes.update((file, file_sha256(file)) for file in files if file not in self._hashes)
            hashes = " ".join(self._hashes[file] for file in files)
            digest.update(f"{subject}\0{lora.words(nouns[subject])}\0{hashes}\n".encode())
        return digest.hexdigest()


def open_folder(label: str, folder: Path) -> LoraFolder:
    """Look at what lies in a folder.

    Raises:
        LikenessError: it cannot be read, holds no LoRA or a link to outside of it, ``map.csv`` or ``entry.json`` is not
            well formed, or a LoRA has no trigger word.
    """
    try:
        mapped = dict(_read_map(folder)) if (folder / MAP).is_file() else dict(_read_names(folder))
    except OSError as error:
        raise LikenessError(f"--lora: {folder} cannot be read: {error.strerror}") from error
    if not mapped:
        raise LikenessError(
            f"--lora: {folder} holds no LoRA: call each by its subject (SUBJECT.safetensors, or a folder SUBJECT of "
            f"peft's), or write a {MAP}"
        )
    home = folder.resolve()
    for lora in mapped.values():
        for file in lora_files(lora.place):
            if not file.resolve().is_relative_to(home):
                raise LikenessError(f"--lora: {file} leads out of {folder}, which is not followed: copy the file")
    return LoraFolder(label, folder, mapped, about.read_about(folder) or {})


def _read_names(folder: Path) -> Iterator[tuple[str, GivenLora]]:
    """Files and folders that are called by their subjects, and say themselves what else is to be known."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".safetensors") or not lora_files(path):
            continue
        told = read_about(path)
        if not (trigger := told.get("identifier")):
            raise LikenessError(
                f"--lora: {path} does not say its trigger word: write {folder / MAP} with the line {','.join(COLUMNS)} "
                "and one for each subject"
            )
        yield (
            path.stem if path.is_file() else path.name,
            GivenLora(path, _trigger(trigger, str(path)), told.get("noun"), _told_photos(told, path)),
        )


def _told_photos(told: Mapping[str, str], path: Path) -> tuple[str, ...] | None:
    if "photos" not in told:
        return None
    try:
        photos = strict_json.parse(told["photos"])
        return _hashes(" ".join(photos), str(path))
    except (TypeError, ValueError) as error:
        raise LikenessError(f"--lora: {path}: its list of training photos is damaged: {error}") from error


def _read_map(folder: Path) -> Iterator[tuple[str, GivenLora]]:
    """Every line of ``map.csv``; a file may be of several subjects, whom it tells apart by their trigger words."""
    path, lines = folder / MAP, dict[str, int]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise LikenessError(f"{path} must begin with the line {','.join(COLUMNS)}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values() or not row["subject"] or not row["file"]:
                    raise LikenessError(f"{where}: it must hold a subject, a file, a trigger word, a noun and photos")
                subject, name = row["subject"], row["file"]
                if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise LikenessError(f"{where}: {name!r} must name a file in or below {folder}")
                if subject in lines:
                    raise LikenessError(f"{where}: subject {subject} has a LoRA already, in line {lines[subject]}")
                if not lora_files(folder / name):
                    raise LikenessError(f"{where}: there is no LoRA {folder / name}")
                lines[subject] = reader.line_num
                photos = _hashes(row["photos"], where) or None
                yield subject, GivenLora(folder / name, _trigger(row["trigger"], where), row["noun"].strip(), photos)
    except (csv.Error, UnicodeDecodeError) as error:
        raise LikenessError(f"{path} is no CSV in UTF-8: {error}") from error


def _trigger(text: str, where: str) -> str:
    trigger = text.strip()
    if not trigger or not trigger.isprintable():
        raise LikenessError(f"--lora: {where}: {text!r} is no trigger word, which a prompt names the subject by")
    return trigger


def _hashes(text: str, where: str) -> tuple[str, ...]:
    hashes = tuple(text.split())
    if odd := [one for one in hashes if not _HASH.fullmatch(one)]:
        raise LikenessError(f"--lora: {where}: {odd[0]!r} is no SHA-256 of a photo's file: 64 of 0-9 and a-f")
    return hashes
