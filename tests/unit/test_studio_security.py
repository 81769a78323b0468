"""Nobody but the user's own page is served, and nothing outside the folder."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from lofi_tal.studio.answers import CHANGE_BYTES, UPLOAD_BYTES
from lofi_tal.studio.application import create_app
from lofi_tal.studio.security import HEADERS
from tests.studio import CHANGES, PORT, TOKEN, client_of, desk_of, folder_of, one_video

ADDRESS = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(one_video().read_bytes())
    (tmp_path / "secret.txt").write_text("secret")
    return desk_of(folder_of(tmp_path / "videos"))


@pytest.fixture
def stranger(desk):
    """A client that knows no token."""
    app = create_app(desk, token=TOKEN, host="127.0.0.1", port=PORT)
    return TestClient(app, base_url=ADDRESS, follow_redirects=False)


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/api/videos", "/media/a", "/static/index.html", "/no", "/api/events"]
)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], f"{TOKEN}x", "\u00e9"])
def test_without_the_token_nothing_is_served(stranger, path, token):
    given = {} if token is None else {"token": token}
    answer = stranger.get(path, params=given)
    assert answer.status_code == 403
    assert "lofi studio" in answer.json()["error"]
    assert "set-cookie" not in answer.headers
    assert stranger.get(path, headers={"Authorization": f"token {token}".encode()}).status_code == 403
    assert stranger.get(path, headers={"Cookie": f"lofi-studio-{PORT}={token}".encode()}).status_code == 403


def test_the_refusal_in_a_browser_is_a_page_that_says_what_to_do(stranger):
    answer = stranger.get("/<script>", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "open that address" in answer.text
    assert "<script" not in answer.text


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_and_other_sites_never_see(stranger):
    answer = stranger.get("/", params={"token": TOKEN, "video": "a b"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?video=a+b")
    assert answer.headers["referrer-policy"] == "no-referrer"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"lofi-studio-{PORT}={TOKEN};")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert stranger.get("/api/state").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///evil.example"])
def test_the_redirect_never_leads_to_another_host(stranger, path):
    scope_path = stranger.get(f"{ADDRESS}{path}", params={"token": TOKEN})
    assert scope_path.headers["location"].startswith("/")
    assert scope_path.headers["location"][1] not in "/\\"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (f"127.0.0.1:{PORT}", 200),
        (f"localhost:{PORT}", 200),
        (f"LOCALHOST:{PORT}", 200),
        (f"[::1]:{PORT}", 200),
        ("evil.example", 403),
        (f"evil.example:{PORT}", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:1", 403),
        ("", 403),
        (f"127.0.0.1:{PORT}.evil.example", 403),
        (f"localhost.:{PORT}", 403),
        (f"192.168.0.1:{PORT}", 403),
    ],
)
def test_a_name_that_somebody_points_to_this_machine_is_refused(desk, host, status):
    assert client_of(desk).get("/api/state", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("bound", "host", "status"),
    [
        ("0.0.0.0", f"192.168.0.1:{PORT}", 200),
        ("0.0.0.0", f"evil.example:{PORT}", 403),
        ("::", f"[fe80::1]:{PORT}", 200),
        ("::", f"[evil]:{PORT}", 403),
        ("studio.local", f"studio.local:{PORT}", 200),
        ("192.168.0.1", f"192.168.0.2:{PORT}", 403),
        ("0.0.0.0", f"1.2.3.4.evil.example:{PORT}", 403),
    ],
)
def test_another_interface_is_named_by_what_was_bound(desk, bound, host, status):
    app = create_app(desk, token=TOKEN, host=bound, port=PORT)
    client = TestClient(app, base_url=ADDRESS, headers=CHANGES)
    assert client.get("/api/state", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": ADDRESS}, 200),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": f"https://127.0.0.1:{PORT}"}, 403),
        ({"Origin": f"http://localhost:{PORT}"}, 403),
        ({"X-Lofi-Studio": "0"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Length": "-1"}, 413),
    ],
)
def test_a_change_that_a_page_of_another_site_can_send_fails(desk, headers, status):
    answer = client_of(desk).post("/api/classes", content=b'{"name": "x"}', headers=headers)
    assert answer.status_code == status
    assert ("x" in [one["name"] for one in desk.book.classes]) == (status == 200)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "POST"])
def test_nothing_is_said_to_other_sites_that_ask_before_they_send(desk, method):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = client_of(desk).request(method, "/api/videos/a/entry", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_page_of_another_site_cannot_show_a_video_or_a_picture(desk):
    client = client_of(desk)
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/media/a", headers=foreign).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/api/state", headers=followed).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/state", "/media/a", "/no", "/api/videos/no/entry"])
def test_every_answer_has_the_headers_that_keep_pages_apart(desk, stranger, path):
    for client in (client_of(desk), stranger):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in answer.headers


OUTSIDE = [
    "../secret",
    "../secret.mp4",
    "..%2fsecret.mp4",
    "%2e%2e/secret.mp4",
    "..%252fsecret.mp4",
    "a/../../secret.mp4",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "....//secret.mp4",
    "..\\secret.mp4",
    "a%00.mp4",
    "a.mp4%00",
    "%c0%ae%c0%ae/secret",
    "linked",
    "linked.mp4",
    "folder_link/secret",
    "secret",
    "pipe",
    "labels.json",
    ".labels.json.studio/journal",
    "a.mp4/",
]


@pytest.mark.parametrize(
    "address", ["/media/{}", "/proxy/{}", "/thumb/{}", "/api/videos/{}/media", "/api/videos/{}/frames"]
)
def test_no_address_leads_out_of_the_folder(desk, address, tmp_path):
    (desk.folder / "linked.mp4").symlink_to(tmp_path / "secret.mp4")
    (desk.folder / "around.mp4").symlink_to(desk.folder / "around.mp4")
    (desk.folder / "folder_link").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(desk.folder / "pipe.mp4")
    desk.shelf.scan()
    client = client_of(desk)
    listed = {one["id"]: one["problem"] for one in client.get("/api/videos").json()["videos"]}
    assert "leads out" in listed["linked"]
    assert "pipe" not in listed
    for name in (*OUTSIDE, "around"):
        answer = client.get(f"{ADDRESS}{address.format(name)}")
        assert answer.status_code in (400, 404), name
        assert b"secret" not in answer.content.replace(b"secret.mp4", b"").replace(b"'secret", b"").replace(
            b"/secret", b""
        )


def test_a_file_that_becomes_a_link_after_the_list_was_made_is_not_followed(desk, tmp_path):
    client = client_of(desk)
    assert client.get("/media/a").status_code == 200
    (desk.folder / "a.mp4").unlink()
    (desk.folder / "a.mp4").symlink_to(tmp_path / "secret.txt")
    answer = client.get("/media/a")
    assert answer.status_code == 400
    assert answer.text.count("secret.txt") == 1  # where it leads, and nothing of what is there


@pytest.mark.parametrize("name", ["..%2f__init__.py", "%2e%2e%2fdesk.py", "desk.py", ".hidden.js", "a%00.js", "x.js"])
def test_the_page_has_no_file_but_its_own(desk, name):
    assert client_of(desk).get(f"{ADDRESS}/static/{name}").status_code == 404


@pytest.mark.parametrize(("path", "most"), [("/api/classes", CHANGE_BYTES), ("/api/import", UPLOAD_BYTES)])
def test_large_bodies_are_refused(desk, path, most):
    client = client_of(desk)
    told = client.post(path, content=b" " * 10, headers={"Content-Length": str(UPLOAD_BYTES + 1)})
    assert told.status_code == 413

    def chunks():
        for _ in range(most // 2**18 + 1):
            yield b" " * 2**18

    assert client.post(path, content=chunks()).status_code == 413


HOSTILE = [
    b"",
    b"[]",
    b"null",
    b"1e999",
    b"NaN",
    b'{"a": NaN}',
    b"\xff\xfe",
    b"{",
    b"[" * 100_000,
    b'{"revision": ' + b"9" * 5000 + b"}",
    b'{"revision": {}, "segments": [[]], "state": {}, "name": [], "format": {}, "train": "x", "kind": 3, "model": []}',
    b'{"name": "\\ud800", "format": "\\ud800"}',
    b'{"revision": 0, "segments": [{"id": "\\ud800", "start": 0, "end": 1, "label": "x"}]}',
    b'{"rename": [1, 2, 3]}',
    b'{"rename": [[], {}]}',
    b'{"key": ["x", []]}',
    b'{"delete": {}}',
    b'{"train": 1e308, "seed": -1}',
    b'{"format": "auto", "name": "../../x.json", "text": "{}"}',
    b'{"format": "csv", "name": "x.csv", "text": "\\u0000"}',
    b'{"name": "x.zip", "base64": "UEsDBA=="}',
    b'{"name": "x", "base64": "***"}',
    b'{"name": "x.json", "text": "{}", "fps": -1}',
    b'{"name": "x.xml", "text": "<!DOCTYPE a [<!ENTITY b SYSTEM \\"file:///etc/passwd\\">]><a>&b;</a>"}',
    b'{"name": "x.json", "text": "{}", "as": "drafts"}',
    b'{"kind": "train", "output": "../x"}',
    b'{"model": "../../etc", "videos": 7}',
]
CHANGED = [
    ("PUT", "/api/videos/a/entry"),
    ("POST", "/api/videos/a/undo"),
    ("POST", "/api/videos/a/redo"),
    ("POST", "/api/videos/a/media"),
    ("POST", "/api/classes"),
    ("POST", "/api/split"),
    ("POST", "/api/import"),
    ("PUT", "/api/videos/none/entry"),
    ("POST", "/api/jobs"),
    ("POST", "/api/drafts"),
    ("POST", "/api/jobs/x/stop"),
    ("POST", "/api/none"),
    ("DELETE", "/api/videos/a/entry"),
    ("POST", "/api/videos"),
]


@pytest.mark.parametrize(("method", "path"), CHANGED)
def test_hostile_bodies_get_an_error_in_words(desk, method, path):
    client = client_of(desk)
    for body in HOSTILE:
        answer = client.request(method, path, content=body)
        if answer.status_code == 200:  # nothing in it that counts here, or a name that a class may have
            assert path.endswith(("/undo", "/redo", "/entry", "/media")) or b'"name": "' in body, body
            continue
        assert 400 <= answer.status_code < 500, body
        assert answer.json()["error"], body
    assert json.loads(json.dumps(desk.entry("a")))["segments"] == []


LOOKED_AT = [
    "/api/export/none",
    "/api/export/{}",
    "/api/videos/{}/entry",
    "/api/videos/{}/media",
    "/api/videos/{}/frames",
    "/media/{}",
    "/thumb/{}",
    "/proxy/{}",
    "/strip/{}",
    "/strip/a?from={}&to={}&count={}",
    "/strip/a?from=0&to=1&count={}",
    "/strip/a?from=0&to=nan",
    "/api/order?by={}",
    "/api/jobs/{}/log?from={}",
    "/api/jobs/{}",
    "/api/runs/{}/mistakes",
    "/api/compare?runs={}",
    "/static/{}",
    "/{}",
]


@pytest.mark.parametrize("path", LOOKED_AT)
def test_hostile_addresses_get_an_error_in_words(desk, path):
    client = client_of(desk)
    for name in (
        "%ff",
        "%ed%a0%80",
        "x" * 5000,
        "1e999",
        "-1",
        "%0d%0aX: y",
        quote("<script>"),
        "9" * 5000,
        "%00",
        "²",
    ):
        answer = client.get(ADDRESS + path.replace("{}", name))
        assert 400 <= answer.status_code < 500, name
        assert answer.json()["error"], name
