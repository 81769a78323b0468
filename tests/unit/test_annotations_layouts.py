"""CVAT, ELAN, COIN, VIA and Label Studio as people use them; other layouts are refused with what was expected."""

from __future__ import annotations

import re

import pytest

from lofi_tal.annotations import load_annotations
from lofi_tal.annotations.formats import ImportOptions, VideoFolder, guess_format, import_annotations
from lofi_tal.annotations.formats.export import CLASS_LIST, write_opentad
from lofi_tal.errors import DataError, LofiError
from tests.importing import segments, write
from tests.videos import every, make

# --- CVAT: actions as attributes, drawn frame by frame, and on images


def cvat(body: str, attributes: str = "", labels: tuple[str, ...] = ("person",), more: str = "") -> str:
    described = "".join(
        f"<label><name>{label}</name><type>any</type><attributes>{attributes}</attributes></label>" for label in labels
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><id>7</id>'
        f"<name>ward</name><mode>interpolation</mode><frame_filter>{more}</frame_filter><labels>{described}</labels>"
        f"<source>ward.mxf</source></task></meta>\n{body}</annotations>\n"
    )


def attribute(name: str, kind: str = "select", mutable: str = "True") -> str:
    return f"<attribute><name>{name}</name><mutable>{mutable}</mutable><input_type>{kind}</input_type></attribute>"


def shape(frame: int, outside: int = 0, kind: str = "box", **values: str) -> str:
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in values.items())
    return f'<{kind} frame="{frame}" keyframe="1" outside="{outside}" occluded="0">{inner}</{kind}>\n'


def track(*shapes: str, label: str = "person") -> str:
    return f'<track id="0" label="{label}" source="manual">{"".join(shapes)}</track>\n'


def image(frame: int, *labels: str, kind: str = "box", **values: str) -> str:
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in values.items())
    items = "".join(f'<{kind} label="{label}" source="manual">{inner}</{kind}>' for label in labels)
    return f'<image id="{frame}" name="frame_{frame:06d}" width="64" height="48">{items}</image>\n'


WALK_FALL_LIE = track(
    shape(0, action="walk"), shape(40, action="fall"), shape(60, action="lie"), shape(99, action="lie")
)


def test_cvat_actions_as_attributes(tmp_path):
    path = write(tmp_path / "a.xml", cvat(WALK_FALL_LIE, attribute("action")))
    expected = [(0, 4, "walk"), (4, 6, "fall"), (6, 10, "lie")]
    assert segments(path, fps=10.0) == {"ward": expected}
    assert segments(path, fps=10.0, layers=("action",)) == {"ward": expected}
    assert segments(path, fps=10.0, layers=("label",)) == {"ward": [(0, 10, "person")]}
    found = import_annotations([path], None, ImportOptions(fps=10.0))
    assert "their attribute 'action' is read; --layer label reads the label" in found.remarks[0]
    with pytest.raises(DataError, match=r"no attribute 'acton'; they have 'action'. Did you mean 'action'"):
        segments(path, fps=10.0, layers=("acton",))


@pytest.mark.parametrize(
    ("body", "described", "labels", "layers", "expected"),
    [
        (WALK_FALL_LIE, "", ("person",), (), [(0, 4, "walk"), (4, 6, "fall"), (6, 10, "lie")]),  # not described
        (  # two people: the attribute ends where one goes outside, and both count
            track(shape(0, action="sit"), shape(20, 1, action="sit"), shape(50, action="sit"), shape(69, action="sit"))
            + track(shape(10, action="stand"), shape(30, 1, action="stand")),
            attribute("action"), ("person",), (), [(0, 2, "sit"), (1, 3, "stand"), (5, 7, "sit")],
        ),
        (  # a yes or no for each action
            track(shape(0, falls="false"), shape(30, falls="true"), shape(50, falls="false")),
            attribute("falls", "checkbox"), ("person",), ("falls",), [(3, 5, "falls")],
        ),
        (  # several labels: the label is the action, the attribute a detail
            track(shape(0, speed="slow"), shape(10, speed="fast"), shape(19, speed="fast"), label="walk")
            + track(shape(30, speed="slow"), shape(40, 1, speed="slow"), label="run"),
            attribute("speed"), ("walk", "run"), (), [(0, 2, "walk"), (3, 4, "run")],
        ),
        (  # an attribute that never changes does not replace the label
            track(shape(0, who="anna"), shape(20, 1, who="anna")),
            attribute("who", mutable="False"), ("person",), (), [(0, 2, "person")],
        ),
        (  # skeletons say of each point whether it is there
            '<track id="0" label="wave">'
            '<skeleton frame="0"><points label="1" outside="0"/><points label="2" outside="1"/></skeleton>'
            '<skeleton frame="20"><points label="1" outside="1"/><points label="2" outside="1"/></skeleton></track>',
            "", ("wave",), (), [(0, 2, "wave")],
        ),
    ],
)  # fmt: skip
def test_cvat_attributes_in_other_ways(tmp_path, body, described, labels, layers, expected):
    path = write(tmp_path / "a.xml", cvat(body, described, labels))
    assert segments(path, fps=10.0, layers=layers) == {"ward": expected}


