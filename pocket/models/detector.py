"""The pocket face detector: SCRFD's interface on a small plain network.

Nine outputs in the order scores, boxes, landmarks, each for strides 8, 16, 32, two anchors a cell; boxes and
landmarks are distances from the anchor's corner point (column x stride, row x stride) in units of the stride.
The input is (x - 127.5) / 128 in RGB, of any height and width that 32 divides. Targets and losses follow
SCRFD (arXiv 2105.04714): quality focal loss on IoU, generalised IoU for boxes, L1 for landmarks.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pocket.models.bank import Bank
from pocket.models.computing import autocast, send
from pocket.models.face_views import CANVAS, Canvases
from pocket.models.training import Shown, fit

STRIDES = (8, 16, 32)
ANCHOR_SIDES = (2, 4)  # in strides: faces of 16 and 32 pixels, 64 and 128, 256 and 512
SPOT_STRIDE = 4
_OUT = 2 * (1 + 4 + 10)


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Votes(nn.Module):
    """Where the spots around a cell say that each landmark lies.

    Spots (B, 15, H, W) of stride 4 become offsets (B, h w, 10) in units of the coarser ``stride``, anchored at its
    cells. A weighted mean of position plus offset over a window of ``2 radius + 1`` cells a side is a ratio of two
    fixed convolutions, so nothing has to be learned to add the spots up.
    """

    kernel: Tensor

    def __init__(self, stride: int, radius: int) -> None:
        super().__init__()
        self.step = stride // SPOT_STRIDE
        self.radius = radius
        along = torch.arange(-radius, radius + 1.0)
        one = torch.ones(len(along), len(along))
        zero = torch.zeros(len(along), len(along))
        x, y = one * along, one * along[:, None]
        kernel = torch.stack([torch.stack(k) for k in ((one, zero, zero), (x, one, zero), (y, zero, one))])
        self.register_buffer("kernel", kernel.repeat(5, 1, 1, 1), persistent=False)

    def forward(self, spots: Tensor) -> Tensor:
        # Squared odds: a hundred cells that are nearly sure of nothing must not outvote the four that see it.
        weight = (2 * spots[:, :5].clamp(-8, 6)).exp()
        # Five groups of (weight, weight x, weight y).
        grouped = torch.stack([weight, weight * spots[:, 5::2], weight * spots[:, 6::2]], dim=2).flatten(1, 2)
        sums = F.conv2d(grouped, self.kernel, stride=self.step, padding=self.radius, groups=5)
        sums = sums.permute(0, 2, 3, 1).unflatten(3, (5, 3)).flatten(1, 2)
        return (sums[..., 1:] / (sums[..., :1] * self.step + 1e-6)).flatten(2)


class Detector(nn.Module):
    """(B, 3, H, W) to nine outputs of (B, 2 H W / stride^2, 1 | 4 | 10); scores in 0..1.

    Landmarks are read from the spots: fine maps of where each landmark is seen and how far it lies from the cell, made
    from local features and those of the coarser levels. Regression from a face's centre alone learns what is large and
    dark first, and noses last.
    """

    def __init__(self) -> None:
        super().__init__()
        fine = 32
        widths = (64, 96, 96)
        towers = (32, 64, 64)
        # A pocket image is enlarged twice on its way in, so averaging pairs of pixels first loses next to nothing.
        self.stem = nn.Sequential(nn.AvgPool2d(2), conv(3, fine, 2), Residual(fine))
        self.stages = nn.ModuleList(
            nn.Sequential(conv(i, o, 2), Residual(o)) for i, o in zip((fine, *widths), widths, strict=False)
        )
        self.down = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in ((widths[1], widths[0]), (widths[0], fine)))
        self.spots = nn.Sequential(conv(fine, fine), nn.Conv2d(fine, 15, 1))
        self.towers = nn.ModuleList(conv(w, t) for w, t in zip(widths, towers, strict=True))
        heads = [nn.Conv2d(t, _OUT, 1) for t in towers]
        self.votes = nn.ModuleList(Votes(stride, radius) for stride, radius in zip(STRIDES, (8, 12, 22), strict=True))
        for head in heads:
            # Focal loss starts from rare positives, or the many negatives drown the rest in the first steps.
            with torch.no_grad():
                assert head.bias is not None
                head.bias[:2] = -4.0
                head.weight[10:] = 0.0
        self.heads = nn.ModuleList(heads)

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Outputs (B, cells x 2, 15) by stride (score logit, box distances, landmark offsets), and the spots
        (B, 15, H / 4, W / 4): five logits, five offsets x, y in cells."""
        fine = self.stem(images)
        levels = [self.stages[0](fine)]
        for stage in self.stages[1:]:
            levels.append(stage(levels[-1]))
        middle = F.relu(levels[0] + F.interpolate(self.down[0](levels[1]), scale_factor=2.0))
        spots = self.spots(F.relu(fine + F.interpolate(self.down[1](middle), scale_factor=2.0))).float()
        return [self._read(i, level, spots) for i, level in enumerate(levels)], spots

    def _read(self, i: int, level: Tensor, spots: Tensor) -> Tensor:
        tower = self.towers[i](level)
        with torch.autocast(tower.device.type, enabled=False):
            y = self.heads[i](tower.float()).permute(0, 2, 3, 1)
            # The votes teach the spots nothing: those learn from landmarks near by, undisturbed.
            voted = self.votes[i](spots.detach()).repeat_interleave(2, dim=1)
        parts = (y[..., :2], y[..., 2:10], y[..., 10:])
        score, box, marks = (p.reshape(len(y), -1, n) for p, n in zip(parts, (1, 4, 10), strict=True))
        return torch.cat([score, box, voted + marks], dim=2)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found, _ = self.features(images)
        return (*(f[..., :1].sigmoid() for f in found), *(f[..., 1:5] for f in found), *(f[..., 5:] for f in found))


