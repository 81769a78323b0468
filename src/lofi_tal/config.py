"""The recipe: everything that decides what a run computes, as typed YAML.

Every section names the component whose options it holds; the stages take plain arguments and never see a recipe.
Unknown keys are errors that name the nearest known key. Defaults are the paper's settings for ActivityNet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from lofi_tal.balance import BalanceSection
from lofi_tal.bounds import PlainName
from lofi_tal.encoder_settings import EncoderSection
from lofi_tal.errors import LofiError, nearest, quoted
from lofi_tal.feature_settings import FeaturesSection
from lofi_tal.fidelity import SCHEDULES, Fidelity, Schedule, create_schedule
from lofi_tal.head_settings import HeadSection
from lofi_tal.postprocess.nms import check_gate
from lofi_tal.settings import LaterSection, Section, SnippetBounds, known, leaves
from lofi_tal.tasks import TASKS
from lofi_tal.tracking import LOGGERS


class DataSection(LaterSection):
    """Where the data lie and how they are split."""

    later = frozenset({"background", "cache", "events"})

    annotations: Path
    """ActivityNet-style JSON."""
    videos: Path | None = None
    """Folder of the untrimmed videos, named <id>.mp4, v_<id>.mkv, ... (videos/**: with all folders in it); needed
    unless there are features."""
    manifest: Path | None = None
    """What `lofi data check --manifest` wrote about the videos; a run examines them itself without it."""
    clips: Path | None = None
    """Kinetics-style CSV of trimmed clips for stage 1."""
    clips_root: Path | None = None
    """Folder of the trimmed clips (class folders)."""
    train_subset: str = "training"
    """Subset that is trained on."""
    eval_subset: str = "validation"
    """Subset that is evaluated; no choice is ever made on it."""
    selection_share: float = Field(0.15, ge=0.0, lt=1.0)
    """Share of the training videos that no stage but the last refit trains on; choices are made there."""
    flip: bool = True
    """Mirror training videos at random; set to false if a mirrored action is another class."""
    cache_gib: float = Field(20.0, ge=0.0)
    """Limit of the decoded-frame cache on disk, in GiB; 0 turns it off."""
    cache: Path | None = None
    """Folder of that cache, which several runs may share; null takes cache/ in the run folder."""
    decoder: Literal["pyav", "torchcodec"] = "pyav"
    """What decodes videos in training and extraction; torchcodec is optional (pip install 'lofi-tal[torchcodec]')."""
    workers: int = Field(2, ge=0)
    """Loader processes."""
    max_lost: float = Field(0.5, ge=0, le=1)
    """Share of a subset's videos that may be missing or unreadable; a run with more stops before it trains."""
    background: bool = False
    """Train stage 2 and the head also on training videos without segments, as negatives; they are unused without it."""
    events: float | None = Field(None, gt=0)
    """Labels with start = end are events: segments of so many seconds around them. Without it they are left out."""
    tiou: Literal["activitynet", "thumos"] = "activitynet"
    """Thresholds of mAP: 0.5:0.05:0.95, or 0.3:0.1:0.7."""


class SnippetSection(SnippetBounds):
    """Full fidelity: L snippets of T frames at S × S pixels."""

    count: int = Field(100, ge=2)
    """L, snippets a video or window (and features of the head)."""
    frames: int = Field(8, ge=1)
    """T, frames a snippet."""
    stride: float = Field(8.0, gt=0)
    """Frames of the video from one frame of a snippet to the next."""
    size: int = Field(224, ge=16)
    """S, side of the square crop in pixels; the short side is scaled to 8/7 of it before the crop."""
    window: float | None = Field(None, ge=0.1)
    """Seconds of a sliding window, for long videos; null takes every video as one."""
    overlap: float = Field(0.5, ge=0.0, le=0.95)
    """Share of a window that the next one sees too."""

    def record(self, *, cut: bool = True) -> dict[str, Any]:
        """Return what depends on these settings, JSON-like; windows only where there are some.

        Args:
            cut: How windows are cut matters, not only how many snippets a second there are.
        """
        without = {"window", "overlap"} if self.window is None else set() if cut else {"overlap"}
        return self.model_dump(mode="json", exclude=without)


class ClassificationSection(LaterSection):
    """Training the encoder to classify clips (TSM's public Kinetics recipe)."""

    later = frozenset({"encoder_lr", "layer_decay"})

    epochs: int = Field(50, ge=1)
    """Passes over the clips."""
    batch: int = Field(128, ge=1)
    """Clips an optimiser step."""
    lr: float = Field(0.02, gt=0)
    """Learning rate for this batch."""
    encoder_lr: float | None = Field(None, gt=0)
    """Learning rate of the encoder where it shall differ from that of the classification layer; None: lr."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of a group of layers as a share of that of the group behind it (0.75, say); None: all the same."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd is the public recipe; adamw (with a cosine schedule) trains small encoders from random weights faster."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 penalty; biases and BatchNorm are spared."""
    milestones: tuple[float, ...] = (0.4, 0.8)
    """Shares of the epochs after which the learning rate falls to a tenth."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Before the classification layer."""
    batchnorm: Literal["train", "frozen_stats", "frozen"] = "train"
    """How the encoder's BatchNorm behaves."""
    clip_norm: float | None = Field(20.0, gt=0)
    """Largest gradient norm."""
    sampling: Literal["dense", "uniform"] = "dense"
    """dense: T frames with the snippet stride; uniform: one frame from each of T equal parts."""
    multi_scale: bool = True
    """Random crops of 1, 0.875, 0.75 or 0.66 of the short side; off: random position only."""


class PretrainSection(ClassificationSection):
    """Stage 1: what the encoder learns from trimmed clips (TSM's public Kinetics recipe)."""

    task: Annotated[str, known(TASKS)] = "acp"
    """One of `lofi models list`: the class of a clip (acp), whether it runs forwards (arrow), or whether it is sped up
    (speed). The last two need no labels, and encode every clip twice."""


class FinetuneSection(ClassificationSection):
    """ACP+: after stage 1, the encoder learns to classify the segments of the training videos (TSM's public recipe)."""

    epochs: int = Field(25, ge=1)
    """Passes over the segments."""
    batch: int = Field(64, ge=1)
    """Clips an optimiser step."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate for this batch."""
    dropout: float = Field(0.8, ge=0, lt=1)
    """Before the classification layer."""
    background: bool = False
    """Clips from between the segments are one more class, as in TSP (Alwassel et al., 2021)."""


class LofiSection(LaterSection):
    """Stage 2: encoder and head end to end on the localisation loss, at low fidelity (paper sec. 3.2, 4.3)."""

    later = frozenset({"watch", "ema", "layer_decay"})

    schedule: Annotated[str, known(SCHEDULES)] = "long"
    """Fidelity schedule, one of `lofi models list`: S-, T-, ST-LoFi, Short or Long Cyclic LoFi, or full fidelity."""
    r_t: float = Field(4.0, ge=1)
    """Temporal ratio of T-LoFi; ST-LoFi takes its square root."""
    r_s: float = Field(2.0, ge=1)
    """Spatial ratio of S-LoFi; ST-LoFi takes its square root."""
    cycle: tuple[tuple[float, float], ...] | None = Field(None, min_length=1)
    """Other phases for the short and long schedules: a list of [r_t, r_s] pairs, gone round in this order."""
    c_l: int = Field(1, ge=1)
    """Epochs of each phase in the long cycle."""
    c_s: int = Field(16, ge=1)
    """Mini-batches of each phase in the short cycle."""
    epochs: int = Field(15, ge=1)
    """Passes over the videos; the paper does not state its number (15 is five full cycles)."""
    batch: int = Field(16, ge=1)
    """Videos an optimiser step, the same for every fidelity."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a batch goes through encoder and head one after the other, to need less memory."""
    strategy: Literal["plain", "checkpoint", "chunked"] = "plain"
    """plain keeps every activation; checkpoint the inputs of each block; chunked nothing but the features."""
    chunk: int = Field(8, ge=1)
    """Snippets that chunked encodes (and normalises) together."""
    gradient_share: float = Field(1.0, gt=0, le=1)
    """Share of the snippets, drawn anew at each step, that is back-propagated."""
    lr: float = Field(0.1, gt=0)
    """Learning rate for encoder and head."""
    encoder_lr: float | None = Field(None, gt=0)
    """Learning rate of the encoder where it shall differ from the head's; it falls with it. None, as the paper: lr."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Learning rate of a group of layers as a share of that of the group behind it (0.75, say); None: all the same."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd is the paper's; adamw (with a cosine schedule instead of falls) needs fewer steps on small sets."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 penalty on every parameter."""
    lr_step: int = Field(5, ge=1)
    """Epochs after which the learning rate falls by lr_gamma."""
    lr_gamma: float = Field(0.5, gt=0, le=1)
    """Factor of each fall."""
    batchnorm: Literal["train", "frozen_stats", "frozen"] = "train"
    """How the encoder's BatchNorm behaves."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; none in the paper."""
    reestimate: int = Field(0, ge=0)
    """Batches at full fidelity with which BatchNorm's statistics are estimated anew after the last epoch."""
    class_loss: float = Field(0.0, ge=0)
    """Weight of a snippet classification loss (classes and background); 0 in the paper."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of weights and batch statistics (0.999, say), which is saved instead of the last."""
    watch: int | None = Field(None, ge=0)
    """Epochs between two looks at held-out training videos (loss and mAP); 0 never, null so that they cost little."""

    def inputs(self) -> dict[str, Any]:
        """Return what the encoder depends on: all but the looks, which change nothing."""
        return self.model_dump(mode="json", exclude={"watch"})

    def fidelities_over(self, full: Fidelity) -> Schedule:
        """Return the schedule of these settings, given full fidelity."""
        names = ("r_t", "r_s", "c_l", "c_s", "cycle")
        return create_schedule(self.schedule, full, **{name: getattr(self, name) for name in names})


class ClassifierSection(Section):
    """Class scores of proposals, from the same frozen features."""

    epochs: int = Field(40, ge=1)
    """Passes over the training segments."""
    lr: float = Field(2e-3, gt=0)
    """Learning rate of AdamW."""
    hidden: int = Field(128, ge=1)
    """Hidden units."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """On the pooled features."""
    scores: Path | None = None
    """Class scores of the evaluated videos from another system; mAP with them is reported beside the others."""
    layout: Literal["cuhk", "hacs"] = "cuhk"
    """Layout of that file: {"results": {id: [scores]}, "class": [names]}, or HACS's two best classes by position."""


class DetectSection(LaterSection):
    """From head outputs to detections (G-TAD's public post-processing)."""

    later = frozenset({"gate", "vote", "multi_label", "spacing"})

    preset: Literal["fixed", "official"] = "fixed"
    """official cannot reach the end of the video; fixed can."""
    sigma: float = Field(0.84, gt=0)
    """Gaussian soft-NMS: score · exp(-tIoU² / sigma)."""
    top_k: int = Field(100, ge=1)
    """Proposals kept for each video; for a longer one than a window, so many for the length of each window."""
    classes: int = Field(2, ge=1)
    """Classes for each proposal."""
    gate: Annotated[tuple[float, float], AfterValidator(check_gate)] | None = None
    """BMN's gated soft-NMS ([0.5, 0.9] there, with sigma 0.4): overlaps below the gate do not decay a score."""
    vote: float | None = Field(None, gt=0, le=1)
    """Score voting (0.95 in ActionFormer): what is kept becomes the mean of all proposals that overlap it so much."""
    multi_label: bool = False
    """Classes overlap: each one is scored, suppressed and shown by itself, in lofi.class_loss too; `classes` has no
    effect."""
    spacing: float | None = Field(None, ge=0)
    """Point events: of those of a class nearer than so many seconds the best is kept; null: data.events, 0: all."""


class Recipe(LaterSection):
    """A whole run: three stages, detection and evaluation."""

    later = frozenset({"balance", "tracking"})

    name: PlainName = "lofi"
    """Shown in reports, and the run folder in runs/ without --output."""
    seed: int = 0
    """Random seed."""
    data: DataSection
    features: FeaturesSection | None = None
    """Published features; stages 1 and 2 are left out then, and L is snippets.count."""
    encoder: EncoderSection = EncoderSection()
    snippets: SnippetSection = SnippetSection()
    pretrain: PretrainSection | None = PretrainSection()
    """Stage 1; null starts stage 2 from encoder.weights or encoder.pretrained (or from random weights)."""
    finetune: FinetuneSection | None = None
    """ACP+, after stage 1 and before stage 2."""
    second: PretrainSection | None = None
    """Another stage 1 of a second encoder on the same clips: from extraction on, both features are concatenated."""
    lofi: LofiSection | None = LofiSection()
    """Stage 2; null uses the encoder of stage 1 as it is (the paper's baseline)."""
    head: HeadSection = HeadSection()
    classifier: ClassifierSection = ClassifierSection()
    balance: BalanceSection = BalanceSection()
    detect: DetectSection = DetectSection()
    baseline: bool = False
    """Also run stage 3 on the encoder that stage 2 started from, and report both."""
    tracking: dict[Annotated[str, known(LOGGERS)], dict[str, Any]] = Field(default_factory=dict)
    """Loggers of the metrics with their options, such as {csv: {}, wandb: {project: mine}}; TensorBoard without any."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.detect.spacing is not None and self.data.events is None:
            raise ValueError("detect.spacing is for point events: set data.events (their width in seconds) as well")
        if self.encoder.weights is not None and self.encoder.pretrained is not None:
            raise ValueError("encoder.weights and encoder.pretrained exclude each other: give one of them")
        if self.second is not None and self.encoder.train == "adapter":
            raise ValueError("encoder.train: adapter does not go with `second`: two encoders are trained whole")
        if "pretrained" in self.encoder.options:
            raise ValueError("`pretrained` is no option of an encoder: set encoder.pretrained or encoder.weights")
        return self

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        if self.data.videos is None and self.features is None:
            raise ValueError("data.videos (a folder of videos) is missing, and there are no features.sources either")
        return self


def path_settings() -> tuple[tuple[str, str], ...]:
    """Return ``(section, key)`` of every setting that is a path, or several."""
    settings = []
    for section, field in Recipe.model_fields.items():
        model = _model_of(field.annotation)
        for key, inner in model.model_fields.items() if model else ():
            if Path in leaves(inner.annotation):
                settings.append((section, key))
    return tuple(settings)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section model among the types of a setting."""
    models = [leaf for leaf in leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]
    return models[0] if models else None


def make_recipe(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check a mapping and return the recipe.

    Raises:
        LofiError: For each unknown key or value that is not allowed, in one message.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise LofiError(f"{where}: " + " ".join(lines)) from error


def _explain(item: Any) -> str:
    """Turn one pydantic error into a sentence."""
    setting = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        section, name = _section_at(item["loc"][:-1]), str(item["loc"][-1])
        return f"{setting!r} is not a known setting.{nearest(name, section.model_fields if section else ())}"
    if item["type"] == "value_error":
        message = str(item["msg"]).removeprefix("Value error, ")
        return (f"{setting!r}: " if setting else "") + message + ("" if message.endswith((".", "?")) else ".")
    if item["type"] == "missing":
        return f"{setting!r} is missing."
    return f"{setting!r} is {quoted(item['input'])}: {item['msg'][0].lower()}{item['msg'][1:]}."


def _section_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the section model at a place in the recipe."""
    model: type[BaseModel] = Recipe
    for key in location:
        field = model.model_fields.get(str(key))
        inner = None if field is None else _model_of(field.annotation)
        if inner is None:
            return None
        model = inner
    return model
