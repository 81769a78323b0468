"""Long files first: a process that gets one of them last works alone at the end."""

LONG = (
    "test_gpu_benchmark",
    "test_hosts",
    "test_wheel",
    "test_sharing",
    "test_parallel",
    "test_cli",
    "test_run",
    "test_arms",
)


def pytest_collection_modifyitems(items):
    """Put the files that take longest first, each in its own order."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))
