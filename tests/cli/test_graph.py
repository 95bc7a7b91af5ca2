"""`fissile graph` in its three forms."""

import json
import subprocess
from pathlib import Path

from background import background
from commands import fissile


def test_text(folder: Path):
    result = fissile("graph", folder, "--topology", "pair")
    assert result.returncode == 0
    assert "sample: topology pair" in result.stdout
    assert "  Pages (http) → Back" in result.stdout
    assert "    slow(seconds)  [20 s]" in result.stdout
    assert "\x1b" not in result.stdout


def test_json_for_programs(folder: Path):
    document = json.loads(fissile("graph", folder, "--topology", "pair", "--format", "json").stdout)
    assert document["services"] == {"front": ["Pages"], "back": ["Back"]}
    assert document["components"]["Pages"]["references"] == [{"target": "Back", "lazy": False}]
    assert (
        fissile("graph", folder, "--topology", "pair", "--json").stdout
        == fissile("graph", folder, "--topology", "pair", "--format", "json").stdout
    )


def test_mermaid_draws_what_crosses_the_network_with_dots(folder: Path):
    split = fissile("graph", folder, "--topology", "microservices", "--format", "mermaid").stdout
    whole = fissile("graph", folder, "--format", "mermaid").stdout
    assert split.startswith("flowchart LR\n")
    assert "  Pages -.-> Back" in split
    assert "  Pages --> Back" in whole


def test_a_module_without_a_file(folder: Path):
    (folder / "fissile.toml").unlink()
    assert "Pages (http) → Back" in fissile("graph", "sample:app", cwd=folder).stdout


def test_an_unknown_topology(folder: Path):
    result = fissile("graph", folder, "--topology", "trio")
    assert result.returncode == 2
    assert "there is no topology 'trio'" in result.stderr


def test_where_something_runs_its_topology_is_drawn(folder: Path):
    def drawn() -> subprocess.CompletedProcess[str]:
        return fissile("graph", folder)

    assert "sample: topology monolith" in drawn().stdout
    with background(folder) as app:
        app.up("--topology", "pair")
        assert "sample: topology pair" in drawn().stdout
        assert "sample: topology microservices" in fissile("graph", folder, "--topology", "microservices").stdout
        settings = folder / "fissile.toml"
        settings.write_text(settings.read_text().replace("[topologies.pair]", "[topologies.couple]"))
        assert "sample: topology monolith" in drawn().stdout
        assert "it runs as pair, which fissile.toml does not name any more: this is monolith" in drawn().stderr
    assert "sample: topology monolith" in drawn().stdout
