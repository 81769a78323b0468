"""Features of videos: kept on disk, held in memory, or read as others published them."""

from lofi_tal.features.published import RESIZES, PublishedFeatures, export_npy, find_features, resize_features
from lofi_tal.features.sets import FeatureSet, window_features
from lofi_tal.features.store import FeatureStore

__all__ = [
    "RESIZES", "FeatureSet", "FeatureStore", "PublishedFeatures", "export_npy", "find_features", "resize_features",
    "window_features",
]  # fmt: skip
