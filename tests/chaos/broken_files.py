"""Malformed files: CSV and JSON by name, and bytes changed by chance."""

import random

HEADER = b"id,name,team,amount,at\n"
GOOD = [f"{number},person {number},red,{number},2026-01-01".encode() for number in range(1, 41)]
RECORDS = [f'{{"id": {number}, "name": "p\\u00e9rson {number}", "team": "red"}}'.encode() for number in range(1, 41)]
QUOTED = b'7,"a ""quoted"" name\nover two lines",red,7,2026-01-01'


def csv_cases() -> dict[str, bytes]:
    """Whole files, each with one thing wrong."""
    lines = {
        "too few fields": b"7,x",
        "one field": b"7",
        "no first field": b",person,red,7,2026-01-01",
        "too many fields": b"7,x,red,7,2026-01-01,more,and more",
        "only delimiters": b",,,,",
        "too many delimiters": b",,,,,,,,,",
        "open quote": b'7,"open,red,7,2026-01-01',
        "open quote at the start": b'"7,open,red,7,2026-01-01',
        "open quote at the end": b'7,open,red,7,"2026-01-01',
        "text after a quote": b'7,"a"b,red,7,2026-01-01',
        "quote inside": b'7,a"b,red,7,2026-01-01',
        "three quotes": b'7,""",red,7,2026-01-01',
        "only a quote": b'"',
        "two quotes": b'""',
        "quoted newline": QUOTED,
        "quoted delimiter": b'7,"a,b",red,7,2026-01-01',
        "escaped by a backslash": b'7,"a\\"b",red,7,2026-01-01',
        "backslash at the end": b"7,a,red,7,2026-01-01\\",
        "NUL": b"7,a\0b,red,7,2026-01-01",
        "only NULs": b"\0\0\0\0",
        "latin-1": "7,José,red,7,2026-01-01".encode("latin-1"),
        "cut UTF-8": b"7,Jos\xc3,red,7,2026-01-01",
        "overlong UTF-8": b"7,\xc0\xaf,red,7,2026-01-01",
        "half a surrogate pair": b"7,\xed\xa0\x80,red,7,2026-01-01",
        "not a character": b"7,\xff\xfe,red,7,2026-01-01",
        "a mark in the middle": b"\xef\xbb\xbf7,a,red,7,2026-01-01",
        "carriage return inside": b"7,a\rb,red,7,2026-01-01",
        "carriage return quoted": b'7,"a\rb",red,7,2026-01-01',
        "windows line": b"7,a,red,7,2026-01-01\r",
        "two carriage returns": b"7,a,red,7,2026-01-01\r\r",
        "form feed": b"7,a\x0cb,red,7,2026-01-01",
        "vertical tab": b"7,a\x0bb,red,7,2026-01-01",
        "next line": "7,a\x85b,red,7,2026-01-01".encode(),
        "line separator": "7,a\u2028b,red,7,2026-01-01".encode(),
        "zero width": "7,a\u200bb,red,7,2026-01-01".encode(),
        "right to left": "7,a\u202eb,red,7,2026-01-01".encode(),
        "emoji": "7,👩‍👩‍👧,red,7,2026-01-01".encode(),
        "spaces alone": b"     ",
        "tabs alone": b"\t\t",
        "blank": b"",
        "other delimiter": b"7;a;red;7;2026-01-01",
        "tabs for delimiters": b"7\ta\tred\t7\t2026-01-01",
        "comment": b"# a comment",
        "header again": HEADER.strip(),
        "html": b"<html><body>503</body></html>",
        "json": b'{"id": 7}',
        "formula": b"7,=cmd|' /C calc'!A0,red,7,2026-01-01",
        "long field": b"7," + b"x" * 100_000 + b",red,7,2026-01-01",
        "long open quote": b'7,"' + b"x" * 100_000 + b",red,7,2026-01-01",
        "many fields": b"7" + b",x" * 5_000,
        "spaces around quotes": b'7, "a" ,red,7,2026-01-01',
        "single quotes": b"7,'a,b',red,7,2026-01-01",
        "curly quotes": "7,“a,b”,red,7,2026-01-01".encode(),
        "quoted and cut": b'7,"a\nb',
    }
    found = {name: b"\n".join([HEADER.strip(), *GOOD[:20], line, *GOOD[20:], b""]) for name, line in lines.items()}
    body = HEADER + b"\n".join(GOOD) + b"\n"
    found |= {
        "no newline at the end": body[:-1],
        "cut in a record": body[:-9],
        "only a header": HEADER,
        "windows file": body.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + body,
        "blank lines between": body.replace(b"\n", b"\n\n"),
        "open quote on the last line": body + b'41,"open,red,1,2026-01-01',
        "NULs at the end": body + b"\0" * 512,
    }
    return found


