"""The stages: pretrain, lofi, extract, head, detect. Each reads artefacts, writes artefacts, and can run alone."""
