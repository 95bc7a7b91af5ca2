"""`fissile graph` in its three forms."""

import json
from pathlib import Path

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
