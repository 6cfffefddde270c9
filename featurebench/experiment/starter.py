"""`write_starter`: look at a folder of tiles and write a commented experiment file for it."""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError, SplitError
from featurebench.metrics import SUGGESTED_MARGINS
from featurebench.splits import SplitPlan
from featurebench.tiles import (
    TileManifest,
    find_manifest,
    guess_columns,
    suggest_patient_regex,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of the folds: with one the test over folds has almost no power.
REPEATS = 10
TEMPLATE = """\
# An experiment of featurebench: is a frozen network with a cheap head enough for these tiles?
# Run it with: featurebench run {file}
# Found: {found}
name: {name}

{data}

# Embeddings are written here once; every head reads them.
store: stores/{name}.store

# Frozen ImageNet networks: any timm model name. weights: hub (downloaded by timm), package
# (real ImageNet weights that came with the installation, for tf_efficientnet_lite0), or a file.
backbones:
  - {{model: tf_efficientnet_lite0, weights: package}}
  # - {{model: resnet50.a1_in1k, weights: hub}}
  # - {{model: densenet121, weights: path/to/densenet121.safetensors}}

{splits}

# The best of these, chosen on inner folds and never by a test score, is what fine-tuning is held
# against. To search their parameters on inner folds, too: search: {{method: tpe, trials: 20}}
heads:
  logistic: {{}}   # penalty chosen on inner folds
  ridge: {{}}      # least squares, penalty chosen likewise
  lda: {{}}        # shrunk covariance, for few tiles
  knn: {{k: 20}}   # the classes of the 20 most similar tiles
  centroid: {{}}   # the nearest class mean
  lightgbm: {{}}   # boosted trees; they take longest
  dummy: {{}}      # the class shares: what a head must beat

# Networks trained on the pixels of the same folds, at the size that the probe reads: without
# image_size it is the network's own. Training ends early once the validation loss no longer falls.
# Costly: 'featurebench run {file} --dry-run' times a few steps and says
# how many hours it takes on this machine at most. Remove the list for probes alone.
finetune:
  - {{model: tf_efficientnet_lite0, weights: package, strategy: full, epochs: 30, repeats: 3}}
  # A cheaper one instead, for a first look. It will not support "enough": where tiles are smaller
  # than the probe's, or the last epoch is still the best, the verdict is on this fine-tune alone.
  # - {{model: tf_efficientnet_lite0, weights: package, strategy: full, epochs: 5, image_size: 128,
  #    repeats: 1}}

# Declared before the run and sealed by it: what is compared, and which difference is too small to
# matter. The margin is a start only: JUDGE it clinically, and say why in margin_rationale: "...".
{margins}
# The probe is called enough only above a floor that you declare, such as floor: 0.80.
compare: {{metric: balanced_accuracy, margin: {margin:g}, alpha: 0.05}}

output: {{results: results/{name}, reports: reports/{name}}}
"""


@dataclass(frozen=True)
class Found:
    """What a folder of tiles turned out to be.

    Parameters
    ----------
    tiles
        Its tiles, checked.
    data
        The ``data`` section that reads them.
    """

    tiles: TileManifest
    data: str


def write_starter(directory: Path, output: Path | None = None) -> tuple[Path, str]:
    """Write ``experiment.yaml`` for the tiles of a folder.

    Parameters
    ----------
    directory
        Holds a folder per class, or a CSV or Parquet table of tiles, which comes first.
    output
        The file to write; by default ``experiment.yaml`` in the current folder.

    Returns
    -------
    tuple
        The file, and one line on what was found.

    Raises
    ------
    ConfigError
        If the folder is not there, or the file is there already.
    ManifestError
        If the tiles have problems; all are listed.
    """
    file = output or Path("experiment.yaml")
    if file.exists():
        raise ConfigError(f"{file} exists: move it away, or give another name with --output")
    if not directory.is_dir():
        raise ConfigError(f"no folder {directory}: give the folder that holds your tiles")
    found = _look(directory, file.resolve().parent)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", directory.resolve().name).strip("-.")[:64] or "tiles"
    text = TEMPLATE.format(
        file=file.name,
        found=_describe(found.tiles),
        name=name,
        data=found.data,
        splits=_splits(found.tiles),
        margin=SUGGESTED_MARGINS["balanced_accuracy"],
        margins=_margins(),
    )
    file.write_text(text, encoding="utf-8")
    return file, _describe(found.tiles)


def _look(directory: Path, base: Path) -> Found:
    manifest = find_manifest(directory)
    if manifest is not None:
        columns = guess_columns(manifest)
        tiles = TileManifest.from_table(manifest, columns=columns)
        where = _quoted(_from(manifest, base))
        mapped = f",\n       columns: {_flow(columns)}" if columns else ""
        return Found(
            tiles,
            f"# The table's own columns stand right of ours.\ndata: {{manifest: {where}{mapped}}}",
        )
    tiles = TileManifest.from_folder(directory)
    regex = suggest_patient_regex(tiles.table["path"])
    where = _quoted(_from(directory, base))
    if regex is None:
        note = (
            "# One sub-folder per class. No patient was recognised in the file names: give a\n"
            "# patient_regex with one named group, such as '(?P<patient>P[0-9]+)_', so that no\n"
            "# patient is in training and test at once.\n"
        )
        return Found(tiles, f"{note}data: {{folder: {where}}}")
    tiles = TileManifest.from_folder(directory, patient_regex=regex)
    note = "# One sub-folder per class. The patient was guessed from the file names: CHECK it.\n"
    return Found(tiles, f"{note}data:\n  folder: {where}\n  patient_regex: {_quoted(regex)}")


def _describe(tiles: TileManifest) -> str:
    counts = tiles.table["label"].value_counts()
    classes = ", ".join(f"{label} {counts[label]:,}" for label in tiles.classes)
    patients = tiles.column("patient_id")
    of = "no patients known" if patients is None else f"{len(set(patients))} patients"
    return f"{len(tiles):,} tiles, {of}; {classes}"


def _splits(tiles: TileManifest) -> str:
    patients = tiles.column("patient_id")
    if patients is None:
        return (
            "# Folds cannot be grouped without patients: scores will be too high.\n"
            f"splits: {{folds: 5, repeats: {REPEATS}, seed: 0}}"
        )
    by_class = tiles.table.groupby("label")["patient_id"].nunique()
    folds = max(2, min(5, int(by_class.min())))
    return (
        "# No patient is ever in training and test at once. With one repeat the test over folds\n"
        "# has almost no power; 10 are recommended for heads, 3 or more for fine-tuning.\n"
        f"splits: {{folds: {folds}, repeats: {_repeats(tiles, folds)}, group: patient_id, seed: 0}}"
    )


def _margins() -> str:
    """List the suggested margins by size, as a comment."""
    by_size: dict[float, list[str]] = {}
    for name, margin in SUGGESTED_MARGINS.items():
        by_size.setdefault(margin, []).append(name)
    listed = [f"{margin:g} for {', '.join(names)}" for margin, names in sorted(by_size.items())]
    return textwrap.fill(
        f"To start from: {'; '.join(listed)}.",
        width=98,
        initial_indent="# ",
        subsequent_indent="# ",
    )


def _repeats(tiles: TileManifest, folds: int) -> int:
    """Most repeats, ten if there are so many, that few patients can be shared out in."""
    for repeats in range(REPEATS, 1, -1):
        with contextlib.suppress(SplitError):
            SplitPlan.draw(
                tiles.labels, tiles.column("patient_id"), folds=folds, repeats=repeats, seed=0
            )
            return repeats
    return 1


def _from(path: Path, base: Path) -> str:
    """Give a path relative to the experiment file, unless that would lead far up and down again."""
    relative = Path(os.path.relpath(path.resolve(), base)).as_posix()
    return path.resolve().as_posix() if relative.startswith("../../..") else relative


def _flow(columns: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{ours}: {_quoted(theirs)}" for ours, theirs in columns.items()) + "}"


def _quoted(text: str) -> str:
    """Write a text as a YAML scalar; single quotes keep backslashes as they are."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text):
        return text
    return "'" + text.replace("'", "''") + "'"