def anchors(side: int = CANVAS) -> tuple[Tensor, Tensor, Tensor]:
    """Points (A, 2), strides (A,) and sides (A,) of all anchors of a square canvas, in the order of the outputs."""
    points = []
    strides = []
    sides = []
    for stride in STRIDES:
        at = torch.arange(side // stride) * float(stride)
        y, x = torch.meshgrid(at, at, indexing="ij")
        cells = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, 2, -1).reshape(-1, 2)
        points.append(cells)
        strides.append(torch.full((len(cells),), float(stride)))
        sides.append(torch.tensor([float(stride * s) for s in ANCHOR_SIDES]).repeat(len(cells) // 2))
    return torch.cat(points), torch.cat(strides), torch.cat(sides)


def assign(boxes: Tensor, points: Tensor, strides: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """Which face (F, 4) an anchor answers for: index (A,) or -1, and whether it is left out of the score loss (A,)."""
    if len(boxes) == 0:
        none = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        return torch.full_like(none, -1, dtype=torch.int64), none
    size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    octaves = (size[:, None] / sides).log2().abs()
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = ((centre[:, None] - points).abs() / strides[:, None]).amax(dim=2)
    positive = (octaves < 0.65) & (away < 0.75)
    near = (octaves < 1.0) & (away < 1.5)
    best = torch.where(positive, away, torch.inf).min(dim=0)
    index = torch.where(best.values < torch.inf, best.indices, -1)
    return index, near.any(dim=0) & (index < 0)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes (N, 4) given as corners."""
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - inner
    iou = inner / union.clamp(min=1e-6)
    return iou, iou - (outer - union) / outer.clamp(min=1e-6)


def detection_loss(out: Tensor, faces: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Shown]:
    """Loss of outputs (B, A, 15) against boxes and landmarks in canvas pixels, and the parts to show."""
    at, strides, anchor_sides = (part.to(out.device) for part in anchors())
    rows = []
    columns = []
    boxes = []
    marks = []
    left_out = torch.zeros(out.shape[:2], dtype=torch.bool, device=out.device)
    for i, (face_boxes, face_marks) in enumerate(faces):
        index, left_out[i] = assign(face_boxes, at, strides, anchor_sides)
        chosen = (index >= 0).nonzero()[:, 0]
        rows.append(torch.full_like(chosen, i))
        columns.append(chosen)
        boxes.append(face_boxes[index[chosen]])
        marks.append(face_marks[index[chosen]])
    row = torch.cat(rows)
    column = torch.cat(columns)
    here = at[column]
    unit = strides[column, None]
    wanted = torch.cat(boxes)
    got = out[row, column]
    distances = got[:, 1:5]
    # A box turned inside out has a negative area: its overlap would have gradients without bound.
    sides = distances.clamp(min=0) * unit
    placed = torch.cat([here - sides[:, :2], here + sides[:, 2:]], dim=1)
    edges = torch.cat([here - wanted[:, :2], wanted[:, 2:] - here], dim=1) / unit
    iou, giou = overlap(placed, wanted)
    count = max(1, len(row))
    mark_offsets = (torch.cat(marks) - here[:, None]) / unit[..., None]
    mark_error = (got[:, 5:].reshape(-1, 5, 2) - mark_offsets).abs().sum() / (10 * count)

    target = torch.zeros(out.shape[:2], device=out.device)
    target[row, column] = iou.detach().clamp(0, 1)
    score = out[..., 0]
    focal = (score.sigmoid() - target).detach().abs() ** 2
    score_loss = (focal * F.binary_cross_entropy_with_logits(score, target, reduction="none"))[~left_out].sum()
    box_loss = ((1 - giou).sum() + 0.3 * (distances - edges).abs().sum() / 4) / count
    total = score_loss / count + box_loss + mark_error
    shown = {"score": score_loss.detach() / count, "iou": iou.detach().sum() / count, "marks": mark_error.detach() * 16}
    return total, shown


def spot_loss(spots: Tensor, faces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Loss of spots (B, 15, 32, 32) against the landmarks of each canvas: seen or not, and the offset where seen."""
    at = torch.arange(CANVAS // SPOT_STRIDE, device=spots.device) * float(SPOT_STRIDE)
    y, x = torch.meshgrid(at, at, indexing="ij")
    marks = torch.cat([m for _, m in faces])
    face = torch.cat([torch.full((len(m),), i, device=spots.device) for i, (_, m) in enumerate(faces)])
    offsets = (marks[:, :, None, None] - torch.stack([x, y], dim=-1)) / SPOT_STRIDE  # (F, 5, 32, 32, 2)
    near = offsets.abs().amax(dim=-1) < 1.5
    got = spots[:, 5:].unflatten(1, (5, 2)).permute(0, 1, 3, 4, 2)[face]
    where = (got - offsets).abs()[near].sum() / (2 * near.sum()).clamp(min=1)
    target = torch.zeros_like(spots[:, :5]).index_add(0, face, near.float()).clamp(max=1)
    return 3 * where + F.binary_cross_entropy_with_logits(spots[:, :5], target, pos_weight=spots.new_tensor(8.0))


def train_detector(bank: Bank, folder: Path, steps: int = 7200, batch: int = 32, rate: float = 2e-3) -> Detector:
    """Train on canvases of the bank's images; state is kept in ``folder``, so a stopped run goes on."""
    torch.manual_seed(0)
    detector = Detector()
    canvases = Canvases(
        np.ascontiguousarray(bank.images), bank.boxes.astype(np.float64), bank.landmarks.astype(np.float64)
    )

    def views(step: int) -> list[tuple[NDArray, NDArray, NDArray]]:
        rng = np.random.default_rng((17, step))
        return [canvases.draw(rng) for _ in range(batch)]

    def loss(step: int, drawn: list[tuple[NDArray, NDArray, NDArray]]) -> tuple[Tensor, Shown]:
        images = send(torch.from_numpy(np.stack([d[0] for d in drawn]))).permute(0, 3, 1, 2).float()
        faces = [(send(torch.from_numpy(d[1]).float()), send(torch.from_numpy(d[2]).float())) for d in drawn]
        with autocast():
            found, spots = detector.features(((images - 127.5) / 128).contiguous(memory_format=torch.channels_last))
        total, shown = detection_loss(torch.cat(found, dim=1), faces)
        seen = spot_loss(spots, faces)
        return total + seen, {**shown, "spots": seen.detach()}

    state = folder / "detector.pt"
    detector.load_state_dict(fit(detector, loss, steps, rate, state, "face detector", decay=0.995, views=views))
    return detector.eval()
