//! What a client's program printed, against what was expected.

use std::process::Command;

use serde_json::Value;

use crate::stage::Stage;

/// One JSON object for each case.
pub struct Report {
    program: String,
    cases: Vec<Value>,
}

impl Report {
    /// Runs the program; panics with its output when it fails.
    pub fn of(command: &mut Command) -> Self {
        let program = format!("{:?}", command.get_program());
        let output = command.output().unwrap_or_else(|e| panic!("{program}: {e}"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{program}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            text.lines().last().unwrap_or_default()
        );
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        Report { cases: text.lines().map(parse).collect(), program }
    }

    /// The only case of this name.
    pub fn case(&self, name: &str) -> &Value {
        let mut found = self.cases.iter().filter(|case| case["case"] == name);
        let case = found.next().unwrap_or_else(|| panic!("{}: no case \"{name}\"", self.program));
        assert!(found.next().is_none(), "{}: two cases \"{name}\"", self.program);
        case
    }

    /// Cases with scores: as many as expected, and all with the expected bits and type.
    pub fn check_scores(&self, stage: &Stage, expected: usize, types: &[Value]) {
        let expected_bits = Value::from(stage.bits.clone());
        let mut seen = 0;
        for case in self.cases.iter().filter(|case| !case["bits"].is_null()) {
            assert!(case["bits"] == expected_bits, "{}: other bits", case["case"]);
            let told = &case["type"];
            assert!(told.is_null() || types.contains(told), "{}: type {told}", case["case"]);
            seen += 1;
        }
        assert_eq!(seen, expected, "{}: ways of asking", self.program);
    }

    /// Cases of refused statements: each statement in each of the ways gave the server's SQLSTATE,
    /// message, detail and hint, and the connection goes on.
    pub fn check_refusals(&self, stage: &Stage, ways: usize) {
        let mut seen = 0;
        for case in self.cases.iter().filter(|case| !case["refusal"].is_null()) {
            let number = case["refusal"].as_u64().and_then(|n| usize::try_from(n).ok());
            let expected = &stage.refusals[number.expect("a number")];
            assert_eq!(case["sqlstate"], expected.code().code(), "{case}");
            assert_eq!(case["message"], expected.message(), "{case}");
            assert_eq!(case["detail"].as_str(), expected.detail(), "{case}");
            assert_eq!(case["hint"].as_str(), expected.hint(), "{case}");
            assert_eq!(case["usable"], true, "{case}");
            seen += 1;
        }
        assert_eq!(seen, ways * stage.refusals.len(), "{}: refusals", self.program);
    }

    /// A probe of a BI tool: the type is known, there is no row.
    pub fn check_probe(&self, name: &str, told_type: &Value) {
        assert_eq!(&self.case(name)["type"], told_type, "{name}");
        assert_eq!(self.case(name)["rows"], 0, "{name}");
    }

    /// A training that the program cancelled, from a connection that goes on.
    pub fn check_cancelled(&self) {
        let case = self.case("cancelled");
        assert_eq!(case["sqlstate"], "57014", "{case}");
        assert_eq!(case["usable"], true, "{case}");
    }

    /// A run that the program queued with autocommit off: refused to be waited for before COMMIT,
    /// seen by nobody until then, and done afterwards.
    pub fn check_queued(&self) {
        let case = self.case("queued");
        let notice = case["notices"][0].as_str().unwrap_or_default();
        assert!(notice.ends_with("is queued; it starts when this transaction commits"), "{case}");
        assert_eq!(case["too_early"], "55000", "{case}");
        assert_eq!(case["before"], 0, "{case}");
        assert_eq!(case["state"], "done", "{case}");
    }
}
