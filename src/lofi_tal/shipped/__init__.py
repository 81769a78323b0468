"""Small files that come with the package: an encoder, a localiser and a video to try things on.

``benchmarks/shipped.py`` makes them; each folder has a card with data, recipe, accuracy, command and hash.
"""

from pathlib import Path

_HERE = Path(__file__).parent
DEMO_ENCODER = _HERE / "demo_encoder"
"""Stage 1 of the demonstration: a quarter-width TSM-ResNet-18, trained on the embedded benchmark's clips."""
DEMO_LOCALIZER = _HERE / "demo_localizer"
"""What the demonstration trains from it: encoder, head and classifier."""
DEMO_VIDEO = _HERE / "demo_video.mp4"
"""The validation video of the embedded benchmark on which the localiser does best; no training has seen it."""
DEMO_TRUTH = _HERE / "demo_video.json"
"""Its true segments, in ActivityNet's form."""
