"""The embedded benchmark: real encoded videos whose classes are told apart by motion, and by nothing else.

An object moves all the time; in an action it runs through a closed path of its class, outside it wanders with the same
amount of motion, in the same degrees of freedom, broken by fragments, slowed and reversed versions of the class's own
path and by pauses. A bystander moves as well, the background is textured, the camera drifts and shakes, the light
flickers. Training and validation have different objects, textures, backgrounds and colours. So neither one frame nor
the amount of motion tells anything (`measure_controls` holds the benchmark to this): an encoder has to learn motion.

Target classes, in the untrimmed videos (one class a video):

    shake_horizontal, shake_vertical   to and fro
    circle, figure_eight               closed paths
    spin                               keeps turning
    swing                              a pendulum: to and fro along an arc, leaning
    leap, drop                         quickly up and slowly down, and the reverse in time
    gulp, swell                        quickly larger and slowly smaller, and the reverse in time

Source classes, in the trimmed clips of stage 1:

    pulse                              grows and shrinks evenly
    slash                              to and fro along a diagonal
    oval_flat, oval_tall, square       closed paths of other shapes
    wobble, roll                       turns to and fro, on the spot and while moving
    lurch                              quickly sideways and slowly back
    flatten, spring                    is quickly flattened and slowly recovers, and the reverse in time

A horizontal flip never changes a class; a vertical flip or a reversal in time does.
"""

from lofi_tal.synthetic.controls import Controls, measure_controls, watch
from lofi_tal.synthetic.dataset import SyntheticDataset, dataset_paths, make_dataset, plan_dataset
from lofi_tal.synthetic.plans import PRESETS, Plan, Preset, find_preset

__all__ = [
    "PRESETS",
    "Controls",
    "Plan",
    "Preset",
    "SyntheticDataset",
    "dataset_paths",
    "find_preset",
    "make_dataset",
    "measure_controls",
    "plan_dataset",
    "watch",
]
