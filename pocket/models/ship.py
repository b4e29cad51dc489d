"""Put a finished run among the shipped adapters, its weights in float16: ``python -m pocket.models.ship RUN NAME``.

Its configuration and manifest are copied too. Then the manifest of all shipped weights is written again.
"""

import argparse
import re
import sys
from pathlib import Path

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import atomic_path
from networks.adapter_file import read_adapter, write_adapter
from pocket.models import manifest
from pocket.models.paths import WEIGHTS

FILES = ("config.yaml", "manifest.json")


def ship(run: Path, name: str, weights: Path = WEIGHTS) -> Path:
    """Copy ``run`` into ``weights`` as the adapter ``name`` and return its folder.

    Raises:
        LikenessError: it is no finished run; nothing is written then.
    """
    folder = weights / "adapters" / name
    tensors, metadata = read_adapter(run / "adapter.safetensors")
    try:
        config, told = ((run / file).read_text(encoding="utf-8") for file in FILES)
    except OSError as error:
        raise LikenessError(f"{run} is no finished run: {error.filename} cannot be read") from error
    # Folders tell of the machine that it was trained on. What a search found stands in the settings, and the manifest
    # says how large it was.
    for key, value in (("output", f"runs/{name}"), ("search", "null"), (r"  cache_dir", "null")):
        config = re.sub(rf"^{key}: .*$", f"{key}: {value}", config, flags=re.MULTILINE)
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    write_adapter(folder / "adapter.safetensors", halves, metadata)
    for file, text in zip(FILES, (config, told), strict=True):
        with atomic_path(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    manifest.write(weights)
    return folder


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pocket.models.ship", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that train.py wrote")
    parser.add_argument("name", help="what the adapter is called")
    arguments = parser.parse_args()
    folder = ship(arguments.run, arguments.name)
    print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
