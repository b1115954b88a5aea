-- Consumer complaints about loans (CFPB, 2023, public domain): tests/data/cfpb_complaints.csv.gz
CREATE TABLE complaints (
    complaint_id bigint PRIMARY KEY,
    received_on date,
    sub_product text,
    issue text,
    sub_issue text,
    company text,
    state text,
    zip text,
    tags text,
    narrative text,
    sent_on date,
    company_response text,
    timely text,
    fee_issue boolean,
    relief boolean
);
COMMENT ON TABLE complaints IS 'Consumer complaints about loans; fee_issue: about unexpected fees or interest';
