"""Power loss: at any operation, with what was not flushed torn, dropped, or kept."""

from __future__ import annotations

import io
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from store_cases import CLASSES, SPEC, make_obs, make_store, true_rows, write_all

from featurebench.errors import MissingRowsError
from featurebench.store import FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Undo = tuple[Path, str, "Callable[[], None]"]


class PowerLoss(BaseException):
    """Stands for the end of the machine: nothing that catches errors may act on it."""


@dataclass
class Disk:
    """What a file system may still lose: contents and names that nobody flushed."""

    fatal: int
    n_made: int = 0
    unflushed: dict[Path, None] = field(default_factory=dict)
    names: list[Undo] = field(default_factory=list)

    def step(self) -> None:
        self.n_made += 1
        if self.n_made == self.fatal:
            raise PowerLoss

    def flush(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            self.names = [undo for undo in self.names if undo[0] != path]
        else:
            self.unflushed.pop(path, None)

    def rename(self, source: Path, target: Path) -> None:
        """Note a rename before it is made: until a flush either both names changed or neither."""
        before = target.read_bytes() if target.is_file() else None
        if source in self.unflushed:
            self.unflushed[target] = self.unflushed.pop(source)

        def undo() -> None:
            if target.exists() and source.parent.exists():
                target.rename(source)
            if before is not None:
                target.write_bytes(before)

        self.names.append((target.parent, f"rename {target.name}", undo))

    def add(self, path: Path) -> None:
        def undo() -> None:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

        self.names.append((path.parent, f"add {path.name}", undo))

    def drop(self, path: Path) -> None:
        content = path.read_bytes() if path.is_file() else None
        if content is not None:
            self.names.append((path.parent, f"drop {path.name}", lambda: restore(path, content)))


def restore(path: Path, content: bytes) -> None:
    if path.parent.exists() and not path.exists():
        path.write_bytes(content)


@contextmanager
def losing_power(fatal: int) -> Iterator[Disk]:
    """Let the machine die before the n-th change of the file system."""
    disk = Disk(fatal)
    notes: dict[str, Callable[..., None]] = {
        "rename": lambda source, target, **_: disk.rename(Path(source), Path(target)),
        "replace": lambda source, target, **_: disk.rename(Path(source), Path(target)),
        "link": lambda _, target, **__: disk.add(Path(target)),
        "mkdir": lambda path, *_, **__: disk.add(Path(path)),
        "unlink": lambda path, **_: disk.drop(Path(path)),
        "fsync": disk.flush,
    }

    def wrap(function: Any, note: Callable[..., None]) -> Any:
        def operation(*args: Any, **kwargs: Any) -> Any:
            disk.step()
            note(*args, **kwargs)
            return function(*args, **kwargs)

        return operation

    real_open = io.open

    def open_file(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "x" in mode or "w" in mode:
            disk.step()
            disk.add(Path(path))
            disk.unflushed[Path(path)] = None
        return real_open(path, mode, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name, note in notes.items():
            patch.setattr(os, name, wrap(getattr(os, name), note))
        patch.setattr(io, "open", open_file)
        yield disk


def states_after(disk: Disk, store: Path) -> Iterator[str]:
    """Put a store in each state in which the disk may wake up; yields its description."""
    saved = store.with_name("saved")
    shutil.copytree(store, saved)
    n_names = len(disk.names)
    singles = ([k] for k in sorted({0, n_names // 2, n_names - 1}) if n_names)
    subsets = [(), range(n_names), *singles]
    for dropped in dict.fromkeys(tuple(subset) for subset in subsets):
        for kept in (1.0, 0.5, 0.0) if disk.unflushed else (1.0,):
            shutil.rmtree(store)
            shutil.copytree(saved, store)
            for path in disk.unflushed:
                if path.exists():
                    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
            for k in reversed(dropped):
                with suppress(FileNotFoundError):
                    disk.names[k][2]()
            what = [disk.names[k][1] for k in dropped]
            yield f"operation {disk.fatal}, {kept:.0%} of {len(disk.unflushed)} files, lost {what}"
    shutil.rmtree(saved)


def check(path: Path, committed: set[int], state: str) -> set[int]:
    """Check what must hold after power loss; return the committed blocks."""
    store = FeatureStore.open(path)
    truth = true_rows(30).astype(np.float16)
    assert store.verify() == [], state
    done = {block.index for block in set(store.blocks(SPEC)) - set(store.pending(SPEC))}
    assert committed <= done, state
    for block in store.blocks(SPEC):
        rows = np.arange(block.start, block.stop)
        if block.index in done:
            np.testing.assert_array_equal(store.load(SPEC, rows), truth[rows], state)
        else:
            with pytest.raises(MissingRowsError):
                store.load(SPEC, rows)
    write_all(store)
    assert store.verify() == [], state
    np.testing.assert_array_equal(store.load(SPEC), truth, state)
    return done


def test_a_block_is_committed_whole_or_pending_whenever_the_power_goes(tmp_path: Path) -> None:
    template = make_store(tmp_path, n=30, name="template.store")
    template.add(SPEC, block_rows=16)
    rows = true_rows(30)
    template.write(SPEC, template.blocks(SPEC)[0], rows[:16])
    path, n_states, seen = tmp_path / "a.store", 0, set()
    for fatal in range(1, 99):
        shutil.copytree(template.path, path)
        store, said = FeatureStore.open(path), False
        with losing_power(fatal) as disk, suppress(PowerLoss):
            said = store.write(SPEC, store.blocks(SPEC)[1], rows[16:])
        for state in states_after(disk, path):
            seen.add(len(check(path, {0, 1} if said else {0}, state)))
            n_states += 1
        shutil.rmtree(path)
        if said:
            break
    assert said
    assert fatal > 12
    assert n_states > 40
    assert seen == {1, 2}


@pytest.mark.parametrize(
    "verb", [*(pytest.param(v, marks=pytest.mark.slow) for v in ("add", "update_obs")), "repair"]
)
def test_other_changes_can_be_repeated_whenever_the_power_goes(tmp_path: Path, verb: str) -> None:
    template = make_store(tmp_path, n=30, name="template.store")
    if verb != "add":
        template.add(SPEC, block_rows=16)
        template.write(SPEC, template.blocks(SPEC)[0], true_rows(30)[:16])
    path, table = tmp_path / "a.store", make_obs(30).assign(label="tumour")
    array = path / "embeddings.zarr" / "obsm" / SPEC.name / "zarr.json"

    def change(store: FeatureStore) -> None:
        if verb == "repair":
            store.repair(store.verify())
        elif verb == "update_obs":
            store.update_obs(table, CLASSES)
        else:
            store.add(SPEC, block_rows=16)

    for fatal in range(1, 400, 5 if verb == "repair" else 37):
        shutil.copytree(template.path, path)
        if verb == "repair":
            array.write_bytes(array.read_bytes().replace(b"NaN", b"NaO"))
        with losing_power(fatal) as disk, suppress(PowerLoss):
            change(FeatureStore.open(path))
        for state in states_after(disk, path):
            change(FeatureStore.open(path))
            check(path, set() if verb == "add" else {0}, state)
        shutil.rmtree(path)
        if disk.n_made < fatal:
            break
    assert disk.n_made < fatal
