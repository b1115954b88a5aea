"""riskft through psycopg 3: each way of asking gives the same bits and the same errors.

Run as `psycopg_client.py refusals.txt`; PGHOST, PGUSER and so on say where the server is.
"""

import asyncio
import threading

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from told import refusals, scores, tell

ALL = "SELECT risk_score('loan_risk', l) FROM loans l ORDER BY loan_id"
ANY = "SELECT risk_score(%s, l) FROM loans l ORDER BY loan_id"
TRAIN = """
    CALL riskft_train(%s, 'loans', 'defaulted', exclude => '{loan_id,disbursed}',
                      method => 'none', options => %s, wait => %s)
"""
LONG = Jsonb({"head_epochs": 1000, "patience": 1000, "hidden": 512, "members": 8})
QUICK = Jsonb({"head_epochs": 2, "members": 1, "hidden": 16, "gate": {"auc_loss": 1, "flips": 1}})


def first_column(cursor):
    return [row[0] for row in cursor]


def ways_of_asking(db):
    with db.cursor() as cursor:
        cursor.execute(ALL)  # the simple protocol
        told_type = cursor.description[0].type_code
        scores("simple", first_column(cursor), type=told_type)
        for case, prepare in (("extended", False), ("prepared", True)):
            for _ in range(2):  # the second time, the prepared plan is used again
                cursor.execute(ANY, ["loan_risk"], prepare=prepare)
            scores(case, first_column(cursor), type=cursor.description[0].type_code)
        cursor.execute(ANY, ["loan_risk"], binary=True)
        scores("binary", first_column(cursor))
        scores("streamed", [row[0] for row in cursor.stream(ANY, ["loan_risk"])])
        cursor.execute("EXPLAIN " + ANY, ["loan_risk"])
        tell("explain", plan=first_column(cursor))

    with db.transaction(), db.cursor(name="risks") as cursor:  # a cursor in the server
        cursor.itersize = 37
        cursor.execute(ANY, ["loan_risk"])
        scores("server cursor", first_column(cursor))
    with db.transaction(), db.cursor(name="binary_risks", binary=True) as cursor:
        cursor.execute(ANY, ["loan_risk"])
        scores("binary server cursor", first_column(cursor))

    with db.pipeline(), db.cursor() as first, db.cursor() as second:
        first.execute(ANY, ["loan_risk"])
        second.execute(ANY, ["loan_risk@1"])
        scores("pipeline", first_column(first))
        scores("pipeline, pinned version", first_column(second))

    with db.cursor() as cursor:
        with cursor.copy(f"COPY ({ALL}) TO STDOUT") as copied:
            scores("copy", [float(row[0]) for row in copied.rows()])
        with cursor.copy(f"COPY ({ALL}) TO STDOUT (FORMAT binary)") as copied:
            copied.set_types(["float8"])
            scores("binary copy", [row[0] for row in copied.rows()])


def rows_of_the_client(db):
    """Rows that no table holds: as JSON, and as the text of a row."""
    loans = db.execute("SELECT to_jsonb(l), l::text FROM loans l ORDER BY loan_id").fetchall()
    with db.cursor() as cursor:
        risks, written = [], []
        for features, row in loans:
            cursor.execute("SELECT risk_score_json(%s, %s)", ["loan_risk", Jsonb(features)])
            risks.append(cursor.fetchone()[0])
            cursor.execute("SELECT risk_score(%s, %s::loans)", ["loan_risk", row])
            written.append(cursor.fetchone()[0])
    scores("json", risks)
    scores("row as text", written)


async def asynchronous():
    async with await psycopg.AsyncConnection.connect() as db:
        cursor = await db.execute(ANY, ["loan_risk"])
        scores("asynchronous", [row[0] for row in await cursor.fetchall()])


