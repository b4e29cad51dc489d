"""One subject in a file of its own, for use outside of this framework.

A subject with a single denoising stage whose key is its value is a textual-inversion embedding. The file is
``{"<NAME>": (tokens, D)}``, or ``{"<NAME>": (D,)}`` for a single token. Stock diffusers loads it with
``pipe.load_textual_inversion(FILE)``. For a base model of two text encoders it is ``{"clip_l": (tokens, D1), "clip_g":
(tokens, D2)}``, as other programs have it, and each part is loaded for its encoder. Every other subject is
``{"vectors": (stages, sides, tokens, D), "noun": (D,)}``, which :func:`networks.stage_pipeline.stage_prompt` puts into
a stock pipeline.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from contracts.errors import LikenessError
from contracts.files import write_atomically

ENCODERS = ("clip_l", "clip_g")
"""What other programs call SDXL's two text encoders."""
_FORMAT = "likeness-subject-2"
_MAKE_ONE = "make one from a run of SeFi-IDE with python -m tools.export_subject"


@dataclass(frozen=True)
class SubjectFile:
    """One subject, and what tells whether it fits a text encoder."""

    name: str
    noun: str
    """The class noun."""
    vectors: Tensor
    """(stages, sides, tokens, D): one vector for each denoising stage, for key and value or both in one, and token."""
    noun_embedding: Tensor
    """(D,): the class noun's embedding, by which another text encoder is noticed."""
    widths: tuple[int, ...] = ()
    """What of D belongs to each text encoder, where there are several."""

    @property
    def is_embedding(self) -> bool:
        """Whether it is a textual-inversion embedding: one stage, whose key is its value."""
        return self.vectors.shape[:2] == (1, 1)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; raises :class:`LikenessError` when it cannot be written."""
        vectors = self.vectors.detach().cpu().float().contiguous()
        if self.is_embedding and len(self.widths) > 1:
            parts = vectors[0, 0].split(self.widths, dim=-1)
            tensors = {name: part.contiguous() for name, part in zip(ENCODERS, parts, strict=True)}
        elif self.is_embedding:
            learnt = vectors[0, 0]
            tensors = {f"<{self.name}>": learnt.clone() if len(learnt) > 1 else learnt[0].clone()}
        else:
            tensors = {"vectors": vectors, "noun": self.noun_embedding.detach().cpu().float().contiguous()}
        try:
            write_atomically(path, save(tensors, {"format": _FORMAT, "subject": self.name, "noun": self.noun}))
        except (OSError, SafetensorError) as error:
            raise LikenessError(f"subject file {str(path)!r} could not be written: {error}") from error


def read_subject_file(path: Path) -> SubjectFile:
    """A subject with vectors for several denoising stages, or for keys and values apart.

    Raises :class:`LikenessError` when the file is missing or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise LikenessError(f"{str(path)!r} is no exported subject; {_MAKE_ONE}")
            if "vectors" not in file.keys():  # noqa: SIM118 - not a dict
                raise LikenessError(
                    f"{str(path)!r} holds no vectors of denoising stages; a textual-inversion embedding is loaded with "
                    "pipe.load_textual_inversion"
                )
            return SubjectFile(
                metadata["subject"], metadata["noun"], file.get_tensor("vectors"), file.get_tensor("noun")
            )
    except FileNotFoundError:
        raise LikenessError(f"no subject file at {str(path)!r}; {_MAKE_ONE}") from None
    except (OSError, SafetensorError) as error:
        raise LikenessError(f"{str(path)!r} is not readable: {str(error).splitlines()[0]}") from None


def same_embedding(first: Tensor, second: Tensor) -> bool:
    """Whether two embeddings (D,) are equal up to the rounding of half precision."""
    return first.shape == second.shape and torch.allclose(first.float(), second.float(), rtol=1e-2, atol=1e-3)
