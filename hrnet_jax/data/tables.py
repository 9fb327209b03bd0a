"""CSV files of numbers by image name, read row by row into compact arrays.

What a file may be is bounded, because files come from anywhere: `MAX_ROWS` rows of at most
`MAX_ROW_LENGTH` characters. A million faces of 98 points take 1.6 GB; no landmark data set has more
than a tenth of that.
"""

import array
import csv
import dataclasses
import io
import math
import operator
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error, open_binary

MAX_ROWS = 1_000_000
MAX_ROW_LENGTH = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The part of a CSV file that was asked for.

    Attributes:
      path: the file.
      header: the names of all its columns.
      columns: indices of the columns of `numbers`.
      lines: int64 (N,), the line of the file where each row ends, for messages.
      names: the image name of each row.
      numbers: float64 (N, columns), finite.
    """

    path: Path
    header: list[str]
    columns: list[int]
    lines: np.ndarray
    names: tuple[str, ...]
    numbers: np.ndarray

    def place(self, row: int, column: int | None = None) -> str:
        """Where a row, or a cell of `numbers`, stands in the file."""
        where = f"{self.path}, line {self.lines[row]}"
        if column is None:
            return where
        return f"{where}, column {_label(self.header, self.columns[column])}"


def read_table(path: str | Path, choose: Callable[[list[str]], tuple[int, list[int]]]) -> Table:
    """Reads the image names and some columns of numbers of a CSV file with a header.

    Args:
      path: of a UTF-8 file; blank lines are skipped.
      choose: tells from the header the index of the image names' column and those of the numbers';
        it raises HRNetError for a header that does not fit.

    Raises:
      HRNetError: the file cannot be read, has no header or no rows, or too much of them; a row does
        not have as many columns as the header, or holds what is not a finite number. The line of
        text names the file, the line and the column.
    """
    path = as_path(path)
    rows = _rows(path)
    _, header = next(rows, (0, None))
    if header is None:
        raise HRNetError(f"{path} is empty: expected a header line and a line for every face")
    header = [name.strip() for name in header]
    if len(header) > 1 and _is_number(header[1]):
        raise HRNetError(f"{path} has no header line: its first line already holds numbers")
    name_column, columns = choose(header)
    many = len(columns) > 1  # itemgetter is fast, but gives a tuple for several columns only
    pick = operator.itemgetter(*columns) if many else lambda row: [row[c] for c in columns]
    names, lines, numbers = [], array.array("q"), array.array("d")
    for line, row in rows:
        if len(row) != len(header):
            raise HRNetError(
                f"{path}, line {line}: {len(row)} columns, but the header has {len(header)}"
            )
        if len(names) == MAX_ROWS:
            raise HRNetError(f"{path} has more than {MAX_ROWS:,} rows: split it")
        try:
            values = list(map(float, pick(row)))
        except ValueError:
            values = [math.nan]
        if not all(map(math.isfinite, values)):
            bad = next(column for column in columns if not _is_number(row[column], finite=True))
            raise HRNetError(
                f"{path}, line {line}, column {_label(header, bad)}: {row[bad][:80]!r} is not a "
                "finite number"
            )
        names.append(row[name_column])
        lines.append(line)
        numbers.extend(values)
    if not names:
        raise HRNetError(f"{path} has no faces: there is only a header line")
    return Table(
        path=path,
        header=header,
        columns=columns,
        lines=np.frombuffer(lines, np.int64),
        names=tuple(names),
        numbers=np.frombuffer(numbers).reshape(len(names), len(columns)),
    )


def _rows(path) -> Iterator[tuple[int, list[str]]]:
    """The line number and the cells of every row that is not blank."""
    try:
        with io.TextIOWrapper(open_binary(path), "utf-8-sig", newline="") as file:
            lines = _BoundedLines(path, file)
            reader = csv.reader(lines)
            for row in reader:
                lines.length = 0
                if len(row) > 1 or "".join(row).strip():
                    yield reader.line_num, row
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {describe_error(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HRNetError(f"{path} is not a UTF-8 CSV file: {error}") from error


class _BoundedLines:
    """Iterates over the lines of a file; `length` counts characters since it was last set to 0."""

    def __init__(self, path, file):
        self.path, self.file, self.length = path, file, 0

    def __iter__(self):
        return self

    def __next__(self):
        line = self.file.readline(MAX_ROW_LENGTH + 1)
        self.length += len(line)
        if self.length > MAX_ROW_LENGTH:
            raise HRNetError(f"{self.path} has a row of more than {MAX_ROW_LENGTH:,} characters")
        if not line:
            raise StopIteration
        return line


def _label(header, column):
    return header[column] or column + 1


def _is_number(text, finite=False):
    try:
        value = float(text)
    except ValueError:
        return False
    return not finite or math.isfinite(value)
