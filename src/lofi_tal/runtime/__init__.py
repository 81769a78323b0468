"""How a stage runs: device and precision, steps that can stop and go on, records, metrics, progress."""

from lofi_tal.runtime.averaging import WeightAverage
from lofi_tal.runtime.compiling import COMPILE, check_compile, compile_module, fastest_way
from lofi_tal.runtime.device import (
    PRECISIONS,
    PeakMemory,
    auto_precision,
    describe_device,
    environment,
    free_unused,
    make_fabric,
    pinned,
    precision_of,
    tuned_convolutions,
)
from lofi_tal.runtime.heartbeat import tell_failure
from lofi_tal.runtime.metrics import read_metrics
from lofi_tal.runtime.optimisers import make_optimizer
from lofi_tal.runtime.parallel import (
    check_common_folder,
    gather,
    is_parallel,
    on_first,
    rank_and_size,
    share_of_batch,
)
from lofi_tal.runtime.records import (
    Outcome,
    OutOfDateError,
    StageFolder,
    StageRecord,
    fault,
    look_at_stage,
    open_stage,
)
from lofi_tal.runtime.seeding import derive_seed
from lofi_tal.runtime.training import InterruptedRunError, Step, TrainingRun, cosine, falling

__all__ = [
    "COMPILE",
    "PRECISIONS",
    "InterruptedRunError",
    "OutOfDateError",
    "Outcome",
    "PeakMemory",
    "StageFolder",
    "StageRecord",
    "Step",
    "TrainingRun",
    "WeightAverage",
    "auto_precision",
    "check_common_folder",
    "check_compile",
    "compile_module",
    "cosine",
    "derive_seed",
    "describe_device",
    "environment",
    "falling",
    "fastest_way",
    "fault",
    "free_unused",
    "gather",
    "is_parallel",
    "look_at_stage",
    "make_fabric",
    "make_optimizer",
    "on_first",
    "open_stage",
    "pinned",
    "precision_of",
    "rank_and_size",
    "read_metrics",
    "share_of_batch",
    "tell_failure",
    "tuned_convolutions",
]
