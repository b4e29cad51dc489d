"""A cache of frozen-encoder outputs that cannot be stale.

An entry is found by the SHA-256 of what was encoded, in a folder named after the fingerprint of what encoded it and the
way in which images are read, so another image or another encoder simply does not find it. Entries lie in safetensors
shards that are only ever added, each written whole or not at all, and read through memory maps. A shard's checksum
covers its keys, its values and what encoded them. A shard that fails it, or holds what no encoder gives, is set aside
and its entries count as missing; where shards differ in shape, all of them are, since nobody can tell who is right.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import remove, write_atomically
from contracts.strict_json import parse
from datamodules.image_io import READING

_log = logging.getLogger(__name__)


def content_key(content: str | bytes) -> str:
    """The key of a text or of a file's bytes."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


class FeatureCache:
    """The outputs of one encoder, float32 tensors of one shape.

    Args:
        root: The folder of all feature caches.
        name: The encoder's short name.
        fingerprint: Everything an output depends on besides what is encoded: weights and preprocessing.
    """

    def __init__(self, root: Path, name: str, fingerprint: str) -> None:
        made = f"{fingerprint}/images read by {READING}"
        self._encoder = hashlib.sha256(made.encode()).hexdigest()[:20]
        self.folder = root / f"{name}-{self._encoder}"
        self.name = name
        self._shards: dict[Path, Tensor] = {}
        self._damaged: set[Path] = set()
        self._where: dict[str, tuple[Path, int]] = {}
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def refresh(self) -> None:
        """Take in what this and other processes have added."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path in self._shards or path in self._damaged:
                continue
            try:
                keys, values = _read_shard(path, self._encoder)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                self._set_aside(path, str(error))
                continue
            self._shards[path] = values
            self._where.update({key: (path, row) for row, key in enumerate(keys)})
        if len({values.shape[1:] for values in self._shards.values()}) > 1:
            for path in self._shards:
                self._set_aside(path, "shards differ in the shape of an entry")
            self._shards.clear()
            self._where.clear()

    def _set_aside(self, path: Path, reason: str) -> None:
        self._damaged.add(path)
        _log.warning("feature cache: %s is damaged (%s); its entries are encoded again", path, reason)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that have no entry, each once, in sorted order."""
        return sorted(set(keys) - self._where.keys())

    def discard_damaged(self) -> None:
        """Delete the shards that were set aside. Call it while no process writes.

        Raises:
            LikenessError: one of them is a folder, or the cache lies behind a link.
        """
        for path in self._damaged:
            if path.is_dir() and not path.is_symlink():
                raise LikenessError(f"feature cache: {str(path)!r} is a folder where a file should be: remove it")
            remove(path)
        self._damaged.clear()

    def append(self, keys: Sequence[str], values: Tensor) -> None:
        """Add entries as one shard: ``values`` is (number of keys, ...).

        Raises:
            LikenessError: an entry is not finite.
        """
        values = values.detach().to("cpu", torch.float32).contiguous()
        bad = (~values.flatten(1).isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise LikenessError(f"the {self.name} features of {keys[bad[0]][:16]}... are not finite")
        names = json.dumps(list(keys))
        checksum = str(_checksum(self._encoder + names, values))
        data = save({"values": values}, {"keys": names, "encoder": self._encoder, "crc32": checksum})
        path = self.folder / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}-{checksum}.safetensors"
        write_atomically(path, data)
        self.refresh()

    def rows(self, keys: Sequence[str]) -> Tensor:
        """The entries of ``keys``, stacked, as a copy (number of keys, ...)."""
        return torch.stack([self._shards[path][row] for path, row in map(self._where.__getitem__, keys)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one entry; there must be one."""
        return tuple(next(iter(self._shards.values())).shape[1:])


def _read_shard(path: Path, encoder: str) -> tuple[list[str], Tensor]:
    """Keys and memory-mapped values of a shard.

    Raises:
        ValueError: the checksum does not fit, or it does and nothing of ours wrote this (or as the two libraries raise
            on a file that is cut short).
    """
    if not path.is_file():
        raise ValueError("it is no file")
    with safe_open(path, "pt") as file:
        metadata, values = file.metadata() or {}, file.get_tensor("values")
    keys = parse(metadata["keys"])
    by = metadata.get("encoder", "")  # shards of older versions do not say it
    if int(metadata["crc32"]) != _checksum(by + metadata["keys"], values) or len(keys) != len(values):
        raise ValueError("wrong checksum")
    if by not in ("", encoder):
        raise ValueError("another encoder made it")
    if values.dtype != torch.float32 or values.ndim < 2 or not bool(values.isfinite().all()):
        raise ValueError("its values are not what an encoder gives")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise ValueError("its keys are not those of contents")
    return keys, values


def _checksum(names: str, values: Tensor) -> int:
    """CRC-32 over keys, shape and values: it finds every single flipped bit, at the speed of memory."""
    head = f"{names}{tuple(values.shape)}".encode()
    return zlib.crc32(values.numpy().data.cast("B"), zlib.crc32(head))
