"""Files that are either whole under their name or not there."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def replace_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write ``data``, whole or piece by piece, to ``path`` by way of a temporary file beside it.

    The file is flushed to the disk before it is renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
