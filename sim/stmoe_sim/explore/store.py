"""Results of a sweep in a folder: Parquet files, each there whole or not at all."""

import fcntl
import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from stmoe.config import ConfigError

from ..report.files import write_bytes

__all__ = ["RESULTS", "Store"]

RESULTS = "results.parquet"
LINES, SECONDS = 64, 5.0  # that are held at most before a part is written


class Store:
    """The results in ``folder``, which one process at a time writes to.

    ``results.parquet`` has what was there at the last end; ``parts/*.parquet`` what has come since.
    A point is in one line, the last one that was added.
    """

    def __init__(self, folder: Path, schema: pa.Schema):
        self.folder, self.schema = folder, schema
        self.lines: dict[str, dict[str, Any]] = {}
        self._held: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError("--output", str(self.folder), "a folder that no other run writes "
                                                            "to") from None
        for path in [self.folder / RESULTS, *sorted((self.folder / "parts").glob("*.parquet"))]:
            if path.exists():
                for line in self._read(path):
                    self.lines[line["id"]] = line
        return self

    def _read(self, path: Path) -> list[dict[str, Any]]:
        try:
            return list(pq.ParquetFile(path).read().to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(str(path), str(error).splitlines()[0],
                              "a Parquet file, or moved away") from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self.flush()
            self._gather()
        finally:
            self._lock.close()

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Keep ``lines``; they are in the folder within seconds."""
        for line in lines:
            self.lines[line["id"]] = line
            self._held.append(line)
        if len(self._held) >= LINES or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write a part of what is held."""
        if self._held:
            number = 1 + max((int(path.stem) for path in (self.folder / "parts").glob(
                "[0-9]*.parquet")), default=0)
            self._write(self.folder / "parts" / f"{number:06}.parquet", self._held)
            self._held = []
        self._since = time.monotonic()

    def _gather(self) -> None:
        """One file of all lines; parts go once it is there."""
        parts = list((self.folder / "parts").glob("*.parquet"))
        if parts:
            self._write(self.folder / RESULTS, list(self.lines.values()))
            for path in parts:
                path.unlink()

    def _write(self, path: Path, lines: list[dict[str, Any]]) -> None:
        names = dict.fromkeys(self.schema.names) | {name: None for line in lines for name in line}
        table = pa.table({name: self._column(name, lines) for name in names})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_bytes(path, sink.getvalue().to_pybytes())

    def _column(self, name: str, lines: list[dict[str, Any]]) -> pa.Array:
        """A column of the schema's type, or of one that holds what an earlier sweep had there."""
        found = [line.get(name) for line in lines]
        kind = self.schema.field(name).type if name in self.schema.names else None
        for wider in (kind, pa.float64()):
            try:
                return pa.array(found, wider)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                continue
        return pa.array([one if one is None or isinstance(one, str) else json.dumps(one)
                         for one in found], pa.string())