def test_cvat_with_several_attributes_asks_which(tmp_path):
    described = attribute("action") + attribute("posture", "radio") + attribute("age", "number")
    path = write(tmp_path / "a.xml", cvat(WALK_FALL_LIE, described))
    with pytest.raises(DataError, match=r"Several attributes change: 'action', 'posture'. Name the one"):
        segments(path, fps=10.0)


def test_cvat_tracks_of_one_frame_are_one_span_where_they_are_neighbours(tmp_path):
    body = "".join(track(shape(frame), shape(frame + 1, 1), label="fall") for frame in range(40, 60))
    path = write(tmp_path / "a.xml", cvat(body, labels=("fall",)))
    assert segments(path, fps=10.0) == {"ward": [(4, 6, "fall")]}
    body += "".join(track(shape(frame, kind="polygon"), label="fall") for frame in (80, 81))
    assert segments(write(path, cvat(body, labels=("fall",))), fps=10.0)["ward"][1:] == [(8, 8.2, "fall")]
    every = "".join(track(shape(frame), shape(frame + 5, 1), label="fall") for frame in range(0, 20, 5))
    assert segments(write(path, cvat(every, labels=("fall",), more="step=5")), fps=5.0) == {"ward": [(0, 4, "fall")]}


def test_cvat_two_tracks_that_meet_stay_two(tmp_path):
    body = track(shape(0), shape(10, 1), label="fall") + track(shape(10), shape(20, 1), label="fall")
    path = write(tmp_path / "a.xml", cvat(body, labels=("fall",)))
    assert segments(path, fps=10.0) == {"ward": [(0, 1, "fall"), (1, 2, "fall")]}


@pytest.mark.parametrize("kind", ["box", "polygon", "ellipse", "mask", "tag"])
def test_cvat_exports_for_images(tmp_path, kind):
    body = "".join(image(frame, "fall", kind=kind) for frame in range(40, 60)) + image(70, "run", "fall", kind=kind)
    path = write(tmp_path / "a.xml", cvat(body, labels=("fall", "run")))
    assert segments(path, fps=10.0) == {"ward": [(4, 6, "fall"), (7, 7.1, "fall"), (7, 7.1, "run")]}


def test_cvat_attributes_of_images(tmp_path):
    body = "".join(image(frame, "person", action="sit" if frame < 5 else "stand") for frame in range(10))
    path = write(tmp_path / "a.xml", cvat(body, attribute("action")))
    assert segments(path, fps=10.0) == {"ward": [(0, 0.5, "sit"), (0.5, 1, "stand")]}


def test_cvat_with_objects_that_give_nothing_is_refused(tmp_path):
    body = track(shape(0, falls="false"), shape(9, falls="false"))
    path = write(tmp_path / "a.xml", cvat(body, attribute("falls", "checkbox")))
    with pytest.raises(DataError, match=r"no segment was found in it, but 1 object: expected .* with 'falls'"):
        segments(path, fps=10.0, layers=("falls",))


# --- ELAN: any medium, labels on several lines


def eaf(media: str, value: str = "pour", tiers: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">\n'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{media}</HEADER>\n<TIME_ORDER>'
        '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="4000"/>'
        '</TIME_ORDER><TIER LINGUISTIC_TYPE_REF="t" TIER_ID="action"><ANNOTATION><ALIGNABLE_ANNOTATION '
        'ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>{tiers}"
        "</ANNOTATION_DOCUMENT>"
    )


