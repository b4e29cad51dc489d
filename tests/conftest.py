"""What every test stands on: one thread, no network, no caches of the user."""

import os
import tempfile
from pathlib import Path

# Set before anything imports torch or a Hugging Face library, which read them once.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": tempfile.mkdtemp(prefix="likeness-tests-"),
    "MPLBACKEND": "agg",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
# Rendered data and features, never the user's own; what is in it is keyed by content, so the next run may use it.
os.environ.setdefault("LIKENESS_CACHE", str(Path(__file__).parents[1] / ".cache" / "tests"))

import atexit
import ipaddress
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from networks.backbone import Backbone
    from pocket.tiny.world import TinyWorld

atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)


def _is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine: a Unix path, a loopback address or one of its own names."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def same_randomness() -> None:
    """Random weights and inputs of a test do not depend on which tests ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Fail the test that tries to reach another machine, even where the caller would swallow a socket error."""

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if not _is_local(address):
                pytest.fail(f"a test tried to reach {address}: tests run without network")
            return method(self, address)

        return connect

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local((name,)):
            pytest.fail(f"a test tried to look up {name}: tests run without network")
        return look_up(host, *rest, **more)

    look_up = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> "TinyWorld":
    """What a training run needs, at the smallest size."""
    from pocket.tiny.world import TinyWorld

    return TinyWorld.make(tmp_path_factory.mktemp("tiny-world"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model in the shape of SDXL, of the smallest size. Copy it before changing a file."""
    from pocket.tiny.components import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture
def sdxl(sdxl_folder: Path) -> "Backbone":
    """That base model, of the test's own."""
    from networks.backbone import load_backbone

    return load_backbone(str(sdxl_folder))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
