"""`python -m lofi_tal.cli` is the `lofi` command, for launchers that start modules."""

from lofi_tal.cli import main

main()
