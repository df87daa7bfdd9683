"""Tables as texts: which character parts the columns, and which one the decimals.

Where the comma parts decimals (`0,91`), spreadsheets part columns by semicolons. What a table means
is read off itself; what may mean two things is refused.
"""

import re
from collections.abc import Mapping, Sequence

from foretune.errors import BadInput

DELIMITERS = ",;\t"
NOTE = re.compile(r'\s*"?sep=(.)"?\s*')  # a first line, with which Excel is told
EXPONENT = r"(?:[eE][+-]?\d+)?"
COMMA = re.compile(rf"[+-]?(?:\d*|\d{{1,3}}(?:\.\d{{3}})+),\d+{EXPONENT}")  # 0,91 and 1.234,5
POINT = re.compile(rf"[+-]?\d*\.\d+{EXPONENT}")
PLAIN = re.compile(rf"[+-]?\d+{EXPONENT}|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")  # 1,234 and 1,234,567.8


def parted(text: str) -> tuple[str, str]:
    """The character that parts the columns of a table: comma, semicolon or tab, whichever its
    first line has most of, the comma if none; and the table without a line that names it.
    """
    first, _, rest = text.partition("\n")
    if note := NOTE.fullmatch(first):
        return note[1], rest
    return max(DELIMITERS, key=re.sub(r'"[^"]*"', "", first).count), text


def with_points(columns: Mapping[str, Sequence[str | None]], where: str) -> dict[str, list[str]]:
    """The columns of numbers among which some have a comma, as Python writes them; of cells that
    are empty, an empty text.

    A comma parts decimals, or thousands where a column's numbers have points too, or several
    commas. `1,234` alone may be either: it is read as the table's other commas are. Raises
    `BadInput` naming `where`, the column and the cell if nothing says which.
    """
    found: dict[str, list[str]] = {}
    unsure: dict[str, list[str]] = {}
    for name, column in columns.items():
        cells = [(cell or "").strip() for cell in column]
        filled = [cell for cell in cells if cell]
        commas = [cell for cell in filled if "," in cell]
        points = [cell for cell in filled if "," not in cell and POINT.fullmatch(cell)]
        if not commas or not all(_is_number(cell) for cell in filled):
            continue
        if all(COMMA.fullmatch(cell) for cell in commas) and not points:
            either = all(THOUSANDS.fullmatch(cell) for cell in commas)
            (unsure if either else found)[name] = [with_point(cell) for cell in cells]
        elif all(THOUSANDS.fullmatch(cell) for cell in commas):
            found[name] = [cell.replace(",", "") for cell in cells]
        else:
            other = (points or [c for c in commas if not COMMA.fullmatch(c)])[0]
            raise BadInput(
                f"{where}: column {name} has {commas[0]!r} and {other!r}: write all decimals with "
                "a point, or all with a comma"
            )
    if unsure and not found:
        name = next(iter(unsure))
        cell = next(c for c in columns[name] if c and "," in c).strip()
        raise BadInput(
            f"{where}: {cell!r} in column {name} may be {with_point(cell)} or "
            f"{cell.replace(',', '')}: write decimals with a point, and thousands without a comma"
        )
    return found | unsure


def _is_number(cell: str) -> bool:
    return any(form.fullmatch(cell) for form in (COMMA, POINT, PLAIN, THOUSANDS))


def with_point(cell: str) -> str:
    """A number with a decimal comma, with a decimal point; all else as it is."""
    return cell.replace(".", "").replace(",", ".") if COMMA.fullmatch(cell) else cell


def refuse_split_cells(cells: Sequence[str], names: Sequence[str], where: str) -> None:
    """Raise `BadInput` for a row of more cells than there are columns, which numbers with a decimal
    comma, or names with one, give where the comma parts the columns too.
    """
    if any(cell.strip() for cell in cells[len(names) :]):
        raise BadInput(
            f"{where} has {len(cells)} cells for {len(names)} columns: where cells have commas, "
            "put them in quotes, or part columns by semicolons"
        )
