"""Lines and rows that are divided all at once are the same as when they are divided one by one."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.logs import rows
from exporter.logs.framing import Encoding, frame
from exporter.logs.lines import Lines
from exporter.logs.records import AuditRecord, Columns, TableRecord, TraceRecord
from exporter.logs.table import Fields, Part, Table
from tests.bench.logs import audit_lines, trace_lines

MORE = settings(max_examples=300, deadline=None)
LOGS = {AuditRecord: audit_lines, TraceRecord: trace_lines}


@MORE
@given(st.lists(st.sampled_from(["a", "å", "\r", "\n", "\r\n", "\0", "\ufeff", "\U0001f511", "\u0a0a", "\u0d0a"])),
       st.sampled_from(["utf-16-le", "utf-16-be"]), st.binary(max_size=3), st.booleans())  # fmt: skip
def test_wide_lines_are_those_of_the_text(parts: list[str], encoding: Encoding, rest: bytes, at_start: bool) -> None:
    data = "".join(parts).encode(encoding) + rest
    framed = frame(data, encoding, at_start=at_start, skipping=False, final=True)
    lines = data.decode(encoding, "replace").split("\n")
    if not lines[-1]:
        del lines[-1]
    expected = [
        line.encode().removeprefix(b"\xef\xbb\xbf" if at_start and not number else b"").replace(b"\0", b"")
        for number, line in enumerate(lines)
    ]
    assert list(framed.lines) == [line.removesuffix(b"\r") for line in expected]
    assert len(framed.ends()) == len(expected)
    assert framed.consumed == len(data)


@MORE
@given(st.lists(st.sampled_from(["a", "å", "\r", "\n", "\0", "\u0a0a", "\u0a00", "x" * 40])), st.data())
def test_wide_lines_do_not_depend_on_how_they_are_read(parts: list[str], data: st.DataObject) -> None:
    encoding: Encoding = data.draw(st.sampled_from(["utf-16-le", "utf-16-be"]))
    whole = "".join(parts).encode(encoding)
    offset, lines = 0, list[bytes]()
    while offset < len(whole):
        end = data.draw(st.integers(offset + 1, len(whole)))
        framed = frame(whole[offset:end], encoding, at_start=False, skipping=False, final=False)
        lines += framed.lines
        ends = framed.ends()
        assert (ends[-1] if ends else 0) == framed.consumed
        if not framed.consumed and end == len(whole):
            break
        offset += framed.consumed
    lines += frame(whole[offset:], encoding, at_start=False, skipping=False, final=True).lines
    at_once = frame(whole, encoding, at_start=False, skipping=False, final=True)
    assert lines == list(at_once.lines)


@MORE
@given(st.lists(st.sampled_from([b"a", b"", b"1", b"\t", b"\n", b"\r\n", b"\r", b"\t\n\t", b"a\tb\tc\n"])))
def test_fields_are_divided_only_if_each_row_has_as_many_tabs(parts: list[bytes]) -> None:
    text = b"".join(parts)
    text += b"" if text.endswith(b"\n") else b"\n"
    lines = Lines(text).divided
    fields = Fields.of(text)
    assert (fields is not None) == (len({line.count(b"\t") for line in lines}) == 1)
    if fields is not None:
        columns = [fields.column(place) for place in range(fields.last + 1)]
        assert [b"\t".join(row) for row in zip(*columns, strict=True)] == lines


def damaged(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """Rows with what happens to rows, or some of it."""
    kinds = chance.sample(range(8), chance.randrange(4))
    for place in chance.choices(range(len(lines)), k=chance.randrange(4)):
        line, fields = lines[place], lines[place].split(b"\t")
        column = chance.randrange(len(fields))
        for kind in kinds:
            lines[place] = (
                line[: chance.randrange(len(line) + 1)],
                b"\t".join([*fields[:column], b"", *fields[column + 1 :]]),
                b"\t".join([*fields[:column], b"usageDENIED\tx", *fields[column:]]),
                line + b"\tone more",
                line.replace(b"Success", b"Add USER access"),
                b"",
                line + b"\r",
                line.replace(b"2026", b"0000"),
            )[kind]
    return lines


@pytest.mark.parametrize("kind", [AuditRecord, TraceRecord])
def test_rows_by_columns_are_the_rows_one_by_one(kind: type[TableRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(11)
    by_columns = 0
    for _ in range(300):
        header, *lines = [line.rstrip("\r\n").encode() for line in LOGS[kind](chance.randrange(2, 12))]
        given_header = chance.choice((header, None, header.replace(b"Message", b"Text"), header + b"\tNew"))
        some = [*chance.choice(([], [], [header], [header + b"\tNewest"])), *damaged(lines, chance)]
        end = chance.choice((b"\n", b"\r\n"))
        text = b"".join(line + end for line in some)
        found = rows.rows_of(Lines(text), given_header, True, kind)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "_by_columns", lambda *arguments: None)
            expected = rows.rows_of(Lines(text), given_header, True, kind)
        assert (list(found[0]), list(found[1]), *found[2:]) == (list(expected[0]), list(expected[1]), *expected[2:])
        by_columns += isinstance(found[0], Columns)
    assert by_columns > 100


def part_of(text: bytes) -> Part:
    lines = Lines(text)
    return Part(lines, len(lines), frozenset())


def test_parts_of_tables_and_tables_put_together_are_the_same_rows() -> None:
    texts = [b"1\ta\n2\tb\n3\tc\n", b"4\td\te\n", b"5\tf\r\n6\tg\r\n"]
    table = Table([part_of(texts[0])]) + Table([part_of(texts[1]), part_of(texts[2])])
    rows = [line for text in texts for line in Lines(text)]
    assert list(table) == rows
    assert table[-1] == rows[-1]
    for begin in range(7):
        for end in range(begin, 7):
            part = table[begin:end]
            assert (list(part), len(part)) == (rows[begin:end], end - begin)
    with pytest.raises(IndexError):
        table[6]


@MORE
@given(
    st.lists(st.sampled_from([b"a", b"b", b"ab", b"\t", b"\n", b"\r\n"])),
    st.sets(st.sampled_from([b"a", b"ab", b"ba"])),
)
def test_rows_with_texts_are_found_without_the_others(parts: list[bytes], texts: set[bytes]) -> None:
    part = part_of(b"".join(parts) + b"\n")
    lines = Lines(b"".join(parts) + b"\n").divided
    having = [number for number, line in enumerate(lines) if any(text in line for text in texts)]
    many = len(texts) * 2 > len(lines)
    assert sorted(part.rows_with(texts)) == (list(range(len(lines))) if many else having)
    assert [part.row(number) for number in range(part.count)] == lines
    assert part.rows_with([b"no such text"] if len(lines) > 1 else []) == []
