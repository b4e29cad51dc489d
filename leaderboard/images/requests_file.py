"""``requests.jsonl``: all that another program must know to make the images of a protocol, one line per image."""

from collections.abc import Iterator
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import write_atomically
from contracts.prompts import plain_prompt
from contracts.protocol import Protocol
from datamodules.requests import noise_key
from leaderboard.results.lines import json_line, read_lines
from networks.keyed_noise import key_seed

NAME = "requests.jsonl"


def request_rows(protocol: Protocol) -> Iterator[dict]:
    """A row for each request, in the order of the plan."""
    numbers = range(2, 1 + (protocol.references or 1))
    for request in protocol.requests:
        further = [f"references/{request.subject}.{number}.png" for number in numbers]
        yield {
            "id": request.id,
            "file": f"{request.id}.png",
            "prompt": request.prompt,
            "spoken": plain_prompt(request.prompt, request.subject, protocol.subjects),
            "negative_prompt": protocol.negative_prompt or "",
            "seed": key_seed(*noise_key(protocol.seed, request.id)),
            "size": [protocol.resolution, protocol.resolution],
            "reference": f"references/{request.subject}.png",
            **({"further_references": further} if further else {}),
            "subject": request.subject,
            "class": protocol.subjects[request.subject],
            **(_beside(protocol, request.beside) if request.beside is not None else {}),
        }


def _beside(protocol: Protocol, subject: str) -> dict[str, object]:
    """What is to be known of the second subject."""
    further = [f"references/{subject}.{number}.png" for number in range(2, 1 + (protocol.references or 1))]
    return {
        "second_reference": f"references/{subject}.png",
        **({"second_further_references": further} if further else {}),
        "second_subject": subject,
        "second_class": protocol.subjects[subject],
    }


def write_requests(root: Path, protocol: Protocol) -> None:
    """Write the file into the results folder ``root``."""
    write_atomically(root / NAME, (json_line(row).encode() for row in request_rows(protocol)))


def check_requests(folder: Path, protocol: Protocol) -> None:
    """Where the file was copied beside images, it must be the protocol's.

    Raises:
        LikenessError: it is of another protocol, or damaged.
    """
    path = folder / NAME
    if path.is_file() and list(read_lines(path)) != list(request_rows(protocol)):
        raise LikenessError(
            f"--images: {path} does not list the requests of protocol {protocol.hash}: the images beside it answer "
            "another one"
        )