def medium(url: str, origin: str = "", kind: str = "unknown", relative: str = "") -> str:
    origin = f' TIME_ORIGIN="{origin}"' if origin else ""
    relative = f' RELATIVE_MEDIA_URL="{relative}"' if relative else ""
    return f'<MEDIA_DESCRIPTOR MEDIA_URL="{url}" MIME_TYPE="{kind}"{relative}{origin}/>'


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (medium("file:///D:/rec/broadcast.mxf", "2000"), ("broadcast", 3, 6)),  # the report
        (medium("file:///home/a/Sommer%20Küche.dv", "500"), ("Sommer Küche", 1.5, 4.5)),
        (medium("file:///a/s.wav", kind="audio/x-wav") + medium("file:///a/s.VOB", "1000"), ("s", 2, 5)),
        (medium("file:///a/rec.wav", "1000", "audio/x-wav"), ("session1", 1, 4)),  # sound alone names no video
        (medium("", "2000", relative="./clip.mjpeg"), ("clip", 3, 6)),
        (medium("file:///a/take.2"), ("take.2", 1, 4)),  # no suffix
        ("", ("session1", 1, 4)),
    ],
)
def test_elan_media_of_any_kind(tmp_path, media, expected):
    name, start, end = expected
    assert segments(write(tmp_path / "session1.eaf", eaf(media))) == {name: [(start, end, "pour")]}


def test_elan_second_camera_is_told(tmp_path):
    media = medium("file:///a/left.mp4") + medium("file:///a/right.mp4", "400")
    found = import_annotations([write(tmp_path / "s.eaf", eaf(media))])
    assert list(found.annotations.videos) == ["left"]
    assert "not of 'file:///a/right.mp4'" in found.remarks[0]


@pytest.mark.parametrize("value", ["pour\nwater", "pour \r\n  water ", "pour&#x2028;water", "pour\twater"])
def test_labels_are_on_one_line_everywhere(tmp_path, value):
    """An exported class list has a line for each class, and no more."""
    found = import_annotations([write(tmp_path / "s.eaf", eaf(medium("file:///a/s.mp4"), value))])
    assert found.annotations.labels == ("pour water",)
    assert found.remarks == ("1 labels were written anew: on one line, with single blanks.",)


def test_class_lists_have_one_line_a_class(tmp_path):
    record = {"segment": [0, 1], "label": "pour\nwater"}
    document = {"database": {"a": {"subset": "training", "duration": 9, "annotations": [record]}}}
    found = import_annotations([write(tmp_path / "a.json", document)])
    write_opentad(tmp_path / "out" / "anno.json", found.annotations, None)
    assert (tmp_path / "out" / CLASS_LIST).read_text(encoding="utf-8") == "pour water\n"


def test_elan_with_everything_on_other_tiers_is_refused(tmp_path):
    reference = (
        '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1"><ANNOTATION_VALUE>slow</ANNOTATION_VALUE>'
        "</REF_ANNOTATION></ANNOTATION>"
    )
    tiers = f'<TIER TIER_ID="detail" PARENT_REF="action">{reference}</TIER><TIER TIER_ID="empty"/>'
    path = write(tmp_path / "s.eaf", eaf("", tiers=tiers))
    assert segments(path) == {"s": [(1, 4, "pour")]}
    with pytest.raises(DataError, match="no segment was found in it, but 2 annotations: on other tiers; --layer"):
        segments(path, layers=("empty",))


# --- COIN, and layouts that are none of these

COIN = {
    "database": {
        "v1": {"recipe_type": 12, "duration": 60.0, "class": "MakeTea", "subset": "training", "start": 1.0, "end": 55.0,
               "video_url": "x", "annotation": [{"id": "59", "segment": [5.0, 12.0], "label": "pour water"},
                                                {"id": "60", "segment": [20.0, 31.0], "label": "add tea"}]},
        "v2": {"recipe_type": 12, "duration": 50.0, "class": "MakeTea", "subset": "testing",
               "annotation": [{"id": "59", "segment": [3.0, 9.0], "label": "pour water"}]},
    }
}  # fmt: skip


def test_coin(tmp_path):
    path = write(tmp_path / "COIN.json", COIN)
    assert guess_format(path) == "coin"
    found = import_annotations([path])
    assert found.annotations.subsets == {"training": 1, "testing": 1}
    assert segments(path) == {"v1": [(5, 12, "pour water"), (20, 31, "add tea")], "v2": [(3, 9, "pour water")]}
    with pytest.raises(DataError, match=r"has no 'annotations', but 'annotation'; .*lofi data convert --from coin"):
        load_annotations(path)


@pytest.mark.parametrize("key", ["anotations", "annotation", "segments", "actions", "Annotations", "gt"])
def test_segments_under_another_key_are_not_lost(tmp_path, key):
    record = {"subset": "training", "duration": 9, key: [{"segment": [1, 2], "label": "x"}]}
    path = write(tmp_path / "a.json", {"database": {"a": record}})
    with pytest.raises(DataError, match=f"video 'a': has no 'annotations', but '{key}'; expected 'annotations'"):
        load_annotations(path)
    lenient = write(tmp_path / "b.json", {"database": {"a": record, "b": {"subset": "testing"}}})
    assert f"but '{key}'" in load_annotations(lenient, strict=False).notes[0]


