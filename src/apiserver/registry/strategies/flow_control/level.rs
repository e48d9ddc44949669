//! Priority levels: how many seats a level has, and whether its requests wait.

use api::FieldError;
use api::json::{number, text};
use api::validation::{Faults, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::objects::fixed_level;
use super::{conditions, validate_status};
use crate::printers;
use crate::registry::strategies::rules::{one_of, same};
use crate::strategy::{Cell, Column, RequestContext, Strategy};

const EXEMPT: &str = "Exempt";
const TYPES: [&str; 2] = [EXEMPT, "Limited"];
const RESPONSES: [&str; 2] = ["Queue", "Reject"];
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals queues to a flow.
const MAX_HASH_BITS: f64 = 60.0;

pub(in super::super) struct PriorityLevels;

fn validate(tree: &Value) -> Faults {
    let mut faults = Faults::new();
    let (name, spec) = (text(tree, "metadata.name"), &tree["spec"]);
    let at = Path::new("spec");
    let kind = text(spec, "type");
    if (name == "exempt") != (kind == EXEMPT) {
        let message = "must be 'Exempt' if and only if `name` is 'exempt'";
        faults.push(FieldError::invalid(at.child("type"), kind, message));
    }
    let (limited, exempt) = (&spec["limited"], &spec["exempt"]);
    match kind {
        EXEMPT => {
            if !limited.is_null() {
                let message = "must be nil if the type is not Limited";
                faults.push(FieldError::forbidden(at.child("limited"), message));
            }
            shares(exempt, &at.child("exempt"), &mut faults);
        }
        "Limited" => {
            if !exempt.is_null() {
                let message = "must be nil if the type is Limited";
                faults.push(FieldError::forbidden(at.child("exempt"), message));
            }
            let at = at.child("limited");
            if limited.is_null() {
                faults.push(FieldError::required(at, "must not be empty when type is Limited"));
            } else {
                validate_limited(limited, &at, &mut faults);
            }
        }
        other => one_of(&mut faults, &at.child("type"), other, &TYPES),
    }
    fixed(name, spec, &at, &mut faults);
    conditions(tree, &mut faults);
    faults
}

fn fixed(name: &str, spec: &Value, at: &Path<'_>, faults: &mut Faults) {
    let Some(mut want) = fixed_level(name) else { return };
    let (mut have, mut what) = (spec.clone(), "");
    if name == "exempt" {
        // How many seats it lends is for administrators to say.
        for tree in [&mut want, &mut have] {
            tree["exempt"] = Value::Null;
        }
        what = " except the 'spec.exempt' field";
    }
    if !same(&have, &want) {
        let message = format!("spec of '{name}'{what} must equal the fixed value");
        faults.push(FieldError::invalid(at, spec, message));
    }
}

fn shares(level: &Value, at: &Path<'_>, faults: &mut Faults) {
    let count = number(level, "nominalConcurrencyShares");
    if count < 0 {
        let message = "must be a non-negative integer";
        faults.push(FieldError::invalid(at.child("nominalConcurrencyShares"), count, message));
    }
    lendable(level, at, faults);
}

fn lendable(level: &Value, at: &Path<'_>, faults: &mut Faults) {
    let percent = number(level, "lendablePercent");
    if !(0..=100).contains(&percent) {
        let message = "must be between 0 and 100, inclusive";
        faults.push(FieldError::invalid(at.child("lendablePercent"), percent, message));
    }
}

fn validate_limited(level: &Value, at: &Path<'_>, faults: &mut Faults) {
    let count = number(level, "nominalConcurrencyShares");
    if count < 0 {
        let message = "must be a non-negative integer";
        faults.push(FieldError::invalid(at.child("nominalConcurrencyShares"), count, message));
    }
    response(&level["limitResponse"], &at.child("limitResponse"), faults);
    lendable(level, at, faults);
    let borrowed = number(level, "borrowingLimitPercent");
    if borrowed < 0 {
        let message = "if specified, must be a non-negative integer";
        faults.push(FieldError::invalid(at.child("borrowingLimitPercent"), borrowed, message));
    }
}

fn response(response: &Value, at: &Path<'_>, faults: &mut Faults) {
    let (field, queuing) = (at.child("queuing"), &response["queuing"]);
    match (text(response, "type"), queuing.is_null()) {
        ("Reject", false) => {
            let message = "must be nil if limited.limitResponse.type is not Limited";
            faults.push(FieldError::forbidden(field, message));
        }
        ("Queue", true) => {
            let message = "must not be empty if limited.limitResponse.type is Limited";
            faults.push(FieldError::required(field, message));
        }
        ("Queue", false) => validate_queuing(queuing, &field, faults),
        (kind, _) => one_of(faults, &at.child("type"), kind, &RESPONSES),
    }
}

fn validate_queuing(queuing: &Value, at: &Path<'_>, faults: &mut Faults) {
    let of = |field| number(queuing, field);
    let (length, queues, hand) = (of("queueLengthLimit"), of("queues"), of("handSize"));
    if length <= 0 {
        faults.push(FieldError::invalid(at.child("queueLengthLimit"), length, "must be positive"));
    }
    if queues <= 0 {
        faults.push(FieldError::invalid(at.child("queues"), queues, "must be positive"));
    } else if queues > MAX_QUEUES {
        let message = format!("must not be greater than {MAX_QUEUES}");
        faults.push(FieldError::invalid(at.child("queues"), queues, message));
    }
    let field = at.child("handSize");
    if hand <= 0 {
        faults.push(FieldError::invalid(field, hand, "must be positive"));
    } else if hand > queues {
        let message = format!("should not be greater than queues ({queues})");
        faults.push(FieldError::invalid(field, hand, message));
    } else if entropy(queues, hand) > MAX_HASH_BITS {
        let message = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        faults.push(FieldError::invalid(field, hand, message));
    }
}

/// How many bits it takes to deal a hand.
fn entropy(deck: i64, hand: i64) -> f64 {
    // A hand of more than sixty cards is beyond any hash.
    let dealt = (0..hand.min(61)).map(|card| (deck - card).max(1));
    #[expect(clippy::cast_precision_loss, reason = "decks are small")]
    let bits = dealt.map(|left| (left as f64).log2()).sum::<f64>();
    if hand > 61 { f64::INFINITY } else { bits.ceil() }
}

impl Strategy for PriorityLevels {
    fn status_keeps_metadata(&self) -> bool {
        true
    }

    fn validate_create(&self, _ctx: &RequestContext<'_>, tree: &Value) -> Faults {
        validate(tree)
    }

    fn validate_update(&self, ctx: &RequestContext<'_>, new: &Value, _old: &Value) -> Faults {
        if ctx.subresource.is_some() { validate_status(new) } else { validate(new) }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &[Column] {
        printers::classes::PRIORITY_LEVEL_CONFIGURATION
    }

    fn cells(&self, tree: &Value, now: Timestamp) -> Vec<Cell> {
        printers::classes::priority_level_configuration(tree, now)
    }
}
