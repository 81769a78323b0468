"""What is fuzzed: each importer and the annotation parser, on any bytes, strictly and leniently.

A target may raise `DataError` and nothing else; what it accepts must survive being written and read again.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
from pathlib import Path
from typing import Any

from lofi_tal.annotations import describe, load_annotations, save_annotations
from lofi_tal.annotations.formats import ImportOptions, guess_format, import_annotations
from lofi_tal.errors import DataError

SUFFIXES = {
    "activitynet": ".json",
    "csv": ".csv",
    "elan": ".eaf",
    "via": ".json",
    "label-studio": ".json",
    "cvat": ".xml",
    "thumos": ".txt",
    "thumos-json": ".json",
    "csv-json": ".json",
    "coin": ".json",
    "boris": ".tsv",
    "boris-json": ".boris",
    "elan-text": ".txt",
    "audacity": ".txt",
    "frame-wise": ".txt",
    "soccernet": ".json",
    "events": ".json",
}


def attack(name: str, data: bytes, folder: Path) -> None:
    """Let the importer ``name`` read ``data`` from a file in ``folder``."""
    path = folder / f"Jump_val{SUFFIXES[name]}"
    path.write_bytes(data)
    for strict in (True, False):
        with contextlib.suppress(DataError):
            found = import_annotations([path], name.removesuffix("-json"), ImportOptions(fps=25.0, strict=strict))
            assert not any(label.splitlines()[1:] for label in found.annotations.labels), "a label on several lines"
            describe(found.annotations).to_json()
            copy = folder / "copy.json"
            save_annotations(copy, found.annotations)
            try:
                again = load_annotations(copy)
            except DataError as error:
                raise AssertionError(f"{name}: what was accepted cannot be read again: {error}") from error
            assert list(again.videos) == list(found.annotations.videos)
            assert [len(v.ignored) for v in again] == [len(v.ignored) for v in found.annotations]
    with contextlib.suppress(DataError):
        guess_format(path)


SEEDS: dict[str, tuple[bytes, ...]] = {
    "activitynet": (
        json.dumps(
            {
                "database": {
                    "a": {
                        "subset": "training",
                        "duration": "9.5",
                        "annotations": [{"segment": ["1", 2.5], "label": "jump"}],
                        "ignored": [{"segment": [3, "4.5"]}],
                    }
                }
            }
        ).encode(),
    ),
    "csv": (
        b"video,start,end,label,subset,duration\na.mp4,25,50,jump,val,9\n-b,,,,,\n",
        b"video;start;end;label\na;1;2;x",
        b"sep=;\nvideo;start;end;label\na;0:01,5;00:00:02:10;x",
    ),
    "elan": (
        b"""<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="file:///v/a%20b.mp4" MIME_TYPE="video/mp4"
