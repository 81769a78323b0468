"""Fuzzing of everything that reads annotation files from strangers: `make fuzz`, and a smaller share in the tests."""
