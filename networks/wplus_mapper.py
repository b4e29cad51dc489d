"""From a W+ code to identity tokens, level by level.

Rows of a W+ code steer a StyleGAN from coarse to fine: rows 0-3 (4 and 8 pixels) pose and outline, rows 4-7 (16 and 32
pixels) features of the face, the rest colour, light and texture. No token reads rows of two levels, so an edit of one
level stays in its tokens.

``four`` is the projector of W+ Adapter (arXiv 2311.17461): rows 0-3, 4-7, 8-11, 12-17. ``three`` joins the last two and
is our reconstruction of PIDiff's coarse, middle and fine features (arXiv 2505.05081). For codes with fewer rows than 18
the first of the two fine groups takes two fifths of the fine rows, as there; that rule is ours.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from contracts.errors import LikenessError

Levels = Literal["three", "four"]
COARSE = (0, 4)
MIDDLE = (4, 8)


def level_rows(rows: int, levels: Levels) -> dict[str, tuple[int, int]]:
    """Half-open row ranges by level name for codes of ``rows`` rows.

    Raises :class:`LikenessError` when the code has too few rows for the level.
    """
    if rows < 10:
        raise LikenessError(f"model.code_rows is {rows}: W+ codes with a fine level have 10 rows or more (64 pixels)")
    if levels == "three":
        return {"coarse": COARSE, "middle": MIDDLE, "fine": (8, rows)}
    middle = 8 + max(1, (rows - 8) * 2 // 5)
    return {"coarse": COARSE, "middle": MIDDLE, "fine_a": (8, middle), "fine_b": (middle, rows)}


class WPlusMapper(nn.Module):
    """F_w: one map without bias per level, then one LayerNorm that all tokens share.

    The map is linear as in W+ Adapter. With ``hidden`` it is two linear maps with a GELU and that many channels between
    them, which is ours. ``tokens_per_level`` gives each level so many tokens; W+ Adapter has one, more are ours.

    ``tokens`` is the number N of tokens over all levels. ``mean`` (rows, width) is subtracted from every code first. It
    is zero as in W+ Adapter unless it is set, which is ours: codes share a large common part, and a map without bias
    unlearns it slowly.
    """

    mean: Tensor

    def __init__(
        self,
        rows: int,
        width: int,
        token_width: int,
        levels: Levels,
        tokens_per_level: int = 1,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if tokens_per_level < 1:
            raise LikenessError(f"model.tokens_per_level is {tokens_per_level}, it must be at least 1")
        if hidden is not None and hidden < 1:
            raise LikenessError(f"model.mapper_hidden is {hidden}, it must be at least 1, or null for a linear map")
        self.ranges = level_rows(rows, levels)
        self.project = nn.ModuleDict(
            {
                name: _level_map((last - first) * width, hidden, tokens_per_level * token_width)
                for name, (first, last) in self.ranges.items()
            }
        )
        self.norm = nn.LayerNorm(token_width)
        self.register_buffer("mean", torch.zeros(rows, width))
        self.token_width = token_width
        self.tokens = len(self.ranges) * tokens_per_level

    def forward(self, codes: Tensor) -> Tensor:
        """(B, rows, width) to (B, N, token width), coarse tokens first."""
        codes = codes - self.mean
        parts = [
            self.project[name](codes[:, first:last].flatten(1)).unflatten(-1, (-1, self.token_width))
            for name, (first, last) in self.ranges.items()
        ]
        return self.norm(torch.cat(parts, dim=1))

    def nobody(self, batch: int) -> Tensor:
        """F_w(0), the tokens (B, N, token width) of a code of zeros: N copies of the norm's bias."""
        return self.norm.bias.expand(batch, self.tokens, -1)


def _level_map(before: int, hidden: int | None, after: int) -> nn.Module:
    """The map of one level. It has no bias, so a code of zeros gives zeros, whatever was trained."""
    if hidden is None:
        return nn.Linear(before, after, bias=False)
    return nn.Sequential(nn.Linear(before, hidden, bias=False), nn.GELU(), nn.Linear(hidden, after, bias=False))
