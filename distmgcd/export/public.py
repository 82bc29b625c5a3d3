"""What others may be told of where things lay: names of data sets and of files, but no folder of this machine."""

import re
from typing import Any

from distmgcd.config import Config

_FIRST_ROOT = re.compile(r"\?root=[^&\[\]]*&")  # of torchvision:NAME?root=DIR&download=1
_ROOT = re.compile(r"[?&]root=[^&\[\]]*?(?=&|$| \[)")
_FOLDERS = re.compile(r"""(?:^|(?<=[\s"'(=]))(?:file://|~)?/(?=\S)(?:[^\[\]]*/)?""")  # /home/me/ of /home/me/x.parquet


def public_config(config: Config) -> Config:
    """The config with its images at an address that is the same everywhere, or else by the name of their file alone."""
    data = config.data.model_copy(update={"path": public_text(config.data.path)})
    features = config.evaluate.features and public_text(config.evaluate.features)
    evaluate = config.evaluate.model_copy(update={"features": features})
    return config.model_copy(update={"data": data, "evaluate": evaluate})


def is_public(path: str) -> bool:
    """Whether images of this data.path can be had on another machine."""
    return path.startswith(("sklearn:", "torchvision:")) or ("://" in path and not path.startswith("file:"))


def public_text(text: str) -> str:
    """ "images.parquet" for "/home/me/images.parquet", "torchvision:CIFAR10" for "torchvision:CIFAR10?root=/data"."""
    return _FOLDERS.sub("", _ROOT.sub("", _FIRST_ROOT.sub("?", text)))


def without_paths(value: Any, config: Config) -> Any:
    """A record with every text made public. config: whose data.path is known, whatever characters it has."""
    if isinstance(value, dict):
        return {key: without_paths(item, config) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, config) for item in value]
    if not isinstance(value, str):
        return value
    return public_text(value.replace(config.data.path, public_text(config.data.path)))
