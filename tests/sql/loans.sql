-- US small-business loans (SBA 7(a), approved 1999-2007, public domain): tests/data/sba_loans.csv.gz
CREATE TABLE loans (
    loan_id bigint PRIMARY KEY,
    borrower text,
    city text,
    state text,
    zip text,
    bank text,
    bank_state text,
    naics text,
    approved_on date,
    fiscal_year integer,
    employees integer,
    new_business boolean,
    jobs_created integer,
    jobs_retained integer,
    franchise_code integer,
    urban_rural text,
    revolving boolean,
    low_doc boolean,
    disbursed numeric,
    approved_gross numeric,
    sba_guaranteed numeric,
    defaulted boolean
);
COMMENT ON TABLE loans IS 'US small-business loans; defaulted: charged off by the bank';
