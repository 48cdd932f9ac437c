"""How a checkpoint may be loaded: dtypes, devices, quantized; by the model, the pipeline and the command."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForImageTextToText, BitsAndBytesConfig, pipeline
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration, ElysiumModel
from tests.modeling.tiny_models import tiny_config, tiny_frames, tiny_model, tiny_prompt
from tests.processing.tiny_processor import tiny_processor
from tracking_elysium.cli import make_parser
from tracking_elysium.cli.commands import load_pipeline

FULL = ("model.selector.", "model.multi_modal_projector.", "lm_head")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loading")
    tiny_model().save_pretrained(path)
    tiny_processor(num_image_tokens=6).save_pretrained(path)
    return path


def example() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([tiny_prompt(5, 0, 7, 0, 9)]), "pixel_values": tiny_frames(2)}


def dtypes(model: nn.Module) -> tuple[set[torch.dtype], set[torch.dtype]]:
    """Those of selector and projector, and those of the rest."""
    inner, outer = set(), set()
    for name, parameter in model.named_parameters():
        (inner if "selector" in name or "projector" in name else outer).add(parameter.dtype)
    return inner, outer


# --------------------------------------------------------------------------------------------------------------
# dtype
# --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "inner", "outer"),
    [
        ({"dtype": torch.bfloat16}, torch.bfloat16, torch.bfloat16),
        ({"dtype": "bfloat16"}, torch.bfloat16, torch.bfloat16),  # as text, as the command has it
        ({"torch_dtype": torch.bfloat16}, torch.bfloat16, torch.bfloat16),  # the old name
        ({"dtype": torch.float16}, torch.float32, torch.float16),  # float16 overflows where bfloat16 does not
        ({"dtype": "auto"}, torch.float32, torch.float32),  # as saved
        ({}, torch.float32, torch.float32),
    ],
)
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForImageTextToText])
def test_dtype_is_the_callers(folder, auto_class, given, inner, outer):
    model = auto_class.from_pretrained(folder, **given)
    assert dtypes(model) == ({inner}, {outer}) and model.dtype == outer
    hidden = model(**example())[0]
    assert hidden.dtype == outer and hidden.isfinite().all()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"selector_scorer": "mlp"},
        {"compressor_type": "cross_attention"},
        {"compressor_type": "concat", "num_image_tokens": 4},
        {"compressor_type": "mlp", "num_image_tokens": 16},
    ],
    ids=str,
)
def test_float16_runs_with_every_compressor(tmp_path, fields):
    tiny_model(**fields).save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float16)
    features = model.get_image_features(tiny_frames(2).half(), return_dict=True).pooler_output
    ids = torch.tensor([tiny_prompt(5, 0, 0, 7, num_kept=len(features[0]))])
    assert model(input_ids=ids, pixel_values=tiny_frames(2).half()).logits.isfinite().all()


def test_sixteen_bits_rank_as_the_rounded_weights_do_in_float32(folder):
    """No score is rounded: the bfloat16 model keeps what its weights, computed in float32, keep."""
    half = AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    patches = torch.randn(8, 16, 32).bfloat16()
    whole = ElysiumModel(half.config).selector
    whole.load_state_dict(half.selector.state_dict())
    assert half.selector.score(patches).dtype == torch.float32
    assert torch.equal(half.selector.score(patches), whole.score(patches.float()))
    assert torch.equal(half.selector(patches)[1], whole(patches.float())[1])


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_dtype_through_pipeline_and_command(folder, name):
    pipe = pipeline("video-tracking", model=str(folder), dtype=name)
    args = make_parser().parse_args(["track", "x.mp4", "--box", "1,2,3,4", "--model", str(folder), "--dtype", name])
    for model in (pipe.model, load_pipeline(args, pipe.processor).model):
        assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, name)}


# --------------------------------------------------------------------------------------------------------------
# device_map
# --------------------------------------------------------------------------------------------------------------
def test_device_map_auto(folder):
    pytest.importorskip("accelerate")
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    pipe = pipeline("video-tracking", model=str(folder), device_map="auto")
    args = make_parser().parse_args(["track", "x.mp4", "--box", "1,2,3,4", "--model", str(folder), "--device", "auto"])
    for loaded in (
        AutoModelForImageTextToText.from_pretrained(folder, device_map="auto"),
        AutoModel.from_pretrained(folder, device_map="auto"),
        pipe.model,
        load_pipeline(args, pipe.processor).model,
    ):
        same = plain if hasattr(loaded, "lm_head") else plain.model
        assert torch.equal(loaded(**example())[0], same(**example())[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", ["vision_tower", "selector", "multi_modal_projector", "language_model"])
def test_any_part_may_be_on_disk(folder, tmp_path, part, dtype):
    """Parts that are read when they run must run through their modules."""
    pytest.importorskip("accelerate")
    parts = ("vision_tower", "selector", "multi_modal_projector", "language_model")
    places = {f"model.{name}": "disk" if name == part else "cpu" for name in parts} | {"lm_head": "cpu"}
    loaded = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, device_map=places, offload_folder=tmp_path
    )
    assert any(parameter.device.type == "meta" for parameter in loaded.parameters())
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
    assert torch.equal(loaded(**example()).logits, plain(**example()).logits)


# --------------------------------------------------------------------------------------------------------------
# quantized
# --------------------------------------------------------------------------------------------------------------
def converted_names(model: nn.Module, skip: list[str] | None = None) -> set[str]:
    """Linear layers that a quantizer of the library replaces."""
    keep = HfQuantizer.get_modules_to_not_convert(model, skip, model._keep_in_fp32_modules)
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {name for name in linear if should_convert_module(name, keep)}


def test_what_is_quantized_at_full_size():
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(ElysiumConfig())
    names = converted_names(model)
    assert not [name for name in names if name.startswith(FULL)]
    language = {name for name in names if name.startswith("model.language_model.layers.")}
    tower = {name for name in names if name.startswith("model.vision_tower.encoder.layers.")}
    assert (len(language), len(tower)) == (32 * 7, 23 * 6) and language | tower == names
    assert not [name for name in converted_names(model.model) if name.startswith(("selector", "multi_modal"))]


@pytest.mark.parametrize("fields", [{}, {"selector_scorer": "mlp"}, {"compressor_type": "cross_attention"}], ids=str)
def test_a_list_of_the_callers_does_not_expose_selector_and_projector(fields):
    with torch.device("meta"):
        model = ElysiumForConditionalGeneration(tiny_config(**fields))
    names = converted_names(model, ["vision_tower", "lm_head"])
    assert names and not [name for name in names if name.startswith(FULL)]


@pytest.mark.parametrize(
    "settings",
    [
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.bfloat16, "bnb_4bit_use_double_quant": True},
        {"load_in_8bit": True},
    ],
    ids=["nf4", "fp4-double", "int8"],
)
def test_bitsandbytes_config_is_accepted(tmp_path, settings):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    # Its 4-bit kernels take widths in multiples of 64.
    wide = {"hidden_size": 64, "intermediate_size": 128}
    tiny_model(vision_config=wide, text_config=wide | {"num_key_value_heads": 4}).save_pretrained(tmp_path)
    folder, device = tmp_path, "cuda" if torch.cuda.is_available() else "cpu"
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16, device_map=device)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.bfloat16, device_map=device, quantization_config=BitsAndBytesConfig(**settings)
    )
    kind = bitsandbytes.nn.Linear4bit if "load_in_4bit" in settings else bitsandbytes.nn.Linear8bitLt
    replaced = {name for name, module in model.named_modules() if isinstance(module, kind)}
    assert replaced == converted_names(plain)
    inputs = {key: value.to(device) for key, value in example().items()}
    assert model(**inputs).logits.isfinite().all()
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1] > inputs["input_ids"].shape[1]
