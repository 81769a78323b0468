"""What a step of a video transformer needs grows with the size of its frames as a public system has measured it."""

from benchmarks.vit_memory import LIMIT, differences, planned


def test_memory_of_sizes_is_in_the_published_proportions():
    assert max(map(abs, differences("ViT-S", planned("ViT-S")))) < LIMIT
