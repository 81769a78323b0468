"""What is opened as a video, and how large it may be: files may come from a stranger."""

from __future__ import annotations

_CONTAINERS = (
    "mov matroska avi mpeg mpegts flv live_flv kux asf asf_o ogg mxf gxf lxf rm ivr nut nuv wtv dhav pva pmp "
    "vividas dv swf smjpeg mpjpeg yuv4mpegpipe ivf lvf mtv mods moflex usm ifv r3d cine ty luodat nc lmlm4 vivo "
    "film_cpk filmstrip ingenient"
)
_STREAMS = (
    "h261 h263 h264 hevc vvc evc av1 obu m4v mpegvideo mjpeg mjpeg_2000 vc1 vc1test dirac dnxhd cavsvideo avs2 avs3 "
    "apv ipu simbiosis_imx xmv pdv"
)
_ANIMATIONS = (
    "gif apng jpegxl_anim 4xm anm argo_brp avs bethsoftvid bfi bink bmv c93 cdg cdxl dfa dsicin dxa ea flic gdv hnm "
    "hxvs idcin ipmovie jv mgsts mm msnwctcp mv mvi mxg nsv paf psxstr rl2 roq rpl sdr2 sga siff smk smush thp "
    "tiertexseq tmv vmd wc3movie wsvqa yop"
)
FORMATS = (*_CONTAINERS.split(), *_STREAMS.split(), *_ANIMATIONS.split())
"""FFmpeg's names of what is opened: containers, elementary streams and animations, each of one file that holds all.

What is left out cannot show moving pictures (sound, text, still pictures), or reads other places than the file:
playlists and scripts (HLS, DASH, concat, SDP, image sequences), devices, filters, subtitles in two files, and Magic
Lantern's recordings in several (MLV).
"""

LISTS = {
    b"#EXTM3U": "a playlist (M3U, HLS)",
    b"ffconcat": "a script for FFmpeg's concat",
    b"<MPD": "a playlist (DASH)",
    b"[playlist]": "a playlist (PLS)",
    b"v=0": "a description of a stream (SDP)",
}
"""How files begin that only name others, and what they are."""

MAX_PIXELS = 2**26
"""Of a frame: twice 8K. A file of one kilobyte may claim any size, and is believed by what decodes it."""

MAX_ASPECT = 64
"""Times one side of a frame may be the other; scaling the shorter side up would make any number of pixels else."""

MAX_SECONDS = 30 * 24 * 3600.0
"""Of a video: a file of one frame may claim decades, and windows are cut from all of them."""

MAX_MEMORY = 6 * 2**30
"""Bytes by which examining one file may let a process grow."""
