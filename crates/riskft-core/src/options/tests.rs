use super::*;
use serde_json::json;

#[test]
fn null_and_empty_are_the_defaults() {
    assert_eq!(Options::parse(&Value::Null), Ok(Options::default()));
    assert_eq!(Options::parse(&json!({})), Ok(Options::default()));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let refusal = Options::parse(&json!({"rnak": 8})).unwrap_err();
    assert_eq!(refusal.code, code::INVALID_PARAMETER);
    assert!(refusal.detail.contains("rnak"));
    assert!(refusal.hint.contains("\"rank\""));
    let refusal = Options::parse(&json!({"gate": {"flip": 1}})).unwrap_err();
    assert!(refusal.hint.contains("\"gate.flips\""));
}

#[test]
fn every_kind_of_bad_value_is_refused() {
    for bad in [
        json!([]),
        json!("x"),
        json!({"rank": 0}),
        json!({"rank": -1}),
        json!({"rank": "16"}),
        json!({"rank": 1.5}),
        json!({"dropout": 1}),
        json!({"text": "words"}),
        json!({"split": {"train": 0.9}}),
        json!({"split": 3}),
        json!({"roles": {"a": "colour"}}),
        json!({"gate": {"flips": 2}}),
        json!({"gate": [1, 1, 1, 1]}),
        json!({"deploy": {"always": null}}),
        json!({"roles": {"a": {"text": null}}}),
        json!({"search": {"keep_on_cancel": "yes"}}),
        json!({"trees": {"categories": "all"}}),
        json!({"explain": {"background": 0}}),
        json!({"select": {"shap": -1}}),
        json!({"select": {"shap": 1e6}}),
        json!({"select": 20}),
        json!({"reduce": {"pca": -1}}),
        json!({"reduce": {"pca": 1.5}}),
        json!({"reduce": {"pca": 1e300}}),
        json!({"reduce": {"pca": "50"}}),
        json!({"reduce": {"pca": true}}),
        json!({"reduce": {"pcs": 50}}),
        json!({"reduce": 50}),
        json!({"reduce": {"pca": 50}, "text": "row"}),
        json!({"explain": {"background": 65}}),
        json!({"explain": {"rows": 4097}}),
        json!({"explain": {"words": true}}),
    ] {
        let refusal = Options::parse(&bad).expect_err(&bad.to_string());
        assert_eq!(refusal.code, code::INVALID_PARAMETER, "{bad}");
        let named = bad.as_object().and_then(|map| map.keys().next());
        assert!(named.is_none_or(|name| refusal.detail.contains(name)), "{refusal:?}");
    }
}

#[test]
fn roles_take_any_column_name() {
    let options = Options::parse(&json!({"roles": {"My Col": "category"}})).unwrap();
    assert_eq!(options.roles["My Col"], Role::Category);
}

#[test]
fn options_change_and_tell_their_values() {
    let base = Options::parse(&json!({"rank": 8, "trees": {"rounds": 50}})).unwrap();
    let changes = json!({"hidden": 64, "trees": {"leaves": 15, "categories": "native"}});
    let changed = base.with(changes.as_object().unwrap()).unwrap();
    assert_eq!((changed.rank, changed.hidden), (8, 64));
    assert_eq!((changed.trees.rounds, changed.trees.leaves), (50, 15));
    assert_eq!(changed.value("trees.leaves"), Some(json!(15)));
    assert_eq!(changed.value("trees.categories"), Some(json!("native")));
    assert_eq!(changed.value("rank"), Some(json!(8)));
    assert_eq!(changed.value("trees.height"), None);
    let bad = json!({"trees": {"columns": 0}});
    let refusal = base.with(bad.as_object().unwrap()).unwrap_err();
    assert!(refusal.detail.contains("trees.columns"), "{refusal:?}");
}
