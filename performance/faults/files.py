"""Files that are not what they say: checkpoints, adapters, base models, data sets, caches, and folders of others."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from performance.faults.bench import Bad, Bench, refused, succeeded, told, unchanged
from performance.faults.fault import a_fault
from performance.faults.inject import fault
from pocket.tiny.components import tiny_base, tiny_clip


def flip(path: Path, where: float = 0.5) -> None:
    """Flip a bit of a file, at that share of its length."""
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 16
    path.write_bytes(data)


def stopped(bench: Bench) -> tuple[Path, list[str]]:
    """A run that was told to end after four steps, and the arguments to go on with it."""
    run = bench.new() / "run"
    arguments = bench.training(run)
    told(bench.train([*arguments, *fault("Signal", name="SIGTERM", step=4)]))
    return run, arguments


def _checkpoint(injected: str, spoil: Callable[[Bench, Path], object], *words: str, short: bool = False) -> None:
    """Add the fault of a run that goes on from a spoilt checkpoint. It must be refused, and go on once restored."""

    def inject(bench: Bench) -> str:
        run, arguments = stopped(bench)
        path = run / "checkpoints" / "last.ckpt"
        good = path.read_bytes()
        spoil(bench, path)
        line = refused(bench.train(arguments), "last.ckpt", *words)
        path.write_bytes(good)
        bench.goes_on(arguments, run)
        return line

    a_fault(injected, short)(inject)


class _Hostile:
    """A pickle that runs code when it is loaded."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple:
        return exec, (self._code,)


def _zeros(_: Bench, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
    path.write_bytes(data)


def _without(part: str) -> Callable[[Bench, Path], None]:
    def spoil(_: Bench, path: Path) -> None:
        held = torch.load(path, weights_only=True)
        del held[part]
        torch.save(held, path)

    return spoil


_checkpoint("a checkpoint with a flipped bit", lambda _, path: flip(path), "checksum", short=True)
_checkpoint("a checkpoint with 512 zeroed bytes", _zeros, "not a readable checkpoint")
_checkpoint("a checkpoint cut short", lambda _, path: path.write_bytes(path.read_bytes()[:1000]))
_checkpoint("a checkpoint without its loops", _without("loops"), "lacks loops")
_checkpoint("a checkpoint without its optimiser", _without("optimizer_states"), "lacks optimizer_states")
_checkpoint("a checkpoint without its callbacks", _without("callbacks"), "lacks callbacks")
_checkpoint(
    "a pickle as a checkpoint", lambda bench, path: path.write_bytes(pickle.dumps(_Hostile(bench.hostile_code())))
)
_checkpoint("a checkpoint with code in it", lambda bench, path: torch.save({"x": _Hostile(bench.hostile_code())}, path))


def _adapter(injected: str, spoil: Callable[[Path], object], *words: str) -> None:
    """Add the fault of a spoilt adapter, for all commands that read one."""

    def inject(bench: Bench) -> str:
        run = bench.copy_of_whole()
        path = run / "adapter.safetensors"
        spoil(path)
        started = bench.training(bench.new() / "run", start_from=run)
        line = refused(bench.train(started), *words)
        refused(bench.evaluate(bench.evaluation(bench.new() / "board", [str(run)])), *words)
        return line

    a_fault(injected)(inject)


def _changed(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file(change(load_file(path)), path, about)

    return spoil


def _bits(path: Path) -> None:
    flip(path, 0.9)


_adapter("an adapter with a flipped bit", _bits, "adapter.safetensors")
_adapter("an adapter that lacks a tensor", _changed(lambda held: dict(list(held.items())[1:])))
_adapter("an adapter of a compiled module", _changed(lambda held: {f"_orig_mod.{k}": v for k, v in held.items()}))
_adapter("an adapter of other shapes", _changed(lambda held: {k: v[:1].clone() for k, v in held.items()}))
_adapter("an adapter whose header says 2^60 bytes", lambda path: path.write_bytes(struct.pack("<Q", 2**60) + b"{}"))


@a_fault("an adapter of another method, and of another base model")
def other_adapter(bench: Bench) -> str:
    world, run = bench.world, bench.new() / "sefi"
    succeeded(bench.train(world.sefi_ide(run)))
    refused(bench.train(bench.training(bench.new() / "run", start_from=run)), "SefiIDE")
    base = tiny_base(bench.new() / "base", seed=1)
    changes = {"model.backbone": base, "data.backbone": base, "start_from": bench.whole}
    return refused(bench.train(bench.training(bench.new() / "run", **changes)), "backbone")


def _base(injected: str, spoil: Callable[[Path], object], *words: str) -> None:
    """Add the fault of a spoilt base model, which must be refused before anything is encoded."""

    def inject(bench: Bench) -> str:
        base = Path(shutil.copytree(bench.world.base, bench.new() / "base"))
        spoil(base)
        cache = bench.new() / "cache"
        changes = {"model.backbone": base, "data.backbone": base, "data.cache_dir": cache}
        line = refused(bench.train(bench.training(bench.new() / "run", **changes)), *words)
        if list(cache.rglob("*.safetensors")):
            raise Bad("silent", f"refused after it had encoded: {line}")
        board = bench.new() / "board"
        refused(bench.evaluate(bench.evaluation(board, [], **{"protocol.backbone": base})), *words)
        return line

    a_fault(injected)(inject)


def _config(part: str, **changes: object) -> Callable[[Path], None]:
    def spoil(base: Path) -> None:
        (file,) = (base / part).glob("*config.json")
        said = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in {**said, **changes}.items() if value is not ...}))

    return spoil


