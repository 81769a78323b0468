"""What a GPU has to show, in a few minutes: `make gpu`, or `python -m benchmarks.gpu`; see docs/gpu.md."""
