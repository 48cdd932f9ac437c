"""Peak memory of `elysium convert`, measured on random checkpoints and extrapolated to the authors' 7B.

Writes a checkpoint in the authors' layout (in shards) at half size and at full size, converts each to bfloat16 in a
process of its own, with and without the comparison of logits at the end, and fits a line through the two sizes. The
tower is CLIP ViT-L/14-336 in all of them; the language model has the shape of Llama and its depth is chosen to give
the size. Peak resident memory is the kernel's; the part that is not a mapped file (which the kernel can take back) is
sampled.

    python -m benchmarks.convert_memory [--billions 1.0] [--folder /tmp] [--report benchmarks/convert_memory.md]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from evaluate_metrics.runners.machine import provenance
from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from modeling_elysium.conversion.files import ShardWriter
from modeling_elysium.conversion.layouts import RELEASED

GIB = 2**30
BAR_GIB = 20  # what a conversion of the 7B may take
SHARD_BYTES = 10**9
# Name -> (dtype of the source, options of the command).
WAYS = {
    "as stored, with the comparison of logits": (torch.bfloat16, []),
    "as stored, `--no-verify`": (torch.bfloat16, ["--no-verify"]),
    "from float32 with `--dtype bf16` and the comparison": (torch.float32, ["--dtype", "bf16"]),
}


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--billions", type=float, default=1.0, help="parameters of the larger checkpoint")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where there is room")
    parser.add_argument("--report", type=Path, help="write a dated report")
    args = parser.parse_args()
    needed = args.billions * 1e9 * (4 + 2) * 1.1  # a checkpoint in float32 and its conversion
    free = shutil.disk_usage(args.folder).free
    if free < needed:
        raise SystemExit(f"{args.folder} has {free / GIB:.1f} GiB free, {needed / GIB:.1f} are needed.")
    results: dict[str, list[tuple[int, float, float]]] = {way: [] for way in WAYS}
    for billions in (args.billions / 2, args.billions):
        for way, (dtype, options) in WAYS.items():
            with tempfile.TemporaryDirectory(dir=args.folder, prefix="convert-memory-") as scratch:
                source = Path(scratch) / "source"
                count = write_checkpoint(source, sized_config(billions), dtype)
                peak, private, seconds = converted(source, Path(scratch) / "out", options)
            results[way].append((count, peak, private))
            numbers = f"{peak:.2f} GiB ({private:.2f} private), {seconds:.0f} s"
            print(f"{count:,} parameters, {way}: {numbers}", flush=True)
    text = as_report(results, " ".join(sys.argv[1:]))
    print(text)
    if args.report:
        args.report.write_text(text, encoding="utf-8")


def sized_config(billions: float) -> ElysiumConfig:
    """The released tower and a language model as deep as it takes for about so many parameters."""
    width, inner = 2048, 5504
    layer = 4 * width * width + 3 * width * inner
    other = 310e6 + 2 * 32000 * width  # tower with its last layer, projector, embedding and head
    depth = max(round((billions * 1e9 - other) / layer), 1)
    text = LlamaConfig(
        vocab_size=32000,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=depth,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=4096,
        pad_token_id=0,
    )
    return ElysiumConfig(text_config=text.to_dict())


def released_shapes(config: ElysiumConfig) -> Iterator[tuple[str, torch.Size]]:
    """(the authors' name, shape) of every tensor of theirs, the dead ones too."""
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(config)
        tower = AutoModel.from_config(config.vision_config)
    names = {key: tensor.shape for key, tensor in model.state_dict().items()}
    names |= {f"model.vision_tower.{key}": tensor.shape for key, tensor in tower.state_dict().items()}
    for key, shape in names.items():
        yield RELEASED.to_theirs(key), shape
    kept, patches = config.num_image_tokens, config.num_patches
    yield "adapter.score_proj.weight", torch.Size((kept, patches))
    yield "adapter.score_proj.bias", torch.Size((kept,))


def write_checkpoint(folder: Path, config: ElysiumConfig, dtype: torch.dtype) -> int:
    """Write a random checkpoint in the authors' layout; returns how many parameters it has."""
    folder.mkdir(parents=True)
    block = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(dtype)
    writer, count = ShardWriter(folder, SHARD_BYTES), 0
    for key, shape in released_shapes(config):
        size = shape.numel()
        writer.add(key, block.repeat(-(-size // block.numel()))[:size].view(shape).clone())
        count += size
    writer.close()
    LlamaConfig.from_dict(config.text_config.to_dict()).save_pretrained(folder / "llm")
    CLIPVisionConfig.from_dict(config.vision_config.to_dict()).save_pretrained(folder / "clip")
    tokenizer().save_pretrained(folder / "llm")
    fields = {
        "model_type": "elysium",
        "adapter_config": {"in_token_num": config.num_patches, "out_token_num": config.num_image_tokens},
        "llm_config": {"pretrained_model_name_or_path": "llm"},
        "visual_config": {"pretrained_model_name_or_path": "clip"},
        "projector_config": {"type": "mlp2x_gelu"},
    }
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return count


def tokenizer() -> PreTrainedTokenizerFast:
    """As many pieces as the vocabulary has, of Llama's kind."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "\n", *map(chr, range(33, 127))]
    pieces += [f"<unused{number}>" for number in range(32000 - len(pieces))]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    backend.decoder = decoders.Metaspace("▁", "first", split=False)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def converted(source: Path, out: Path, options: list[str]) -> tuple[float, float, float]:
    """Convert in a process of its own and remove the result: peak and peak private GiB, seconds."""
    command = [sys.executable, "-m", "tracking_elysium.cli", "convert", str(source), str(out), *options]
    started, private = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        private = max(private, private_gib(process.pid))
        time.sleep(0.02)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    process.returncode = 0
    shutil.rmtree(out)
    return usage.ru_maxrss * 1024 / GIB, private, time.perf_counter() - started


def private_gib(pid: int) -> float:
    """Resident memory of a process that is no mapped file (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024 / GIB


def as_report(results: dict[str, list[tuple[int, float, float]]], arguments: str) -> str:
    """The measurements as a page, with the line through the two sizes at the size of the release."""
    full = sum(shape.numel() for _, shape in released_shapes(full_config()))
    lines = [
        "# Peak memory of converting",
        "",
        f"{provenance()}, {memory_gib():.0f} GiB of memory. `python -m benchmarks.convert_memory {arguments}`",
        "",
        "Random checkpoints in the authors' layout; the result is bfloat16. Peak resident memory (GiB), in brackets "
        "what is no mapped file.",
        "",
        "| conversion | parameters | peak | slope, bytes per parameter | extrapolated to the released 7B | bar |",
        "|---|---|---|---|---|---|",
    ]
    for way, measured in results.items():
        (small, *low), (large, *high) = measured
        slopes = [(b - a) / (large - small) for a, b in zip(low, high, strict=True)]
        at_full = [b + slope * (full - large) for b, slope in zip(high, slopes, strict=True)]
        for count, peak, private in measured:
            lines.append(f"| {way} | {count:,} | {peak:.2f} ({private:.2f}) | | | |")
        numbers = "{:.2f} ({:.2f})".format(*(slope * GIB for slope in slopes))
        verdict = "within" if at_full[0] <= BAR_GIB else "**over**"
        lines.append(
            f"| {way} | {full:,} | | {numbers} | {at_full[0]:.1f} ({at_full[1]:.1f}) | {BAR_GIB} GiB: {verdict} |"
        )
    return "\n".join([*lines, ""])


def full_config() -> ElysiumConfig:
    """The released sizes."""
    config = ElysiumConfig()
    config.text_config.vocab_size = 32000
    return config


def memory_gib() -> float:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


if __name__ == "__main__":
    main()
