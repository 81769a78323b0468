"""Label, correct and train in the browser: the local server behind `lofi studio`.

Times are seconds on the player's clock (:mod:`lofi_tal.video.clock`). The labels file is ActivityNet's JSON; what has
no place in it (states, drafts, history, pictures) lies in a work folder beside it.
"""