def _tokenizer_without_length(base: Path) -> None:
    for file in (base / "tokenizer").glob("*_config.json"):
        said = json.loads(file.read_text())
        said.pop("model_max_length", None)
        file.write_text(json.dumps(said))


_base(
    "a base model with a missing file",
    lambda base: (base / "unet/diffusion_pytorch_model.safetensors").unlink(),
    "diffusion_pytorch_model.safetensors",
)
_base(
    "a base model with a truncated file",
    lambda base: (base / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"x") and None,
    "vae",
)
_base("an inpainting base model", _config("unet", in_channels=9), "its UNet takes 9")
_base("a scheduler with prediction_type sample", _config("scheduler", prediction_type="sample"), "prediction_type")
_base("a UNet without sample_size", _config("unet", sample_size=...))
_base("a tokenizer without length", _tokenizer_without_length)


@a_fault("a base model that is not there, offline")
def no_base(bench: Bench) -> str:
    changes = {"model.backbone": "someone/never-was", "data.backbone": "someone/never-was"}
    return refused(bench.train(bench.training(bench.new() / "run", **changes)), "someone/never-was")


@a_fault("a face pack with a missing and with a damaged file")
def spoilt_faces(bench: Bench) -> str:
    pack = Path(shutil.copytree(bench.world.faces, bench.new() / "faces"))
    (pack / "recognition.onnx").write_bytes((pack / "recognition.onnx").read_bytes()[:1000])
    refused(bench.evaluate(bench.evaluation(bench.new() / "board", **{"judges.faces": pack})), "recognition.onnx")
    (pack / "recognition.onnx").unlink()
    return refused(bench.evaluate(bench.evaluation(bench.new() / "board", **{"judges.faces": pack})), str(pack))


@a_fault("embeddings of another width than the method was told")
def other_width(bench: Bench) -> str:
    return refused(bench.train(bench.training(bench.new() / "run", **{"model.image_width": 48})), "image_width")


def _data(injected: str, spoil: Callable[[Path], object], *words: str) -> None:
    """Add the fault of a spoilt data set; after it is restored training must work."""

    def inject(bench: Bench) -> str:
        data = Path(shutil.copytree(bench.world.dataset, bench.new() / "dataset"))
        good = Path(shutil.copytree(data, bench.new() / "good"))
        run, cache = bench.new() / "run", bench.new() / "cache"
        spoil(data / "train.parquet")
        arguments = bench.training(run, **{"data.source": data, "data.cache_dir": cache})
        line = refused(bench.train(arguments), *words)
        shutil.rmtree(data)
        shutil.copytree(good, data)
        succeeded(bench.train(arguments), "lost")
        bench.is_equal(run)
        return line

    a_fault(injected)(inject)


