"""Other libraries: driven where they are installed, a sentence where they are not, and the same chain as ours."""

import json
import sys
from types import ModuleType

import pytest
import torch

from distmgcd.bench import peers
from distmgcd.bench.peers import PEERS, drive
from distmgcd.core.energy import ConvEnergy
from distmgcd.core.langevin import Langevin, chain_end, run_chain
from distmgcd.core.networks import ConvLayer, convnet

SETTINGS = Langevin(num_steps=5, step_size=0.4, temperature=1e-24, clamp="none")  # so cold that noise does not show
ON_CPU = [peer for peer in PEERS if not peer.mixed]


def energy_and_start(num_images: int = 4):
    torch.manual_seed(0)
    energy = ConvEnergy(
        convnet(8, 3, [ConvLayer(3, 2, 6), ConvLayer(3, 1, 6)], activation="silu", norm="none"), reference_sigma=0.5
    )
    return energy, torch.rand(num_images, 3, 8, 8) * 2 - 1


def test_where_none_is_installed_each_is_one_sentence(monkeypatch):
    monkeypatch.setattr(peers, "version_of", lambda package: None)
    found, notes = drive(*energy_and_start(), SETTINGS)
    assert not found and len(notes) == 2
    assert notes[0] == ("ebmkit is not installed, so it is not compared; pip install 'distmgcd[benchmark]' brings it.")


def test_a_version_that_cannot_be_driven_is_said_and_the_others_run(monkeypatch):
    monkeypatch.setattr(peers, "version_of", lambda package: "99.0" if package == "ebmkit" else None)
    monkeypatch.setitem(sys.modules, "ebm", ModuleType("ebm"))
    found, notes = drive(*energy_and_start(), SETTINGS)
    assert not found
    assert notes[0].startswith("ebmkit 99.0 could not be driven (AttributeError") and "torchebm is not" in notes[1]


def the(package: str):
    peer = next(peer for peer in ON_CPU if peer.package == package)
    pytest.importorskip({"ebmkit": "ebm"}.get(package, package), reason=f"{package} is not installed")
    return peer


@pytest.mark.parametrize("clamp", ["none", "end", "step"])
@pytest.mark.parametrize("package", ["ebmkit", "torchebm"])
def test_a_peer_runs_our_chain(package, clamp):
    energy, x = energy_and_start()
    settings, x = SETTINGS._replace(clamp=clamp, step_size=1.6), 2 * x
    ours, _ = run_chain(energy, x, torch.zeros(5, *x.shape), settings)
    theirs = the(package).make(energy, settings, x.device)(x.clone())
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    assert torch.equal(theirs, chain_end(theirs, settings)) and (ours - x).abs().max() > 0.1


@pytest.mark.parametrize("package", ["ebmkit", "torchebm"])
def test_a_peer_draws_noise_of_our_deviation(package):
    """Without a gradient, K steps move a pixel by s sqrt(T K); n pixels tell a deviation to 1 / sqrt(2 n)."""
    energy, x = energy_and_start(num_images=200)
    energy.reference_sigma = float("inf")
    for parameter in energy.parameters():
        parameter.data.zero_()
    settings = SETTINGS._replace(temperature=0.01)
    moved = the(package).make(energy, settings, x.device)(x.clone()) - x
    expected = settings.noise_std * settings.num_steps**0.5
    assert moved.std().item() == pytest.approx(expected, rel=4 / (2 * moved.numel()) ** 0.5)


def test_the_command_compares_what_is_installed_and_names_what_is_not(tmp_path, tiny, command):
    status, out, _ = command("bench", tiny, "--peers", "--json", tmp_path / "peers.json", "--cpu")
    assert status == 0
    figures = json.loads((tmp_path / "peers.json").read_text())
    installed = {peer.package for peer in ON_CPU if peers.version_of(peer.package)}
    for grid in figures["chains"].values():
        found = {name.split()[0] for name, row in grid["contenders"].items() if row["kind"] == "peer"}
        assert found == installed == {name.split()[0] for name in grid["of_peers"]["plain"]}
    assert len(figures["notes"]) == 2 - len(installed)
    assert all(package in out for package in ("ebmkit", "torchebm"))
