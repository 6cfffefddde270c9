"""Extractions in processes forked from this one, killed at random or set off at the same moment.

Run as a program, so that nothing else has started threads: forking is quick, importing is not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from extraction_cases import MeanColour, as_backbone, new_manifest, new_store, settings, spoil

from featurebench.extraction import extract, loop
from featurebench.store import FeatureStore, files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from featurebench.backbones.taps import Tap
    from featurebench.tiles import TileManifest

BLOCK_ROWS = 4
BATCH_SIZE = 4
N_TILES, N_BLOCKS = 240, 60


class Unhurried(MeanColour):
    """Takes two milliseconds for a batch."""

    def run(self, pixels: torch.Tensor, taps: Sequence[Tap]) -> list[torch.Tensor]:
        time.sleep(0.002)
        return super().run(pixels, taps)


def embed(
    manifest: TileManifest, path: Path, names: Sequence[str], said: Path
) -> dict[str, dict[str, Any]]:
    """Extract one embedding per name; tell of each how many tiles and blocks were done here."""
    store = FeatureStore.open(path)
    networks = {name: Unhurried(name.encode()) for name in names}

    def say(line: str) -> None:
        with said.open("a") as file:
            file.write(line + "\n")

    report = extract(
        manifest,
        [as_backbone(network, tag=name) for name, network in networks.items()],
        store,
        settings(block_rows=BLOCK_ROWS, batch_size=BATCH_SIZE),
        say=say,
    )
    return {
        part.spec.tag: {
            "embedded": networks[part.spec.tag].n_embedded,
            "committed": part.n_blocks_done,
        }
        for part in report.embeddings
    }


def fork(work: Callable[[], None]) -> int:
    """Do some work in another process, which ends with status 0 if all went well."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def picture(path: Path) -> dict[str, Any]:
    """Show what a store holds: every file's bytes; of records what they vouch for."""
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_dir() or name.parts[0] == "staging":
            continue
        if name.parts[0] == "commits":
            record = json.loads(file.read_bytes())
            kept = ("embedding", "fingerprint", "block", "start", "stop", "sha256", "refused")
            found[str(name)] = {key: record[key] for key in kept}
        elif name.name not in {"zarr.json", "store.json"}:
            found[str(name)] = file.read_bytes()
        else:
            found[str(name)] = None
    return found


def sweep_all(path: Path) -> list[str]:
    """Open a store as if ten minutes had passed; list what is left in its staging folder."""
    files.GRACE_S = -1.0
    FeatureStore.open(path)
    return sorted(entry.name for entry in (path / "staging").iterdir())


class Killing:
    """One job, killed again and again until it is done."""

    def __init__(self, folder: Path, *, seed: int, n_kills: int, n_extractors: int) -> None:
        self.folder, self.n_kills, self.n_extractors = folder, n_kills, n_extractors
        self.random = random.Random(seed)
        self.manifest = new_manifest(folder / "tiles", N_TILES)
        spoil(self.manifest, 101)
        self.said = folder / "said"
        self.longest_s = 0.2
        self.facts = dict.fromkeys(
            ("kills", "amid", "jobs", "ended_before", "left_claims", "left_shards"), 0
        )

    def run(self) -> dict[str, Any]:
        """Kill so often; compare what comes out each time that the job is done."""
        calm = self._new_store("calm.store")
        # in this process, so that all is imported when others are forked from it
        self._embed(calm.path)
        expected = picture(calm.path)
        while self.facts["kills"] < self.n_kills:
            store = self._new_store(f"{self.facts['jobs']}.store")
            self._disturb(store)
            self._finish(store.path)
            assert picture(store.path) == expected
            assert FeatureStore.open(store.path).verify() == []
            assert sweep_all(store.path) == []
            self.facts["jobs"] += 1
        return {**self.facts, "waited": self.said.read_text() if self.said.exists() else ""}

    def _finish(self, path: Path) -> None:
        assert self._wait(fork(lambda: self._embed(path))) == 0

    def _new_store(self, name: str) -> FeatureStore:
        return new_store(self.folder / name, self.manifest)

    def _embed(self, path: Path) -> None:
        embed(self.manifest, path, ["a"], self.said)

    def _disturb(self, store: FeatureStore) -> None:
        n_before = N_BLOCKS
        while self.facts["kills"] < self.n_kills:
            killed = self._one_round(store.path)
            n_left = [len(store.pending(spec)) for spec in store.embeddings()]
            self._choose_moments(n_before - sum(n_left) if n_left else 0)
            n_before = sum(n_left) if n_left else N_BLOCKS
            self.facts["amid"] += killed and 0 < n_before < N_BLOCKS
            self.facts["left_claims"] += any((store.path / "staging").glob("*.claim"))
            self.facts["left_shards"] += any((store.path / "staging").glob("*.shard"))
            if n_left == [0]:
                return

    def _choose_moments(self, n_done: int) -> None:
        """Leave about a block's time to each, however fast this machine is just now."""
        self.longest_s *= 0.8 if n_done > 2 else 1.0 if n_done else 1.1

    def _one_round(self, path: Path) -> bool:
        """Kill the extractors one by one; tell whether any was at work then."""
        children = [fork(lambda: self._embed(path)) for _ in range(self.n_extractors)]
        killed = False
        for child in children:
            time.sleep(self.random.uniform(0, self.longest_s / self.n_extractors))
            os.kill(child, signal.SIGKILL)
            status = self._wait(child)
            assert status in {0, -signal.SIGKILL}
            self.facts["kills" if status else "ended_before"] += 1
            killed = killed or status != 0
        return killed

    @staticmethod
    def _wait(child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def race(folder: Path, manifest: TileManifest, sets: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Set off one extractor per set of embeddings at the same moment on one store."""
    loop.LOOK_AGAIN_S = 0.02
    folder.mkdir()
    store = new_store(folder / "race.store", manifest)
    reader, writer = os.pipe()
    children = []
    for number, names in enumerate(sets):

        def work(names: Sequence[str] = names, number: int = number) -> None:
            os.close(writer)
            os.read(reader, 1)
            facts = embed(manifest, store.path, names, folder / "said")
            (folder / f"facts-{number}.json").write_text(json.dumps(facts))

        children.append(fork(work))
    os.close(writer)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0] * len(sets)
    facts = [json.loads((folder / f"facts-{n}.json").read_text()) for n in range(len(sets))]
    return {"facts": facts, "left": sorted(e.name for e in (store.path / "staging").iterdir())}


def main() -> None:
    torch.set_num_threads(1)
    what, folder, *arguments = sys.argv[1:]
    if what == "kill":
        seed, n_kills, n_extractors = map(int, arguments)
        killing = Killing(Path(folder), seed=seed, n_kills=n_kills, n_extractors=n_extractors)
        facts = killing.run()
    else:
        manifest = new_manifest(Path(folder, "tiles"), N_TILES)
        # in this process, so that all is imported when others are forked from it
        race(Path(folder, "alone"), manifest, [["a"]])
        facts = {}
        for races in arguments:
            sets = [names.split(",") for names in races.split("/")]
            facts[races] = race(Path(folder, races.replace("/", "-")), manifest, sets)
    sys.stdout.write(json.dumps(facts))


if __name__ == "__main__":
    main()
