"""riskft through SQLAlchemy 2, over psycopg 3 and over psycopg2.

Run as `sqlalchemy_client.py refusals.txt`; PGHOST, PGUSER and so on say where the server is.
"""

from sqlalchemy import Double, MetaData, Table, bindparam, create_engine, func, literal_column
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, aliased, column_property

from told import bits, refusals, scores, tell


def risk(model, row):
    """risk_score as an expression: `row` is a whole row, as table_valued() gives it."""
    return func.risk_score(model, row, type_=Double)


def core(db, loans, driver):
    found = db.execute(text("SELECT risk_score(:model, l) FROM loans l ORDER BY loan_id"),
                       {"model": "loan_risk"})
    told_type = found.cursor.description[0][1]
    scores(f"{driver}, text", found.scalars(), type=told_type)

    query = select(risk("loan_risk", loans.table_valued())).order_by(loans.c.loan_id)
    scores(f"{driver}, table", db.scalars(query))

    l = loans.alias("l")
    query = select(risk("loan_risk", l.table_valued())).order_by(l.c.loan_id)
    scores(f"{driver}, alias", db.scalars(query))
    query = select(risk("loan_risk", literal_column("l"))).select_from(l).order_by(l.c.loan_id)
    scores(f"{driver}, literal column", db.scalars(query))

    # Any row that has the model's columns will do: here, that of a subquery.
    wanted = select(loans).where(loans.c.loan_id > 0).subquery("wanted")
    query = select(risk("loan_risk", wanted.table_valued())).order_by(wanted.c.loan_id)
    scores(f"{driver}, subquery", db.scalars(query))

    streamed = db.execution_options(stream_results=True, yield_per=41)
    query = select(risk("loan_risk", loans.table_valued())).order_by(loans.c.loan_id)
    scores(f"{driver}, server cursor", streamed.scalars(query))
    probe = db.execute(query.limit(0))
    tell(f"{driver}, probe limit 0", type=probe.cursor.description[0][1], rows=len(probe.all()))


def orm(engine, loans, driver):
    class Base(DeclarativeBase):
        metadata = loans.metadata

    class Loan(Base):
        __table__ = loans
        __mapper_args__ = {"primary_key": [loans.c.loan_id]}
        risk = column_property(risk("loan_risk", loans.table_valued()), deferred=True)

    with Session(engine) as session:
        query = select(risk("loan_risk", Loan.__table__.table_valued())).order_by(Loan.loan_id)
        scores(f"{driver}, mapped class", session.scalars(query))
        scores(f"{driver}, mapped property", session.scalars(select(Loan.risk).order_by(Loan.loan_id)))
        likely = session.scalars(select(Loan).where(Loan.risk > 0.3).order_by(Loan.loan_id))
        tell(f"{driver}, filtered", risks=[bits(loan.risk) for loan in likely])


def refused(driver, number, error, usable):
    told = error.orig.diag
    tell(f"{driver}, refused", refusal=number, sqlstate=told.sqlstate, usable=usable,
         message=told.message_primary, detail=told.message_detail, hint=told.message_hint)


def errors(engine, driver):
    """In a savepoint: the transaction around it goes on."""
    with engine.begin() as db:
        db.execute(text("CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT 7 AS seven"))
        for number, sql in enumerate(refusals()):
            try:
                with db.begin_nested():
                    db.execute(text(sql))
                tell(f"{driver}, refused", refusal=number, sqlstate=None)
            except DBAPIError as error:
                seven = db.scalar(text("SELECT seven FROM kept"))
                refused(driver, number, error, seven == 7)


def queued(engine, driver):
    """A queued training starts at COMMIT: SQLAlchemy has opened a transaction by itself."""
    train = text("""
        CALL riskft_train(:model, 'loans', 'defaulted', exclude => '{loan_id,disbursed}',
                          method => 'none', options => :options, wait => false)
    """).bindparams(bindparam("options", type_=JSONB))
    quick = {"head_epochs": 2, "members": 1, "hidden": 16, "gate": {"auc_loss": 1, "flips": 1}}
    with engine.connect() as db:
        run = db.execute(train, {"model": f"by_{driver}", "options": quick}).one().run
        with engine.connect() as other:
            seen = text("SELECT count(*) FROM riskft.runs WHERE run = :run")
            before = other.scalar(seen, {"run": run})
        db.commit()
        state = db.scalar(text("SELECT riskft_wait(:run, '2 minutes')"), {"run": run})
        tell(f"{driver}, queued", before=before, state=state)


def main():
    for driver in ("psycopg", "psycopg2"):
        engine = create_engine(f"postgresql+{driver}://")
        loans = Table("loans", MetaData(), autoload_with=engine)
        with engine.connect() as db:
            core(db, loans, driver)
        orm(engine, loans, driver)
        errors(engine, driver)
        queued(engine, driver)
        engine.dispose()


main()
