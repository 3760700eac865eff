"""Import over HTTP: what is made, what is refused and why, and that nothing is half-written."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, update

from specimen.config import settings
from specimen.crud import product_crud
from specimen.factories import create
from specimen.main import app
from specimen.models import Product, User
from timberframe.bulk import files, imports
from timberframe.bulk.files import MAX_ROW_BYTES
from timberframe.bulk.upsert import Upsert, Upserted
from timberframe.crud.policy import Policy, everybody, only, signed_in, superusers
from timberframe.data.session import Database
from timberframe.http import transfers
from timberframe.schemas.bulk import MAX_ROW_ERRORS
from timberframe.testing import ALICE, BOB, create_app

HEAD = "sku,name,price\r\n"
NOTHING = {"created": 0, "updated": 0, "unchanged": 0, "refused": 0, "errors_total": 0}


async def send(
    client: httpx2.AsyncClient,
    content: str | bytes | AsyncIterator[bytes],
    media_type: str = "text/csv",
    **params: Any,
) -> httpx2.Response:
    headers = {"Content-Type": media_type}
    return await client.post("/products/import", content=content, params=params, headers=headers)


async def stored(database: Database) -> list[tuple[Any, ...]]:
    async with database.reading() as db:
        columns = (Product.sku, Product.name, Product.price, Product.owner_id, Product.version)
        return [tuple(row) for row in await db.execute(select(*columns).order_by(Product.id))]


def facts(answer: httpx2.Response) -> dict[str, Any]:
    return {name: answer.json()[name] for name in NOTHING}


def errors(answer: httpx2.Response) -> list[tuple[int, str | None, str]]:
    return [(e["line"], e["field"], e["reason"]) for e in answer.json()["errors"]]


async def test_csv_creates_and_updates_by_sku(alice: httpx2.AsyncClient) -> None:
    chair = await create(alice, description="Oak", stock=7)
    text = HEAD + "CH-1,Armchair,25\r\nDE-1,Desk,100.5\r\n"
    answer = await send(alice, text)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report == NOTHING | {
        "mode": "all", "dry_run": False, "created": 1, "updated": 1, "errors": []
    }  # fmt: skip
    read = await alice.get(f"/products/{chair['id']}")
    # What no column was sent for stays as it is.
    assert read.json() == chair | {
        "name": "Armchair", "price": "25.00", "updated_at": read.json()["updated_at"]
    }  # fmt: skip
    assert read.json()["updated_at"] > chair["updated_at"]
    assert read.headers["etag"] == '"2"'
    desk = (await alice.get("/products/", params={"sku": "DE-1"})).json()["items"][0]
    assert desk["owner_id"] == ALICE.id
    assert desk["created_at"] == desk["updated_at"]
    assert (desk["price"], desk["currency"], desk["stock"]) == ("100.50", "EUR", 0)


async def test_jsonl_creates_and_updates_by_sku(alice: httpx2.AsyncClient) -> None:
    await create(alice, description="Oak", stock=7)
    rows = [
        {"sku": "CH-1", "name": "Armchair", "price": 25.1, "description": None},
        {"sku": "DE-1", "name": "=1", "description": "a\u2028b", "price": "100.50", "stock": 3},
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows)
    answer = await send(alice, text, "application/jsonl; charset=UTF-8")
    assert facts(answer) == NOTHING | {"created": 1, "updated": 1}
    items = (await alice.get("/products/")).json()["items"]
    assert [(i["name"], i["description"], i["stock"], i["price"]) for i in items] == [
        ("Armchair", None, 7, "25.10"),
        ("=1", "a\u2028b", 3, "100.50"),
    ]


async def test_the_same_again_changes_nothing(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    count = imports.BATCH_ROWS + 1
    text = HEAD + "".join(f"S-{n},Name,{n}\r\n" for n in range(count))
    assert facts(await send(alice, text)) == NOTHING | {"created": count}
    before = await stored(database)
    for mode in ("all", "skip"):
        assert facts(await send(alice, text, mode=mode)) == NOTHING | {"unchanged": count}
    assert await stored(database) == before


async def test_deleted_product_does_not_stand_in_the_way(alice: httpx2.AsyncClient) -> None:
    deleted = await create(alice)
    await alice.delete(f"/products/{deleted['id']}")
    assert facts(await send(alice, HEAD + "CH-1,New,1\r\n")) == NOTHING | {"created": 1}
    assert (await alice.post(f"/products/{deleted['id']}/restore")).status_code == 400


BAD_ROWS = [
    ('A-1,"Good\nname",1', "name", "must be one line of text"),
    ("A-1,Good,x", "price", "must be an amount such as 19.99"),
    ("A-1,,1", "name", "is missing"),
    ("A 1,Good,1", "sku", "must be 1 to 64 letters, digits"),
    ("A-1,Good", None, "has 2 cells, not 3"),
    ("A-1,Good,1,1", None, "has 4 cells, not 3"),
    ("OK-1,Good,1", "sku", "is already on line 2"),
    ("BOB-1,Good,1", "sku", "belongs to a row of somebody else"),
]


async def test_bad_row_is_told_with_line_field_and_reason(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, database: Database
) -> None:
    await create(bob, sku="BOB-1")
    before = await stored(database)
    for mode, bad, dry_run in product(("all", "skip"), BAD_ROWS, (True, False)):
        row, field, reason = bad
        text = f'{HEAD}OK-1,"Good, too",1\r\n\r\n{row}\r\nOK-2,Good,1\r\n'
        answer = await send(alice, text, mode=mode, dry_run=dry_run)
        assert [error[:2] for error in errors(answer)] == [(4, field)], (mode, row)
        assert errors(answer)[0][2].startswith(reason)
        kept = await stored(database)
        if mode == "all":
            assert answer.status_code == 422
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "import_refused"
            assert facts(answer) == NOTHING | {"refused": 1, "errors_total": 1}
        else:
            assert answer.status_code == 200
            made = answer.json()["created"] + answer.json()["unchanged"]
            assert (made, answer.json()["refused"]) == (2, 1)
        if mode == "all" or (dry_run and bad == BAD_ROWS[0]):
            assert kept == before
    assert [row[0] for row in kept] == ["BOB-1", "OK-1", "OK-2"]


async def test_bad_line_of_jsonl_is_one_bad_row(alice: httpx2.AsyncClient) -> None:
    good = '{"sku": "A-1", "name": "Good", "price": 1}'
    bad = {
        "{": "is not JSON: ",
        "[]": "is not a JSON object",
        "[" * 100_000: "is not JSON",
        "9" * 5000: "is not JSON",
        '{"price": NaN}': "is not JSON: NaN is not JSON",
        '{"sku": "A", "sku": "A"}': "is not JSON: A name appears twice in one object",
        good.replace("}", ', "secret value": 1}'): "is unknown",
        good.replace("Good", "a\\u0000b"): "must be one line of text",
        good.replace("Good", "\\ud800"): "must be valid Unicode, without half of a surrogate pair",
        good.replace("1}", "true}"): "must be a string or a number",
    }
    text = "\n".join([good, *bad])
    answer = await send(alice, text, "application/jsonl", mode="skip")
    assert facts(answer) == NOTHING | {
        "created": 1, "refused": len(bad), "errors_total": len(bad)
    }  # fmt: skip
    told = errors(answer)
    assert [line for line, _, _ in told] == list(range(2, 2 + len(bad)))
    for (_, _, reason), expected in zip(told, bad.values(), strict=True):
        assert reason.startswith(expected)
    assert "secret value" not in answer.text


async def test_errors_are_capped_but_counted(alice: httpx2.AsyncClient) -> None:
    answer = await send(alice, HEAD + ",,\r\n" * 500)
    assert answer.status_code == 422
    assert facts(answer) == NOTHING | {"refused": 500, "errors_total": 1500}
    assert len(answer.json()["errors"]) == MAX_ROW_ERRORS


BROKEN = [
    (HEAD + 'A-1,"torn,1\r\nA-2,b,1\r\n', 2, "a quote is not closed"),
    (HEAD + 'A-1,b,1\r\nA-2,"torn,1\r\nA-3,"c",1\r\n', 3, "a quote is not closed"),
    (HEAD + f"A-1,{'x' * 200_000},1", 2, "a cell may have 131,072 characters"),
    (HEAD + 'A-1,"' + "\n" * 11_001, 2, "a row may have 11,000 lines"),
    (HEAD.replace("\n", "") + "A-1,a,1\r", 1, "there is a CR outside of quotes"),
    ("PK\x03\x04", 1, "the file is a workbook; save it as CSV"),
    (HEAD + 'A-1,"' + "x\r\n" * 400_000, 2, ""),
    (HEAD + f"A-1,b,1\r\nA-2,{'x' * MAX_ROW_BYTES},1", 3, "a row may have"),
    (HEAD + ('"\n",' * 300_000), 2, "a row may have"),
    (HEAD + "A-1,a\0b,1\r\n", 2, "there is a NUL character"),
    (HEAD + "A-1,a,1\r\n" * 9 + "A,\udce9,1\r\n", 11, "is not UTF-8"),
    ("", 1, "column sku, name, price is missing"),
    ("sku,name\r\n", 1, "column price is missing"),
    ("sku,name,price,sku\r\n", 1, "column sku appears twice"),
    ("sku,name,price,owner_id\r\n", 1, "column owner_id is unknown"),
    ("sku,name,price,a secret\r\n", 1, "column number 4 is unknown"),
    ("sku;name;price\r\n", 1, "cells must be separated by a comma; is it a semicolon?"),
    ("sku\tname\tprice\r\n", 1, "cells must be separated by a comma; is it a tab?"),
]


async def test_broken_file_is_one_clear_error_and_keeps_nothing(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    for mode, (text, line, reason) in product(("all", "skip"), BROKEN):
        answer = await send(alice, text.encode(errors="surrogateescape"), mode=mode)
        assert answer.status_code == 422, text[:100]
        problem = answer.json()
        assert problem["code"] == "broken_file"
        assert problem["detail"].startswith(f"Line {line}: {reason}"), problem
        assert "secret" not in answer.text
    assert await stored(database) == []


async def test_utf_8_is_read_with_and_without_bom_and_nothing_else_is(
    alice: httpx2.AsyncClient,
) -> None:
    for number, bom in enumerate(("", "\ufeff")):
        text = f"{bom}{HEAD}A-{number},Zoë 🪑,1\n"
        assert facts(await send(alice, text)) == NOTHING | {"created": 1}
    items = (await alice.get("/products/")).json()["items"]
    assert [item["name"] for item in items] == ["Zoë 🪑"] * 2
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"):
        answer = await send(alice, (HEAD + "B-1,Zoë,1\n").encode(encoding))
        assert (answer.status_code, answer.json()["code"]) == (422, "broken_file")


OTHER_KINDS: tuple[dict[str, str], ...] = (
    {"Content-Type": "application/json"},
    {"Content-Type": "text/csv; charset=latin-1"},
    {"Content-Type": "text/csvx"},
    {},
)


async def test_other_kinds_of_body_are_refused(alice: httpx2.AsyncClient) -> None:
    for headers in OTHER_KINDS:
        answer = await alice.post("/products/import", content=HEAD, headers=headers)
        assert answer.status_code == 415, headers
        assert "text/csv or application/jsonl" in answer.json()["detail"]


IS_CSV = {
    "text/csv; header=present; charset=UTF-8": True,
    "application/csv": True,
    "application/vnd.ms-excel": True,
    "application/jsonl": False,
    "application/x-ndjson": False,
}


async def test_other_names_of_both_formats_are_known(alice: httpx2.AsyncClient) -> None:
    for number, (media_type, is_csv) in enumerate(IS_CSV.items()):
        row = {"sku": f"A-{number}", "name": "a", "price": 1}
        text = f"{HEAD}A-{number},a,1\r\n" if is_csv else json.dumps(row)
        answer = await send(alice, text, media_type)
        assert facts(answer) == NOTHING | {"created": 1}, media_type


@pytest.mark.parametrize(("delimiter", "between"), [("semicolon", ";"), ("tab", "\t")])
async def test_file_of_a_european_spreadsheet_is_read(
    delimiter: str, between: str, alice: httpx2.AsyncClient, database: Database
) -> None:
    rows = [
        ("sku", "name", "price", "stock"),
        ("A-1", "Stuhl, rot", "1234,50", "7,0"),
        ("A-2", '"Tisch; groß"' if between == ";" else "Tisch; groß", "19", "3"),
    ]
    text = "\ufeff" + "".join(f"{between.join(row)}\r\n" for row in rows)
    answer = await send(alice, text, delimiter=delimiter, decimal="comma")
    assert facts(answer) == NOTHING | {"created": 2}, answer.text
    items = (await alice.get("/products/", params={"sort": "sku"})).json()["items"]
    assert [(i["name"], i["price"], i["stock"]) for i in items] == [
        ("Stuhl, rot", "1234.50", 7),
        ("Tisch; groß", "19.00", 3),
    ]
    # The control: read as another file, none of it is guessed at.
    before = await stored(database)
    assert (await send(alice, text)).json()["code"] == "broken_file"
    answer = await send(alice, text, delimiter=delimiter)
    assert errors(answer) == [
        (2, "price", "must be a number such as 1234.50; decimal=comma reads 1234,50"),
        (2, "stock", "must be a whole number"),
    ]
    thousands = text.replace("1234,50", "1.234,50")
    answer = await send(alice, thousands, delimiter=delimiter, decimal="comma")
    assert errors(answer) == [(2, "price", "must be a number such as 1234,50, without points")]
    assert await stored(database) == before


async def test_errors_speak_of_the_file(alice: httpx2.AsyncClient) -> None:
    head = "sku,name,price,stock,is_active,currency,tags\r\n"
    bad = f'A-1,{"x" * 201},1,99999999999,yes,EURO,"{",".join(f"t{n}" for n in range(21))}"\r\n'
    answer = await send(alice, f"{head}{bad}A-2,,,x,,,\r\n")
    assert errors(answer) == [
        (2, "is_active", "must be true or false"),
        (2, "name", "must have at most 200 characters"),
        (2, "currency", "must be 'EUR', 'JPY' or 'USD'"),
        (2, "stock", "must be less than or equal to 2147483647"),
        (2, "tags", "must have at most 20 items"),
        (3, "stock", "must be a whole number"),
        (3, "name", "is missing"),
        (3, "price", "is missing"),
    ]
    assert answer.json()["errors_total"] == 8
    for words in ("Input", "String", "parse", "valid integer"):
        assert words not in answer.text


async def test_errors_speak_of_the_values_of_json_lines(alice: httpx2.AsyncClient) -> None:
    bad = [
        ("name", "1", "must be text"),
        ("name", "null", "must be text"),
        ("name", r'"\ud800"', "must be valid Unicode, without half of a surrogate pair"),
        ("stock", "null", "must be a whole number"),
        ("stock", "1.5", "must be a whole number"),
        ("stock", '"1"', "must be a whole number"),
        ("stock", "1e300", "must be a smaller number"),
        ("is_active", "1", "must be true or false"),
        ("is_active", "null", "must be true or false"),
        ("tags", '"oak"', "must be a list"),
        ("tags", "[1]", "must be text"),
        ("description", "{}", "must be text"),
    ]
    good = {"sku": "A-1", "name": "Good", "price": 1}
    rows = [json.dumps(good | {field: "~"}).replace('"~"', value) for field, value, _ in bad]
    answer = await send(alice, "\n".join(rows), "application/jsonl")
    assert errors(answer) == [(n, field, why) for n, (field, _, why) in enumerate(bad, 1)]


async def test_what_is_for_csv_is_refused_for_json_lines(alice: httpx2.AsyncClient) -> None:
    for params in ({"delimiter": "tab"}, {"decimal": "point"}):
        answer = await send(alice, "", "application/jsonl", **params)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"] == ["query", *params]


async def test_misspelt_parameter_does_not_import(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    for params in ({"dryrun": True}, {"mode": "both"}, {"dry_run": "maybe"}):
        answer = await send(alice, HEAD + "A-1,a,1\r\n", **params)
        assert answer.status_code == 422
    assert await stored(database) == []


async def test_dry_run_tells_all_and_keeps_nothing(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    await create(alice)
    before = await stored(database)
    text = HEAD + "CH-1,Armchair,1\r\nA-1,a,1\r\n"
    for mode in ("all", "skip"):
        answer = await send(alice, text, dry_run=True, mode=mode)
        assert facts(answer) == NOTHING | {"created": 1, "updated": 1}
    assert await stored(database) == before
    assert facts(await send(alice, text)) == NOTHING | {"created": 1, "updated": 1}


async def test_rows_of_others_are_not_touched_by_superusers_either(
    alice: httpx2.AsyncClient,
    bob: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 10)
    await create(alice, sku="Z-1")
    await create(alice, sku="Z-2", is_active=False)
    before = await stored(database)
    good = "".join(f"S-{n},Name,1\r\n" for n in range(12))
    for other in (bob, admin):
        answer = await send(other, HEAD + "Z-2,Mine,1\r\n" + good + "Z-1,Mine,1\r\n")
        assert answer.status_code == 422
        assert errors(answer) == [
            (2, "sku", "belongs to a row of somebody else"),
            (15, "sku", "belongs to a row of somebody else"),
        ]
        assert await stored(database) == before
    answer = await send(bob, HEAD + "Z-2,Mine,1\r\nB-1,Mine,1\r\n", mode="skip")
    assert facts(answer) == NOTHING | {"created": 1, "refused": 1, "errors_total": 1}
    assert (await stored(database))[:-1] == before
    assert (await stored(database))[-1][3] == BOB.id


async def test_import_changes_no_row_that_patch_may_not_change(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Policy(read=everybody, write=superusers, create=signed_in)
    monkeypatch.setattr(product_crud, "policy", published)
    chair = await create(alice)
    before = await stored(database)
    assert (await alice.patch(f"/products/{chair['id']}", json={"name": "N"})).status_code == 403
    answer = await send(alice, HEAD + "A-1,New,1\r\nCH-1,Armchair,25\r\n")
    assert answer.status_code == 422
    assert errors(answer) == [(3, "sku", "belongs to a row that you may not change")]
    assert await stored(database) == before


async def test_import_creates_no_row_that_post_may_not_create(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(product_crud.policy, create=only(Product.stock > 0))
    monkeypatch.setattr(product_crud, "policy", policy)
    text = "sku,name,price,stock\r\nA-1,New,1,1\r\nA-2,New,1,0\r\n"
    for mode, created in (("all", 0), ("skip", 1)):
        for dry_run in (True, False):
            answer = await send(alice, text, mode=mode, dry_run=dry_run)
            assert errors(answer) == [(3, None, "you may not create this row")]
            assert answer.json()["created"] == created
    assert [row[0] for row in await stored(database)] == ["A-1"]


async def test_body_has_a_limit_of_its_own(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (HEAD + "".join(f"S-{n},Name,1\r\n" for n in range(500))).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 1000):
            yield text[start : start + 1000]

    monkeypatch.setattr(settings, "MAX_BODY_BYTES", 1024)
    for limit, status in ((len(text) - 1, 413), (len(text), 200)):
        monkeypatch.setattr(settings, "IMPORT_MAX_BODY_BYTES", limit)
        app = create_app()
        app.state.database = database
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(
            transport=transport, base_url=alice.base_url, headers=alice.headers
        ) as client:
            for content in (text, chunks()):
                assert (await send(client, content)).status_code == status
            other = await client.post("/products/", content=b"x" * 2000)
            assert other.status_code == 413
        assert len(await stored(database)) == (500 if status == 200 else 0)


async def test_too_many_imports_at_once_are_told_to_come_later(
    alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slots in ("uploads", "imports"):
        limited = getattr(app.state.transfer_slots, slots)
        with monkeypatch.context() as patch:
            for free, status in ((1, 200), (0, 503)):
                patch.setattr(limited, "free", free)
                answer = await send(alice, HEAD)
                assert answer.status_code == status, slots
                assert limited.free == free
        assert int(answer.headers["retry-after"]) > 0


async def test_upload_waits_in_no_place_of_an_import(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient
) -> None:
    """Of one user there may be two at once, whatever happens to them; others are not kept."""
    are_coming, are_sent = asyncio.Barrier(3), asyncio.Event()

    async def trickling() -> AsyncIterator[bytes]:
        yield HEAD.encode()
        await are_coming.wait()
        await are_sent.wait()
        yield b"A-1,a,1\r\n"

    trickles = [asyncio.create_task(send(alice, trickling())) for _ in range(2)]
    await are_coming.wait()
    refused = await send(alice, HEAD)
    assert (refused.status_code, refused.json()["detail"][:6]) == (503, "Upload")
    assert facts(await send(bob, HEAD + "B-1,b,1\r\n")) == NOTHING | {"created": 1}
    are_sent.set()
    statuses = [answer.status_code for answer in await asyncio.gather(*trickles)]
    assert 200 in statuses
    assert set(statuses) <= {200, 503}  # one import at once, if they meet
    assert not app.state.transfer_slots.uploads.held
    assert not app.state.transfer_slots.imports.held


async def test_full_disk_is_told_and_holds_nothing(
    alice: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, description = "sku,name,price,description\r\n", "x" * 10_000
    text = head + "".join(f"S-{n},Name,1,{description}\r\n" for n in range(110))
    assert len(text) > transfers._PIECE_BYTES
    # As a disk is that has nothing left for others.
    monkeypatch.setattr(transfers, "_DISK_RESERVE_BYTES", 2**62)
    monkeypatch.setattr(transfers, "_DISK_SHARE", 1)
    answer = await send(alice, text)
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("Room for files on disk")
    assert await stored(database) == []
    assert not app.state.transfer_slots.uploads.held
    monkeypatch.undo()
    assert facts(await send(alice, text)) == NOTHING | {"created": 110}


LOSSES: list[tuple[dict[str, Any], int]] = [
    ({"is_active": False}, 401),
    ({"is_superuser": False}, 403),
    ({"full_name": "New"}, 200),  # the control
]


async def begin_again(database: Database) -> None:
    """There are no products, and alice has all rights that she is to lose."""
    async with database.transaction() as db:
        await db.execute(delete(Product))
    await change_alice(database, is_active=True, is_superuser=True)


async def test_rights_lost_while_the_file_comes_are_lost_for_the_import(
    alice: httpx2.AsyncClient, database: Database
) -> None:
    async def uploading(values: dict[str, Any]) -> AsyncIterator[bytes]:
        yield (HEAD + "A-1,a,1\r\n").encode()
        await change_alice(database, **values)
        yield b"A-2,a,1\r\n"

    for (values, status), mode in product(LOSSES, ("all", "skip")):
        await begin_again(database)
        answer = await send(alice, uploading(values), mode=mode)
        assert answer.status_code == status, (values, mode)
        assert len(await stored(database)) == (2 if status == 200 else 0)
        assert not app.state.transfer_slots.uploads.held


async def test_rights_lost_between_batches_stop_the_import(
    alice: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    database: Database,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 100)
    values: dict[str, Any] = {}
    run, batches = Upsert.run, 0

    async def run_and_lose(*arguments: Any, **options: Any) -> Upserted:
        nonlocal batches
        batches += 1
        done = await run(*arguments, **options)
        if batches == 2:
            # SQLite lets nobody write in between: it is seen by the transaction that does it.
            if engine == "sqlite":
                await arguments[1].execute(update(User).where(User.id == ALICE.id).values(values))
            else:
                path = f"/users/{ALICE.id}"
                assert (await admin.patch(path, json=values)).status_code == 200
        return done

    monkeypatch.setattr(Upsert, "run", run_and_lose)
    text = HEAD + "".join(f"S-{n},Name,1\r\n" for n in range(350))
    for loss, mode in product(LOSSES, ("all", "skip")):
        values, status = loss
        batches = 0
        await begin_again(database)
        answer = await send(alice, text, mode=mode)
        assert answer.status_code == status, (values, mode)
        kept = len(await stored(database))
        if status == 200:
            assert kept == 350
        elif mode == "all":
            assert kept == 0
        else:
            assert kept == answer.json()["created"] == 100
            assert "100 rows had been written" in answer.json()["detail"]
            assert batches == 2


async def change_alice(database: Database, **values: Any) -> None:
    async with database.transaction() as db:
        await db.execute(update(User).where(User.id == ALICE.id).values(values))


async def test_others_are_served_between_lines_that_are_empty_too(
    alice: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_SLICE_SECONDS", 0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    serving = asyncio.create_task(others())
    empty = {"text/csv": HEAD + "\r\n" * 2000, "application/jsonl": "\n" * 2000}
    for media_type, text in empty.items():
        turns = 0
        assert facts(await send(alice, text, media_type)) == NOTHING
        assert turns >= 2000, media_type
    serving.cancel()


@pytest.mark.parametrize("setting", ["BODY_PIECE_TIMEOUT_SECONDS", "IMPORT_BODY_TIMEOUT_SECONDS"])
async def test_body_that_stalls_is_not_waited_for(
    alice: httpx2.AsyncClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield (HEAD + "A-1,a,1\r\n").encode()
        await asyncio.sleep(0.3)
        yield b"A-2,a,1\r\n"

    for seconds, status in ((0.1, 408), (5, 200)):
        monkeypatch.setattr(settings, setting, seconds)
        app = create_app()
        app.state.database = database
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(
            transport=transport, base_url=alice.base_url, headers=alice.headers
        ) as client:
            assert (await send(client, stalling())).status_code == status
        assert len(await stored(database)) == (2 if status == 200 else 0)


async def test_body_that_ends_too_early_keeps_nothing(database: Database) -> None:
    sent: list[Any] = []
    messages = iter(
        [
            {"type": "http.request", "body": (HEAD + "A-1,a,1\r\n").encode(), "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send_nowhere(message: Any) -> None:
        sent.append(message)

    headers = {"host": "testserver", "content-type": "text/csv"} | ALICE.headers
    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/products/import", "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "scheme": "http", "http_version": "1.1", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "raw_path": b"",
    }  # fmt: skip
    free = app.state.transfer_slots.imports.free
    await app(scope, receive, send_nowhere)
    assert sent[0]["status"] == 400
    assert app.state.transfer_slots.imports.free == free
    assert await stored(database) == []


async def test_threads_take_turns_while_files_are_checked(
    alice: httpx2.AsyncClient, bob: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the server's own thread would wait for the interpreter until a file is checked."""
    usual = sys.getswitchinterval()
    seen: list[float] = []
    read = files.READERS["csv"]

    def reading(*arguments: Any) -> Iterator[Any]:
        for record in read(*arguments):
            seen.append(sys.getswitchinterval())
            yield record

    readers = {**files.READERS, "csv": reading}
    monkeypatch.setattr("timberframe.bulk.imports.READERS", readers)
    long, short = (HEAD + "".join(f"S-{n},a,1\r\n" for n in range(count)) for count in (2000, 1))
    await asyncio.gather(send(alice, long), send(bob, short.replace("S-", "B-")))
    assert seen
    assert max(seen) < imports._SLICE_SECONDS < usual
    assert sys.getswitchinterval() == usual
