"""Components by name: order, clashes, and entry points of packages that are really on the path."""

import pytest

from lofi_tal.errors import LofiError
from lofi_tal.registry import Registry

GROUP = "lofi_tal.things"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a package with entry points on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(package, code, **entries):
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n" + "\n".join(lines) + "\n")

    return add


def builtin(text):
    """Return a function that seems to come from this package."""

    def component():
        return text

    component.__module__ = "lofi_tal.things"
    component.__qualname__ = text
    return component


def registry(*names):
    found = Registry("thing", GROUP)
    for name in names:
        found.register(name)(builtin(name))
    return found


def test_builtin_names_keep_their_order_and_others_follow_sorted(install):
    install("some-things", "def f(): return 'some'", zeta="some_things:f", alpha="some_things:f")
    things = registry("second", "first")
    assert things.names() == ("second", "first", "alpha", "zeta")
    assert list(things) == list(things.names())
    assert [things.package(name) for name in things] == ["lofi-tal", "lofi-tal", "some-things", "some-things"]
    assert things.outside() == {"alpha": "some-things", "zeta": "some-things"}
    assert things.get("alpha")() == "some"
    assert things.get("first")() == "first"
    assert "zeta" in things
    assert "beta" not in things


def test_listing_imports_nothing(install):
    install("broken-things", "raise RuntimeError('no licence')", bad="broken_things:f")
    things = registry("good")
    assert things.names() == ("good", "bad")
    assert things.package("bad") == "broken-things"
    with pytest.raises(
        LofiError, match=r"thing 'bad' of the package 'broken-things' .*'broken_things:f' raised Runt.*no"
    ):
        things.get("bad")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("few_things:g", "AttributeError"),
        ("few_thing:f", "ModuleNotFoundError"),
        ("few_things:x", "is a int, not a cl"),
    ],
)
def test_an_entry_point_that_names_nothing_usable_is_explained(install, value, message):
    install("few-things", "x = 3", bad=value)
    with pytest.raises(LofiError, match=f"package 'few-things' cannot be loaded: '{value}'.*{message}"):
        registry().get("bad")


def test_an_unknown_name_names_all_and_the_nearest(install):
    install("more-things", "", other="more_things:f")
    with pytest.raises(LofiError, match=r"^thing 'gtda' is unknown; known: gtad, bmn, other\. Did you mean 'gtad'\?$"):
        registry("gtad", "bmn").get("gtda")
    with pytest.raises(LofiError, match="is unknown"):
        registry("gtad").package("x")


def test_a_name_of_two_packages_is_refused_and_both_are_named(install):
    install("one-thing", "def f(): ...", same="one_thing:f", gtad="one_thing:f")
    install("two-things", "def f(): ...", same="two_things:f")
    things = registry("gtad")
    with pytest.raises(LofiError, match=r"several packages: lofi-tal, one-thing\."):
        things.get("gtad")
    with pytest.raises(LofiError, match="one-thing") as caught:
        things.get("same")
    assert "two-things" in str(caught.value)
    assert things.names() == ("gtad", "same")  # a list is still possible


def test_a_name_is_registered_once_but_may_be_defined_again():
    things = registry("gtad")
    with pytest.raises(LofiError, match=r"'gtad' is registered already, by lofi_tal\.things\.gtad"):
        things.register("gtad")(builtin("other"))
    again = builtin("gtad")
    things.register("gtad")(again)
    assert things.get("gtad") is again


def test_a_package_may_register_what_it_declares(install):
    code = "def f(): ...\ndef register(things): things.register('mine')(f)"
    install("my-things", code, mine="my_things:f", register="my_things:register")
    things = registry("gtad")
    things.get("register")(things)
    assert things.get("mine").__module__ == "my_things"
    assert things.names() == ("gtad", "mine", "register")


def test_a_path_to_code_is_followed_only_where_it_is_allowed(install):
    install("path-things", "class A:\n    f = staticmethod(lambda: 'ran')")
    things = registry("gtad")
    with pytest.raises(LofiError, match=r"'path_things:A\.f' is a path to code.*group 'lofi_tal\.things'"):
        things.get("path_things:A.f")
    assert things.get("path_things:A.f", dotted=True)() == "ran"
    assert things.package("path_things:A.f") == "path_things"
    with pytest.raises(LofiError, match=r"thing 'no_things:f' cannot be loaded: .*ModuleNotFoundError"):
        things.get("no_things:f", dotted=True)
    with pytest.raises(LofiError, match="cannot be loaded"):
        things.get(":", dotted=True)
