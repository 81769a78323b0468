"""Features of videos: kept on disk, held in memory, or read as others published them."""

from lofi_tal.features.grid import FeatureGrid
from lofi_tal.features.published import RESIZES, PublishedFeatures, export_npy, find_features, resize_features
from lofi_tal.features.sets import FeatureSet, stack_features, window_features
from lofi_tal.features.store import FeatureStore

__all__ = [
    "RESIZES", "FeatureGrid", "FeatureSet", "FeatureStore", "PublishedFeatures", "export_npy", "find_features",
    "resize_features", "stack_features", "window_features",
]  # fmt: skip
