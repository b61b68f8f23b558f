//! Rules of the operator's own.

use super::*;

const ROW: &str = r#"
[[reply]]
provider = "ourrelay"
phase = "data"
code = 554
text_fragment = "Blue Moon"
class = "rate_limited"
scope = "channel"
permanence = "temporary"
action = "pause_channel_until"
retry_after = 60
"#;

fn refused(from: &str, to: &str) -> String {
    let changed = ROW.replace(from, to);
    assert_ne!(changed, ROW);
    Rules::with_operator(&changed).unwrap_err().to_string()
}

#[test]
fn an_operators_row_goes_before_the_built_in_ones() {
    let rules = Rules::with_operator(&ROW.replace("ourrelay", "*")).unwrap();
    let judgement = rules.classify(&["gmail"], Phase::Data, &said("552 5.7.0 potential security issue, once in a blue  moon"));
    let rule = judgement.rule.unwrap();
    assert!(rule.operator && rule.row == 1 && judgement.action == Action::PauseChannelUntil);
    let built_in = rules.classify(&["gmail"], Phase::Data, &said("552 5.7.0 potential security issue"));
    assert_eq!(built_in.action, Action::BounceMessage);
}

#[test]
fn an_operators_row_makes_its_provider_known() {
    let rules = Rules::with_operator(ROW).unwrap();
    assert!(rules.knows("ourrelay") && rules.knows("gmail"));
    assert!(!Rules::builtin().knows("ourrelay"));
    let companions = format!("order = [{{ provider = \"ourrelay\", then = [\"postfix\"] }}]\n{ROW}");
    assert_eq!(Rules::with_operator(&companions).unwrap().order(Some("ourrelay")), ["ourrelay", "postfix"]);
}

#[test]
fn a_word_that_is_not_known_is_refused_with_the_known_ones() {
    let error = refused("rate_limited", "rate_limit");
    assert!(error.contains("rate_limit") && error.contains("rate_limited") && error.contains("line 7"), "{error}");
    assert!(refused("text_fragment", "text_fragmant").contains("text_fragmant"));
    assert!(refused("provider = \"ourrelay\"\n", "").contains("provider"));
}

#[test]
fn an_action_that_does_not_go_with_its_scope_is_refused() {
    let error = refused("pause_channel_until", "bounce_message");
    assert!(error.contains("reply 1") && error.contains("ourrelay") && error.contains("needs: message"), "{error}");
    assert!(refused("554", "250").contains("300 to 599"));
    assert!(refused("code = 554", "code = 554\nenhanced = \"5.7\"").contains("5.7.1"));
    assert!(refused("[[reply]]", "schema = 2\n[[reply]]").contains("schema = 1"));
}

#[test]
fn a_wait_of_more_than_31_days_is_refused() {
    for seconds in ["2678401", "9223372036854775807"] {
        let error = refused("retry_after = 60", &format!("retry_after = {seconds}"));
        assert!(error.contains(seconds) && error.contains("31 days"), "{error}");
    }
    assert!(Rules::with_operator(&ROW.replace("retry_after = 60", "retry_after = 2678400")).is_ok());
}

#[test]
fn a_row_before_mail_cannot_be_about_a_message() {
    let row =
        ROW.replace("\"data\"", "\"auth\"").replace("\"channel\"", "\"message\"").replace("pause_channel_until", "retry_later");
    let error = Rules::with_operator(&row).unwrap_err().to_string();
    assert!(error.contains("nothing before MAIL"), "{error}");
}