def test_videos_without_any_key_are_those_of_a_test_set(tmp_path):
    record = {"subset": "testing", "duration": 9, "url": "x", "tags": ["a", "b"], "ignored": [{"segment": [1, 2]}]}
    assert len(load_annotations(write(tmp_path / "a.json", {"database": {"a": record}}))) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", {"databse": {}}, "(an object with the keys 'databse'); name it with --from: activitynet, csv, elan"),
        ("a.json", {"_via_settings": {}, "_via_img_metadata": {}}, "the keys '_via_settings', '_via_img_metadata'"),
        ("a.json", {"images": [], "categories": []}, "(an object with the keys 'images', 'categories')"),
        ("a.csv", "id,actions,length\n001YG,c092 11.90 21.20;c147 0.00 12.60,31\n", "Say which of your columns"),
        ("a.TextGrid", "File type", "the format cannot be told from the file"),
    ],
)
def test_other_layouts_are_refused_with_what_was_expected(tmp_path, name, content, said):
    with pytest.raises(LofiError, match=re.escape(said)):
        segments(write(tmp_path / name, content))


# --- VIA and Label Studio: nothing lost


def test_via_projects_of_moments_alone_are_refused(tmp_path):
    document = {
        "attribute": {"1": {"aname": "a", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {}}},
        "file": {"1": {"fname": "C:\\v\\cut.mxf"}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {"x": {"vid": "1", "z": [2.0], "xy": [], "av": {"1": "jump"}}},
    }
    path = write(tmp_path / "v.json", document)
    with pytest.raises(DataError, match="no segment was found in it, but 1 region or moment:"):
        segments(path)
    document["metadata"]["y"] = {"vid": "1", "z": [2.0, 3.0], "xy": [], "av": {"1": "jump"}}
    assert segments(write(path, document)) == {"cut": [(2, 3, "jump")]}


def label_studio(value: dict, video: str = "/data/upload/1/0123abcd-ward.mp4") -> list[dict]:
    return [{"data": {"video": video}, "annotations": [{"result": [{"from_name": "box", "value": value}]}]}]


def test_label_studio_tracked_regions_last_while_they_are_enabled(tmp_path):
    keys = [{"frame": 1, "enabled": True}, {"frame": 10, "enabled": False}, {"frame": 21, "enabled": True}]
    value = {"framesCount": 30, "duration": 3, "sequence": keys, "labels": ["walk"]}
    path = write(tmp_path / "ls.json", label_studio(value))
    assert segments(path, fps=10.0) == {"ward": [(0, 1, "walk"), (2, 3, "walk")]}


@pytest.mark.parametrize(
    ("more", "fps", "expected"),
    [
        ({"duration": 4, "framesCount": 100}, None, (1, 3)),  # counted at 25
        ({"times": True}, None, (1, 3)),
        ({"times": True, "duration": 4, "framesCount": 101}, None, (1, 3)),  # the count is rounded, the times are not
        ({"times": True}, 50.0, (0.5, 1.5)),
    ],
)
def test_label_studio_counts_at_the_rate_of_its_project_not_of_the_video(tmp_path, more, fps, expected):
    """label-studio#3315, #6493: 25 frames a second are counted in a video of 10."""
    (tmp_path / "videos").mkdir()
    make(tmp_path / "videos" / "ward.mp4", every(100, 40))
    keys = [{"frame": 26, "enabled": True}, {"frame": 75, "enabled": False}]
    if more.pop("times", False):
        keys = [{**key, "time": key["frame"] / 25} for key in keys]
    tracked = {"sequence": keys, "labels": ["walk"], **more}
    spans = {"ranges": [{"start": 26, "end": 75}], "timelinelabels": ["turn"]}
    (task,) = label_studio(tracked)
    task["annotations"][0]["result"].append({"from_name": "time", "value": spans})
    path = write(tmp_path / "ls.json", [task])
    found = segments(path, fps=fps, videos=VideoFolder(tmp_path / "videos"))
    assert found == {"ward": [(*map(pytest.approx, expected), "turn"), (*map(pytest.approx, expected), "walk")]}


def test_label_studio_exports_of_something_else_are_refused(tmp_path):
    path = write(tmp_path / "ls.json", label_studio({"choices": ["walk"]}))
    with pytest.raises(DataError, match="no segment was found in it, but 1 result: no labelled spans of time"):
        segments(path)
