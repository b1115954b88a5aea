"""The columns that the peers see: what a careful user would make of each table.

Each function takes the rows as text and gives two frames: numbers (float64, NaN for missing) and
categories (strings, "" for missing). Nothing here looks at a target or at other rows.
"""

import numpy as np
import pandas as pd


def features(experiment, rows):
    """Numbers and categories of the rows, without the columns that the experiment excludes."""
    rows = rows.drop(columns=[*experiment["exclude"], experiment["target"]], errors="ignore")
    make = {"loans": loans, "complaints": complaints, "german": german, "cards": cards}
    numbers, categories = make[experiment["table"]](rows)
    return pd.DataFrame(numbers), pd.DataFrame(categories)


def number(column):
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)


def ratio(above, below):
    """Of amounts; a denominator under 1 counts as 1."""
    return above / np.maximum(below, 1)


def date(column, form):
    """Days since 1970, year, month and weekday."""
    when = pd.to_datetime(column, format=form)
    days = (when - pd.Timestamp("1970-01-01")).dt.days
    return days, when.dt.year, when.dt.month, when.dt.dayofweek


def loans(rows):
    plain = ["employees", "jobs_created", "jobs_retained", "approved_gross", "sba_guaranteed",
             "fiscal_year"]
    x = {name: number(rows[name]) for name in plain}
    jobs = x["jobs_created"] + x["jobs_retained"]
    x |= {
        "guaranteed_share": ratio(x["sba_guaranteed"], x["approved_gross"]),
        "not_guaranteed": x["approved_gross"] - x["sba_guaranteed"],
        "gross_per_employee": ratio(x["approved_gross"], x["employees"]),
        "guaranteed_per_employee": ratio(x["sba_guaranteed"], x["employees"]),
        "gross_per_job": ratio(x["approved_gross"], jobs),
        "jobs_per_employee": ratio(jobs, x["employees"]),
        "same_state": (rows["state"] == rows["bank_state"]).to_numpy(dtype=float),
        "zip": number(rows["zip"]),
        "naics": number(rows["naics"]),
    }
    days = date(rows["approved_on"], "%Y-%m-%d")
    x |= dict(zip(["days", "year", "month", "weekday"], days))
    c = {name: rows[name] for name in [
        "city", "state", "bank", "bank_state", "new_business", "franchise_code", "urban_rural",
        "revolving", "low_doc"]}
    c |= {"zip3": rows["zip"].str[:3]}
    c |= {f"naics{digits}": rows["naics"].str[:digits] for digits in (2, 4, 6)}
    return x, c


def complaints(rows):
    received, _, month, weekday = date(rows["received_on"], "%m/%d/%y")
    sent = date(rows["sent_on"], "%m/%d/%y")[0]
    x = {"received": received, "month": month, "weekday": weekday, "days_to_send": sent - received,
         "length": rows["narrative"].str.len()}
    left = ["received_on", "sent_on", "narrative", "zip"]
    c = {name: rows[name] for name in rows.columns if name not in left}
    return x, c | {"zip3": rows["zip"].str[:3]}


def german(rows):
    plain = ["duration_in_month", "credit_amount", "age_in_years",
             "installment_rate_in_percentage_of_disposable_income", "present_residence_since",
             "number_of_existing_credits_at_this_bank",
             "number_of_people_being_liable_to_provide_maintenance_for"]
    x = {name: number(rows[name]) for name in plain}
    x["amount_per_month"] = ratio(x["credit_amount"], x["duration_in_month"])
    return x, {name: rows[name] for name in rows.columns if name not in plain}


def cards(rows):
    x = {name: number(rows[name]) for name in ["limit_bal", "bill_amt1", "education"]}
    x["used_share"] = ratio(x["bill_amt1"], x["limit_bal"])
    x["unused"] = x["limit_bal"] - x["bill_amt1"]
    return x, {"education_code": rows["education"], "marriage": rows["marriage"]}
