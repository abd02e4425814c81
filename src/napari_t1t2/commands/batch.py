"""Many images one after the other: how far it is, what failed, and a report with a row for each."""

from __future__ import annotations

import csv
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..atomic import naming, written_file
from ..errors import Refusal
from ..images.folder import together
from .progress import ProgressLine, say

ROW = ("input", "outcome", "target", "seconds", "sentence")  # of the report, and then what a command adds
TOLD = 10  # failures that are printed; the report has all
FAILED, STOPPED = 1, 130  # exit codes


@dataclass(eq=False)
class Row:
    """What became of one image."""

    name: str
    outcome: str = "done"  # "passed over", "left out", "failed"
    target: str = ""
    seconds: float = 0.0
    sentence: str = ""
    more: dict[str, Any] = field(default_factory=dict)


class Batch:
    """A batch of so many images. One that fails does not end it; Ctrl-C does, and then what is done stays.

    With a `report`, a CSV file is written row by row, with columns for `more`.
    """

    def __init__(
        self, total: int, report: Path | None = None, more: tuple[str, ...] = (), log: IO[str] | None = None
    ) -> None:
        self.total, self.rows, self.stopped = total, list[Row](), False
        self._report, self._more, self._file = report, more, ExitStack()
        self._table: Any = None
        self._line, self._spent, self._worked = ProgressLine(log), 0.0, 0

    def __enter__(self) -> Batch:
        if self._report:
            file = self._file.enter_context(_opened(self._report, (*ROW, *self._more)))
            self._table, self._flush = csv.writer(file), file.flush
        with suppress(ValueError):  # not in the main thread
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # of a cluster: as Ctrl-C
            self._file.callback(signal.signal, signal.SIGTERM, before)
        return self

    def __exit__(self, kind: Any, *_: Any) -> bool:
        self._line.end()
        with suppress(OSError) if kind else naming(self._report or Path()):  # a row that failed is tried again here
            self._file.close()
        self.stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        return self.stopped

    def code(self) -> int:
        """The exit code."""
        return STOPPED if self.stopped else FAILED if self.count("failed") else 0

    @contextmanager
    def image(self, name: str) -> Iterator[Row]:
        """Work on one image; of several, one that raises is noted as failed, but for a full disk, which ends all."""
        from ..runs.session import explain

        row, began = Row(name), time.monotonic()
        self._show(name)
        try:
            yield row
        except Exception as error:
            if self.total == 1 or "the disk is full" in (said := explain(error)):
                raise
            row.outcome, row.target, row.sentence = "failed", "", said.replace("\n", " ")
        row.seconds = time.monotonic() - began
        self.add(row)
        if row.outcome in ("done", "failed"):
            self._spent, self._worked = self._spent + row.seconds, self._worked + 1

    def add(self, row: Row) -> None:
        """Note what became of an image."""
        self.rows.append(row)
        if self._table:
            more = [row.more.get(key, "") for key in self._more]
            with naming(self._report or Path()):
                self._table.writerow((row.name, row.outcome, row.target, f"{row.seconds:.2f}", row.sentence, *more))
                self._flush()

    def say(self, sentence: str) -> None:
        """Tell something on a line of its own."""
        self._line.end()
        say(sentence, file=sys.stderr)

    def count(self, outcome: str) -> int:
        """How many images became of this."""
        return sum(row.outcome == outcome for row in self.rows)

    def end(self, did: str) -> int:
        """Tell in the end what was done and what failed; returns the exit code."""
        done, failed, passed = (self.count(outcome) for outcome in ("done", "failed", "passed over"))
        say(f"{did} {done} of {self.total}" + (f"; {passed} had been made before" if passed else ""))
        if failed:
            wrong = [(row.name, row.sentence) for row in self.rows if row.outcome == "failed"]
            lines = together((name, said.removeprefix(f"{Path(name).name}: ")) for name, said in wrong)
            say(f"{failed} failed:", *lines[:TOLD], file=sys.stderr)
            if len(lines) > TOLD:
                say(f"and {len(lines) - TOLD} more; --report FILE lists all.", file=sys.stderr)
        if self.stopped:
            left = self.total - done - failed - passed
            say(f"Stopped, {left} of {self.total} are left: what is done is kept.", file=sys.stderr)
        return self.code()

    def _show(self, name: str) -> None:
        from ..runs.session import clock

        at, failed = sum(row.outcome != "left out" for row in self.rows), self.count("failed")
        left = f", {clock(self._spent / self._worked * (self.total - at))} left" if self._worked else ""
        wrong = f", {failed} failed" if failed else ""
        self._line.show(f"{at + 1} of {self.total}{wrong}{left}: {name}", at / self.total, last=at + 1 == self.total)


def rows_of(report: Path) -> dict[str, dict[str, str]]:
    """The rows of an earlier report, by their names, without a last one that was cut off; empty where there is none."""
    with suppress(OSError, UnicodeDecodeError, csv.Error), report.open(encoding="utf-8", newline="") as file:
        return {row["input"]: row for row in csv.DictReader(file) if row.get("input") and None not in row.values()}
    return {}


def _opened(report: Path, columns: Sequence[str]) -> IO[str]:
    """The report to be written, begun anew. Raises `Refusal` where that would replace something else."""
    if report.suffix.casefold() != ".csv":
        raise Refusal(f"{report}: the report is a CSV file; give a name that ends in .csv.")
    with suppress(OSError, UnicodeDecodeError):
        begin = report.read_text(encoding="utf-8")[:99]
        if begin and not begin.startswith(",".join(ROW)):
            raise Refusal(f"{report} exists and is no report: give another name.")
    report.parent.mkdir(parents=True, exist_ok=True)
    with written_file(report) as partial:  # a full disk leaves the report of before
        partial.write_text(",".join(columns) + "\r\n", encoding="utf-8", newline="")
    return report.open("a", encoding="utf-8", newline="")
