"""What is missing of what a release was made with, and how it can be had again."""

from fissile.releases.packages import Installed, Package, differences, from_here, gone, listed, way_back

BEFORE = Installed(
    "3.11.2 (main)",
    "/venv",
    {"one": Package("1", "a"), "two": Package("1", "b"), "fissile": Package("0.1", "f")},
    {"/lib/x.py": "1", "/lib/y.py": "1"},
)


def test_nothing_is_missing_where_all_is_as_it_was():
    assert differences(BEFORE, BEFORE) == ()
    assert differences(Installed(), BEFORE) == ()  # nobody noted it


def test_each_kind_of_loss_is_named():
    packages = {"one": Package("2", "c"), "three": Package("3"), "fissile": Package("0.2", "g")}
    now = Installed("3.11.9 (main)", "/venv", packages, {"/lib/x.py": "2"})
    found = differences(BEFORE, now)
    assert listed(found) == "Python 3.11.2 → 3.11.9, one 1 → 2, two 1 is gone, /lib/x.py was edited, three 3 is new"
    assert "three" not in [one.name for one in gone(found)]
    assert way_back(found, BEFORE, "/venv/bin/python", uv=False) == "/venv/bin/python -m pip install one==1 two==1"
    assert way_back(found, BEFORE, "/v/python", uv=True) == "uv pip install --python /v/python one==1 two==1"


def test_the_same_version_with_other_files_is_installed_by_force():
    now = Installed(BEFORE.python, "/venv", {**BEFORE.packages, "one": Package("1", "other")}, BEFORE.files)
    found = differences(BEFORE, now)
    assert listed(found) == "one 1 has other files"
    assert "--force-reinstall one==1" in way_back(found, BEFORE, "python", uv=False)
    assert "--reinstall one==1" in way_back(found, BEFORE, "python", uv=True)


def test_what_came_from_no_index_is_had_from_where_it_came():
    packages = {
        "one": Package("1", source="git+https://x/y@abc"),
        "two": Package("1", source="/src/two", editable=True),
    }
    before = Installed("3", "/venv", {**packages, "three": Package("1", source="file:///tmp/three")})
    found = differences(before, Installed("3", "/venv"))
    assert way_back(found, before, "py", uv=False) == "py -m pip install 'one @ git+https://x/y@abc' -e /src/two"


def test_an_index_is_not_asked_for_what_came_from_a_folder():
    before = Installed("3", "/venv", {"three": Package("1", source="file:///tmp/three"), "four": Package("1")})
    found = differences(before, Installed("3", "/venv"))
    assert way_back(found, before, "py", uv=False) == "py -m pip install four==1"
    assert from_here(found, before) == ("three 1 from /tmp/three",)


def test_a_build_is_the_same_wherever_its_environment_lies():
    assert Installed("3", "/a", BEFORE.packages).content() == Installed("3", "/b", BEFORE.packages).content()
    assert Installed("3", "/a").content() != Installed("3", "/a", BEFORE.packages).content()