def json_cases() -> dict[str, bytes]:
    """Whole files of lines, each with one line wrong; `[...]` are documents."""
    lines = {
        "cut object": b'{"id": 7, "name": "x',
        "cut key": b'{"id": 7, "na',
        "only a brace": b"{",
        "closing brace": b"}",
        "two braces": b"{}{}",
        "empty object": b"{}",
        "array": b'[1, "x"]',
        "number": b"7",
        "text": b'"seven"',
        "null": b"null",
        "true": b"true",
        "NaN": b'{"id": NaN}',
        "infinity": b'{"id": -Infinity}',
        "single quotes": b"{'id': 7}",
        "no quotes": b"{id: 7}",
        "comma at the end": b'{"id": 7,}',
        "comma for nothing": b'{"id": ,}',
        "two values": b'{"id": 7} {"id": 8}',
        "more after it": b'{"id": 7} more',
        "comment": b'{"id": 7} // seven',
        "NUL": b'{"id": "a\0b"}',
        "escaped NUL": b'{"id": "a\\u0000b"}',
        "half a surrogate": b'{"id": "\\ud800"}',
        "wrong escape": b'{"id": "\\x41"}',
        "tab in a text": b'{"id": "a\tb"}',
        "latin-1": '{"id": "José"}'.encode("latin-1"),
        "cut UTF-8": b'{"id": "Jos\xc3"}',
        "leading zero": b'{"id": 007}',
        "plus": b'{"id": +7}',
        "hex": b'{"id": 0x7}',
        "big number": b'{"id": 123456789012345678901234567890123456789012345}',
        "large exponent": b'{"id": 1e99999}',
        "name twice": b'{"id": 7, "id": 8}',
        "deep": b'{"a":' * 900 + b"1" + b"}" * 900,
        "spaces": b"    ",
        "html": b"<html>503</html>",
        "windows line": b'{"id": 7}\r',
        "long": b'{"id": "' + b"x" * 100_000 + b'"}',
    }
    found = {name: b"\n".join([*RECORDS[:20], line, *RECORDS[20:], b""]) for name, line in lines.items()}
    document = b"[\n" + b",\n".join(RECORDS) + b"\n]\n"
    return found | {
        "no newline at the end": b"\n".join(RECORDS),
        "byte order mark": b"\xef\xbb\xbf" + b"\n".join(RECORDS) + b"\n",
        "[...] whole": document,
        "[...] cut": document[:-40],
        "[...] not closed": document[:-3],
        "[...] comma missing": document.replace(b",\n", b"\n", 1),
        "[...] comma at the end": document.replace(b"\n]", b",\n]"),
        "[...] more after it": document + b'{"id": 7}',
        "[...] an item that is none": document.replace(b"[\n", b"[\n7,\n"),
        "[...] NUL": document.replace(b"red", b"r\0d", 1),
    }


def mutated(body: bytes, start: int, chance: random.Random) -> bytes:
    """One to four bytes flipped, cut, doubled, or a quote, NUL or mark put in; nothing before `start`."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(start, len(data))
        way = chance.choice(("flip", "cut", "quote", "NUL", "mark", "newline", "double", "delimiter"))
        if way == "flip":
            data[place] ^= 1 << chance.randrange(8)
        elif way == "cut":
            del data[place : place + chance.randint(1, 30)]
            if len(data) <= start + 1:
                return bytes(data)
        elif way == "double":
            data[place:place] = data[place : place + chance.randint(1, 60)]
        else:
            signs = {"quote": b'"', "NUL": b"\0", "mark": b"\xef\xbb\xbf", "newline": b"\n", "delimiter": b","}
            data[place:place] = signs[way]
    return bytes(data)