TIME_ORIGIN="40"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="3000"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="actions"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>jump</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>run</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER LINGUISTIC_TYPE_REF="r" TIER_ID="detail" PARENT_REF="actions"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3"
ANNOTATION_REF="a1"><ANNOTATION_VALUE>high</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>""",
    ),
    "via": (
        json.dumps(
            {
                "project": {"vid_list": ["1"]},
                "attribute": {
                    "1": {
                        "aname": "action",
                        "anchor_id": "FILE1_Z2_XY0",
                        "type": 4,
                        "options": {"1": "jump", "2": "run"},
                    }
                },
                "file": {"1": {"fid": "1", "fname": "a.mp4", "type": 4, "loc": 1, "src": ""}},
                "metadata": {
                    "1_a": {"vid": "1", "flg": 0, "z": [1.25, 2], "xy": [], "av": {"1": "2"}},
                    "1_b": {"vid": "1", "flg": 1, "z": [3, 4], "xy": [], "av": {"1": "1"}},
                },
                "view": {"1": {"fid_list": ["1"]}},
            }
        ).encode(),
    ),
    "label-studio": (
        json.dumps(
            [
                {
                    "id": 1,
                    "data": {"video": "/data/upload/1/0123abcd-a.mp4", "fps": 25},
                    "annotations": [
                        {
                            "result": [
                                {
                                    "type": "timelinelabels",
                                    "from_name": "labels",
                                    "to_name": "video",
                                    "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["jump"]},
                                },
                                {"type": "choices", "value": {"choices": ["x"]}},
                            ]
                        }
                    ],
                }
            ]
        ).encode(),
        json.dumps(
            [{"id": 2, "video": "s3://bucket/b.mp4", "labels": [{"start": 1, "end": 2, "timeserieslabels": ["run"]}]}]
        ).encode(),
    ),
    "cvat": (
        b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>5</id><name>clip</name><size>90</size><mode>interpolation</mode>
<frame_filter>step=2</frame_filter><source>a.mp4</source></task></meta>
<track id="0" label="jump"><box frame="10" outside="0" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="9" ybr="9"></box>
<box frame="20" outside="1" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="9" ybr="9"></box></track>
<image id="30" name="frame_000030" width="9" height="9"><tag label="run" source="manual"></tag></image>
<image id="32" name="frame_000032" width="9" height="9"><tag label="run" source="manual"></tag></image>
</annotations>""",
    ),
    "csv-json": (
        json.dumps(
            [
                {"video": "gym.mov", "label": "jump", "start": "01:03", "end": "01:03.14"},
                {"video": "gym.mov", "label": "run", "start": 3, "end": "00:00:05"},
            ]
        ).encode(),
    ),
    "events": (
        b'[{"video": "v1.mp4", "events": [{"start": "0:05", "end": 12.5, "label": "run", "score": 0.5}]}]',
        b'{"v1": {"events": [{"start": 1, "end": 2, "label": "run"}]}, "v2": []}',
    ),
    "coin": (
        json.dumps(
            {
                "database": {
                    "v1": {
                        "subset": "training",
                        "duration": 60.0,
                        "annotation": [{"id": "59", "segment": [5.0, 12.0], "label": "pour water"}],
                    }
                }
            }
        ).encode(),
    ),
    "boris": (
        b"Observation id\to\t\t\t\r\nTime\tMedia file path\tSubject\tBehavior\tStatus\r\n"
        b"3.3\tD:/rec/a.mxf\tanna\tstir\tSTART\r\n7.75\tD:/rec/a.mxf\tanna\tstir\tSTOP\r\n"
        b"8.0\tD:/rec/a.mxf\tanna\tcough\tPOINT\r\n",
        b"Observation id,Media file name,Subject,Behavior,Behavior type,Start (s),Stop (s)\n"
        b"o,a.mp4,x,sit,STATE,1,2.5\n",
    ),
    "boris-json": (
        json.dumps(
            {
                "observations": {
                    "o": {
                        "file": {"1": ["a.mp4", "b.mp4"], "2": []},
                        "type": "MEDIA",
                        "events": [[4, "", "walk", "", ""], [12.5, "", "walk", "", ""], [13, "", "bark", "x", ""]],
                        "media_info": {"length": {"a.mp4": 10.0}},
                    },
                    "live": {"file": [], "type": "LIVE", "events": [[1, "", "bark", "", ""]]},
                },
                "behaviors_conf": {
                    "0": {"type": "State event", "code": "walk"},
                    "1": {"type": "Point event", "code": "bark"},
                },
            }
        ).encode(),
    ),
    "elan-text": (
        b"default\t\t00:00:03.200\t3.2\t00:00:10.400\t10.4\t00:00:07.200\t7.2\tgrazing\n",
        b"Begin Time - ss.msec\tEnd Time - ss.msec\thand\tfoot\n1.0\t2.0\twave\tkick\n3.0\t4.5\t\tstep\n",
    ),
    "audacity": (b"3.200000\t10.400000\tgrazing\n\\\t300.0\t900.0\n11,5\t11,5\tpoint\n1.0 2.0 run\n",),
    "frame-wise": (b"SIL\nSIL\npour\npour\nstir\nSIL\n",),
    "soccernet": (
        json.dumps(
            {
                "UrlLocal": "england_epl/2014-2015/2015-02-21 - 18-00 Chelsea 1 - 1 Burnley/",
                "UrlYoutube": "",
                "annotations": [
                    {
                        "gameTime": "1 - 00:06",
                        "label": "Ball out of play",
                        "position": "6543",
                        "team": "not applicable",
                        "visibility": "visible",
                    },
                    {"gameTime": "2 - 45:10", "label": "Goal", "team": "home"},
                ],
            }
        ).encode(),
        json.dumps(
            {
                "UrlLocal": "a/b",
                "predictions": [{"gameTime": "1 - 0:01", "label": "Foul", "position": 1500, "confidence": "0.5"}],
            }
        ).encode(),
    ),
    "thumos": (b"video_validation_0000051  67.5  75.9\nvideo_validation_0000051  85.9  90.6\n",),
    "thumos-json": (
        json.dumps(
            {
                "database": {
                    "video_test_0000004": {
                        "subset": "Test",
                        "annotations": [
                            {"segment": ["0.2", "1.1"], "label": "CricketBowling"},
                            {"segment": ["1", "2"], "label": "Ambiguous"},
                        ],
                    }
                }
            }
        ).encode(),
    ),
}
"""Valid files of each target, from which a fuzzer starts."""

_VALUES = (
    None, True, -1, 0, 0.5, 1, 26, 1e300, -1e-300, 10**400, float("inf"), float("nan"), "", " ", "1", "nan", "1_0",
    "1,2", "a", "../a.mp4", "http://[", "\ud800", "\x00", "A" * 5000, "Ambiguous", "labels", [], {}, [[[[1]]]], [1, 2],
    {"1": "2"},
)  # fmt: skip


def vary(name: str, data: bytes) -> bytes:
    """Return a valid file of the target with a few of its values or parts exchanged, as ``data`` decides."""
    draw = random.Random(data)
    seed = draw.choice(SEEDS[name])
    changes = draw.randint(1, 4)
    if not seed.lstrip().startswith((b"{", b"[")):
        words = re.split(rb'([<>"=,;\s]+)', seed)
        for _ in range(changes):
            place = draw.randrange(len(words))
            words[place] = draw.choice([*words, *(str(value).encode(errors="replace") for value in _VALUES)])
        return b"".join(words)
    document = [json.loads(seed)]
    for _ in range(changes):
        _exchange(document, draw)
    return json.dumps(document[0]).encode()


def _exchange(document: list[Any], draw: random.Random) -> None:
    """Exchange or remove one value at a random depth."""
    holder: Any = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw.choice(keys)
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.1:
            break
        holder = inner
    if holder is not document and draw.random() < 0.2:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(draw.choice(_VALUES))
