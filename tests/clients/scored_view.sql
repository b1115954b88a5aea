CREATE VIEW loans_with_risk AS
SELECT l.*, risk_score('loan_risk', l) AS risk FROM loans l;
