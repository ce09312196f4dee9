"""Checkpoints: tensors and facts in files, from which an interrupted training is resumed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from preddiff.storage.files import remove_leftovers, write_atomically


class CheckpointFolder:
    """Checkpoints in a folder, one safetensors file each, whose header holds the facts.

    Parameters
    ----------
    folder : Path
    fingerprint : str
        Digest of everything that the training depends on. Checkpoints of another are not read.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and facts under a name; None if there are none of this training."""
        path = self._path(name)
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                if about.pop("fingerprint") != self.fingerprint:
                    return None
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
        except (OSError, safetensors.SafetensorError, KeyError, ValueError):
            # Whatever is missing, or no checkpoint, is trained again.
            return None

    def write(self, name: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Keep tensors and facts under a name, in place of earlier ones."""
        header = {"about": json.dumps({**about, "fingerprint": self.fingerprint})}
        copied = {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}
        remove_leftovers(self._path(name))
        with write_atomically(self._path(name)) as temporary:
            safetensors.torch.save_file(copied, temporary, header)

    def remove(self, name: str) -> None:
        """Delete what is kept under a name, if there is anything."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
