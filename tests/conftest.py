"""For all tests: what was imported is not looked through for garbage."""

import gc

gc.disable()


def pytest_collection_finish():
    """Leave out of every later search for garbage what all tests have imported."""
    gc.freeze()
    gc.enable()
