"""What fine-tuned networks saw in the tiles that they were tested on, beside a run on disk."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurebench.errors import ResultsError
from featurebench.results.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "embeddings.npz"


def write_embeddings(features: npt.NDArray[np.float16] | None, folder: Path) -> None:
    """Write a run's features; without any, those of an earlier run in the folder are removed."""
    if features is None:
        (folder / _FILE).unlink(missing_ok=True)
        return
    archive = io.BytesIO()
    np.savez_compressed(archive, features=features)
    write_atomically(folder / _FILE, archive.getvalue())


def load_embeddings(folder: Path) -> npt.NDArray[np.float16] | None:
    """Read the features of a complete run, which `load_run` leaves on disk.

    Parameters
    ----------
    folder
        From `run_folder`.

    Returns
    -------
    ndarray or None
        Float16, shape (n_repeats, n_tiles, dim); NaN where a tile was not tested. None where the
        run has none.

    Raises
    ------
    ResultsError
        If the run is unfinished or the file is damaged.
    """
    if not (folder / "run.json").is_file():
        raise ResultsError(f"run {folder.name} is unfinished: run the experiment again")
    try:
        # numpy leaves a file that it opened itself open when the archive is damaged.
        with (
            (folder / _FILE).open("rb") as stream,
            np.load(stream, allow_pickle=False) as arrays,
        ):
            features: npt.NDArray[np.float16] = arrays["features"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ResultsError(
            f"embeddings of run {folder.name} cannot be read ({error}): delete its folder and run "
            "again"
        ) from error
    return features
