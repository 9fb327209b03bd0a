"""CSV files of numbers by image name, read row by row into compact arrays.

What a file may be is bounded, because files come from anywhere: `MAX_ROWS` rows of at most
`MAX_ROW_LENGTH` characters. A million faces of 98 points take 1.6 GB; no landmark data set has more
than a tenth of that.
"""

import array
import codecs
import contextlib
import csv
import dataclasses
import io
import itertools
import math
import operator
import re
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error, open_binary

MAX_ROWS = 1_000_000
MAX_ROW_LENGTH = 1_000_000
_MISSING = ("", "nan", "na", "n/a", "null", "none")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The part of a CSV file that was asked for.

    Attributes:
      path: the file.
      header: the names of all its columns.
      columns: indices of the columns of `numbers`.
      lines: int64 (N,), the line of the file where each row ends, for messages.
      names: the image name of each row.
      numbers: float64 (N, columns), finite, or NaN where the cell says that there is none.
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


def read_table(
    path: str | Path,
    choose: Callable[[list[str]], tuple[int, list[int]]],
    missing: bool = False,
    guard: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Table:
    """Reads the image names and some columns of numbers of a CSV file with a header.

    Cells are separated by commas, semicolons or tabs, whichever the header has most of. Blank
    lines, lines that begin with # and have not the cells of a row, and empty cells behind the last
    column are skipped.

    Args:
      path: of a UTF-8 file, or of UTF-16 with its mark.
      choose: tells from the header the index of the image names' column and those of the numbers';
        it raises HRNetError for a header that does not fit.
      missing: an empty cell, or one of "nan", "na", "n/a", "null" and "none", is a NaN.
      guard: a context around every row: one that goes on after an HRNetError leaves the row out.

    Raises:
      HRNetError: the file cannot be read, has no header or no rows, or too much of them; a row does
        not have as many columns as the header, or holds what is not a finite number. The line of
        text names the file, the line and the column.
    """
    path = as_path(path)
    rows = _rows(path)
    header = _header(path, rows)
    name_column, columns = choose(header)
    many = len(columns) > 1  # itemgetter is fast, but gives a tuple for several columns only
    pick = operator.itemgetter(*columns) if many else lambda row: [row[c] for c in columns]
    width = len(header)
    names, lines, numbers = [], array.array("q"), array.array("d")
    for line, row in rows:
        if len(row) != width:
            if row[0].lstrip().startswith("#"):
                continue
            row = _without_empty_end(row, width)
        if len(names) == MAX_ROWS:
            raise HRNetError(f"{path} has more than {MAX_ROWS:,} rows: split it")
        with guard():
            if len(row) != width:
                raise HRNetError(
                    f"{path}, line {line}: {len(row)} columns, but the header has {width}"
                )
            try:
                values = list(map(float, pick(row)))
            except ValueError:
                values = [math.nan]
            if not all(map(math.isfinite, values)):
                values = [_number(path, line, header, row, c, missing) for c in columns]
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


def read_header(path: str | Path) -> list[str]:
    """The names of a CSV file's columns; raises as `read_table`."""
    with contextlib.closing(_rows(path)) as rows:
        return _header(path, rows)


def _header(path, rows):
    """The names of the columns, without empty ones at the end."""
    for _, row in rows:
        header = _without_empty_end([name.strip() for name in row], 0)
        if len(header) > 1 and sum(map(_is_number, header)) > len(header) / 2:
            raise HRNetError(f"{path} has no header line: its first line already holds numbers")
        if len(header) == 1 and len(header[0].split()) > 2:
            raise HRNetError(f"{path}: its columns are not separated: write commas between them")
        return header
    raise HRNetError(f"{path} is empty: expected a header line and a line for every face")


def _without_empty_end(row, width):
    """The cells, but for empty ones beyond `width`: of commas at the end of a line."""
    end = len(row)
    while end > max(width, 1) and not row[end - 1].strip():
        end -= 1
    return row[:end]


def _number(path, line, header, row, column, missing):
    text = row[column].strip()
    if missing and text.lower() in _MISSING:
        return math.nan
    if _is_number(text, finite=True):
        return float(text)
    hint = ": is its comma a decimal point?" if re.fullmatch(r"-?\d+,\d+", text) else ""
    raise HRNetError(
        f"{path}, line {line}, column {_label(header, column)}: {row[column][:80]!r} is not a "
        f"finite number{hint}"
    )


def _rows(path) -> Generator[tuple[int, list[str]]]:
    """The line number and the cells of every row that is not blank."""
    try:
        with open_binary(path) as binary:
            wide = binary.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            encoding = "utf-16" if wide else "utf-8-sig"
            with io.TextIOWrapper(binary, encoding=encoding, newline="") as file:
                yield from _parsed(_BoundedLines(path, file))
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {describe_error(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HRNetError(
            f"{path} is not a UTF-8 CSV file: {error}; save it as UTF-8 with commas"
        ) from error


def _parsed(lines):
    first, skipped = next(lines, ""), 0
    while first and (not first.strip() or first.startswith("#") and _most(first)[0] < 2):
        first, skipped, lines.length = next(lines, ""), skipped + 1, 0
    if "\0" in first:
        raise csv.Error("it may be UTF-16")
    # NumPy writes the header as a comment.
    reader = csv.reader(itertools.chain([first.lstrip("# ")], lines), delimiter=_most(first)[1])
    for row in reader:
        lines.length = 0
        if len(row) > 1 or "".join(row).strip():
            yield reader.line_num + skipped, row


def _most(line):
    """(how often, which) of the separator that a line has most of."""
    return max(((line.count(mark), mark) for mark in ",;\t"), key=lambda found: found[0])


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