def probes(db):
    for case, sql in (
        ("probe limit 0", f"{ALL} LIMIT 0"),
        ("probe where 1=0", f"SELECT * FROM ({ALL}) q(risk) WHERE 1=0"),
    ):
        cursor = db.execute(sql)
        tell(case, type=cursor.description[0].type_code, rows=len(cursor.fetchall()))
    written = db.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()[0]
    tell("nothing written", xid=written)
    db.rollback()


def refused(db, case, number, ask):
    try:
        ask()
        tell(case, refusal=number, sqlstate=None)
    except psycopg.Error as error:
        told = error.diag
        db.rollback()
        usable = db.execute("SELECT 1").fetchone() == (1,)
        db.rollback()
        tell(case, refusal=number, sqlstate=error.sqlstate, message=told.message_primary,
             detail=told.message_detail, hint=told.message_hint, usable=usable)


def errors(db):
    for number, sql in enumerate(refusals()):
        refused(db, "refused, simple", number, lambda: db.execute(sql))
        refused(db, "refused, prepared", number, lambda: db.execute(sql, prepare=True))
        refused(db, "refused, pipeline", number, lambda: in_pipeline(db, sql))
        in_savepoint(db, number, sql)
    with psycopg.connect(autocommit=True) as alone:
        for number, sql in enumerate(refusals()):
            refused(alone, "refused, autocommit", number, lambda: alone.execute(sql))


def in_pipeline(db, sql):
    with db.pipeline():
        db.execute(sql)


def in_savepoint(db, number, sql):
    """The transaction goes on after a refusal within a savepoint."""
    with db.transaction():
        db.execute("CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT 7 AS seven")
        try:
            with db.transaction():
                db.execute(sql)
            tell("refused, savepoint", refusal=number, sqlstate=None)
        except psycopg.Error as error:
            usable = db.execute("SELECT seven FROM kept").fetchone() == (7,)
            tell("refused, savepoint", refusal=number, sqlstate=error.sqlstate,
                 message=error.diag.message_primary, detail=error.diag.message_detail,
                 hint=error.diag.message_hint, usable=usable)


def training():
    with psycopg.connect(row_factory=dict_row) as db:
        notices = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        trained = db.execute(TRAIN, ["by_psycopg", QUICK, True]).fetchone()
        tell("training", notices=len(notices), **trained)
        db.rollback()
        left = db.execute("SELECT count(*) AS n FROM riskft.models WHERE model = 'by_psycopg'")
        tell("rolled back", models=left.fetchone()["n"])


def cancelled():
    """Another thread cancels the training as soon as the first NOTICE has come."""
    with psycopg.connect() as db:
        under_way = threading.Event()
        db.add_notice_handler(lambda notice: under_way.set())

        def cancel():
            under_way.wait(60)
            db.cancel_safe()

        thread = threading.Thread(target=cancel)
        thread.start()
        refused(db, "cancelled", None, lambda: db.execute(TRAIN, ["by_psycopg", LONG, True]))
        thread.join()


def queued():
    """A queued training starts at COMMIT: psycopg has opened a transaction by itself."""
    with psycopg.connect(row_factory=dict_row) as db:
        notices = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        run = db.execute(TRAIN, ["by_psycopg", QUICK, False]).fetchone()["run"]
        too_early = None
        try:
            with db.transaction():
                db.execute("SELECT riskft_wait(%s, '1 second')", [run])
        except psycopg.Error as error:
            too_early = error.sqlstate
        with psycopg.connect() as other:
            seen = other.execute("SELECT count(*) FROM riskft.runs WHERE run = %s", [run])
            before = seen.fetchone()[0]
        db.commit()
        state = db.execute("SELECT riskft_wait(%s, '2 minutes') AS state", [run]).fetchone()
        tell("queued", notices=notices, too_early=too_early, before=before, **state)


def main():
    with psycopg.connect() as db:
        ways_of_asking(db)
        rows_of_the_client(db)
        db.rollback()
        probes(db)
        errors(db)
    asyncio.run(asynchronous())
    training()
    cancelled()
    queued()


main()