def _frame(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        change(pd.read_parquet(path)).to_parquet(path)

    return spoil


def _image(data: bytes) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.at[3, "image"] = {"bytes": data, "path": None}
        return rows

    return change


_data("a truncated Parquet file", lambda path: path.write_bytes(path.read_bytes()[:5000]) and None, "train.parquet")
_data("a column of another type", _frame(lambda rows: rows.assign(split=1.5)), "split")
_data("a split without rows", _frame(lambda rows: rows.assign(split="test")), "train")
_data("a photo cut short in the data set", _frame(_image(b"\x89PNG\r\n\x1a\n" + bytes(99))))
_data("text in place of a photo in the data set", _frame(_image(b"no image")))


@a_fault("a cache made with another encoder, and one with a flipped bit, a cut and a folder in it")
def spoilt_cache(bench: Bench) -> str:
    cache = bench.new() / "cache"
    succeeded(bench.train(bench.training(bench.new() / "run", **{"data.cache_dir": cache})))
    clip = tiny_clip(bench.new() / "clip")
    other = {"data.features": {"clip": {"encoder": str(clip)}}, "data.cache_dir": cache}
    weights = load_file(clip / "model.safetensors")
    weights = {name: value + 0.01 if "vision_model.encoder" in name else value for name, value in weights.items()}
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    one, fresh = bench.new() / "run", bench.new() / "run"
    succeeded(bench.train(bench.training(one, **other)))
    succeeded(bench.train(bench.training(fresh, **other | {"data.cache_dir": bench.new() / "cache"})))
    bench.is_equal(one, fresh)
    shards = sorted(cache.rglob("*.safetensors"))
    flip(shards[0], 0.9)
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    if len(shards) > 2:
        shards[2].unlink()
        shards[2].mkdir()
    run = bench.new() / "run"
    ended = bench.train(bench.training(run, **{"data.cache_dir": cache}))
    if not ended.code:
        bench.is_equal(run)
        return "encoded anew; equal to the run with a whole cache"
    return refused(ended, "cache")


_LINE = '{"images": 1, "seconds": 1.0}\n'
"""A line that any log of times may hold."""


@a_fault("links in a run folder and in a results folder, to folders and files of others")
def links(bench: Bench) -> str:
    theirs = bench.new()
    (theirs / ".secret").write_text("theirs")
    (theirs / "log").write_text(_LINE)
    run, board = bench.copy_of_whole(), bench.copy_of_board()
    shutil.rmtree(run / "tensorboard")
    (run / "tensorboard").symlink_to(theirs)
    refused(bench.train(bench.training(run, start_from=bench.whole)), "is a link")
    images = board / "entries" / "ours" / "images"
    shutil.rmtree(images)
    images.symlink_to(theirs)
    line = refused(bench.evaluate(bench.evaluation(board)), "entries/ours/images")
    images.unlink()
    (log,) = (board / "entries" / "ours" / "timings").glob("0*.jsonl")
    log.unlink()
    log.symlink_to(theirs / "log")
    refused(bench.evaluate(bench.evaluation(board)))
    unchanged(b"theirs", theirs / ".secret")
    unchanged(_LINE.encode(), theirs / "log")
    if len(list(theirs.iterdir())) != 2:
        raise Bad("lost", "something was written behind a link")
    return line


@a_fault("folders where files should be, and files where folders should be")
def wrong_kind(bench: Bench) -> str:
    for name in ("config.yaml", "manifest.json", "adapter.safetensors"):
        run = bench.copy_of_whole()
        (run / name).unlink()
        (run / name / "inside").mkdir(parents=True)
        line = refused(bench.train(bench.training(run)), name)
    run = bench.copy_of_whole()
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("a file")
    refused(bench.train(bench.training(run)), "checkpoints")
    cache = bench.new() / "cache"
    cache.write_text("a file")
    refused(bench.train(bench.training(bench.new() / "run", **{"data.cache_dir": cache})), str(cache))
    board = bench.new() / "board"
    board.write_text("a file")
    refused(bench.evaluate(bench.evaluation(board)), str(board))
    return line


@a_fault("names of 300 letters")
def long_names(bench: Bench) -> str:
    long = bench.new() / ("x" * 300)
    refused(bench.train(bench.training(bench.new() / "run", output=long)))
    refused(bench.generate(bench.generation(long, bench.photo())))
    return refused(bench.evaluate(bench.evaluation(bench.new() / "board", output=long)))
