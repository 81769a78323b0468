"""The embedded benchmark."""

from lofi_tal.synthetic.dataset import SyntheticDataset, make_dataset
