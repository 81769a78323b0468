"""The embedded benchmark: real encoded videos with exact annotations, whose classes are told apart by motion only.

It lets every command run offline and end to end in minutes on a CPU, and it has the property that matters for
end-to-end training of video encoders: what a still-image encoder sees is worthless. A textured object moves in front
of a textured background beside a bystander. Now and then it runs through a cyclic motion, one to four times in a
video and always of the same class: that is an action. The rest of the time it moves just as fast, without a pattern:
aimless wandering, less than half a cycle of a class, a run of a motion from the clips, short pauses. The bystander does
so all the time, while the camera drifts, the light flickers and the sensor adds noise.

Why it cannot be solved without seeing the pattern of motion:

* *Energy*: all motions, with or without a class, have the same mean speed, measured so that a turn or a change of size
  counts as much as a change of place; class-less motion resembles the classes in what moves.
* *Looks*: each look (object, bystander, background, light) is used once by every class, so looks cannot tell the class;
  training and validation draw from different shapes, textures, patterns and hues.
* *Single frames*: place, angle and size vary as much outside as inside an action.

`controls` measures all three. Periods are 10 to 16 frames, so a snippet of 8 frames at stride 2 shows one cycle or a
little more. A random mirror is part of every motion: a horizontal flip never changes a class, so the usual flip
augmentation is allowed. Turning a video upside down or backwards does change classes.

Target classes, in the untrimmed videos:
    shake_horizontal: to and fro along x.
    shake_vertical: up and down, evenly.
    circle: round and round, either way.
    figure_eight: along a lying eight.
    spin: turns about itself, either way.
    swing: like a pendulum, along an arc and turning with it.
    leap: up fast, down slowly.
    drop: down fast, up slowly (leap, backwards).
    gulp: grows fast, shrinks slowly.
    swell: grows slowly, shrinks fast (gulp, backwards).

Source classes, in the trimmed clips that encoders are pretrained on; made of the same primitives, but no target class
(the clips of the preset `bench_broad` show the target classes as well):
    pulse: grows and shrinks evenly.
    slash: to and fro along a diagonal.
    oval_flat: round a lying ellipse.
    oval_tall: round a standing ellipse.
    wobble: turns a little to and fro.
    lurch: one way fast, the other slowly, along x.
    flatten: gets flat fast, tall slowly.
    spring: gets flat slowly, tall fast (flatten, backwards).
    roll: to and fro along x, rolling.
    square: along the sides of a square.
"""

from lofi_tal.synthetic.controls import Controls, measure_controls
from lofi_tal.synthetic.dataset import SyntheticDataset, make_dataset
from lofi_tal.synthetic.plans import PRESETS, Preset

__all__ = [
    "PRESETS",
    "Controls",
    "Preset",
    "SyntheticDataset",
    "make_dataset",
    "measure_controls",
]
