//! Random objects of any type, for tests that must hold for all kinds.

use serde_json::{Map, Value, json};

use super::{Base, FieldType, Shape, TypeRef};

/// A stream of small numbers from one seed: enough for trees of every type without a strategy for each.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// An object of a type with some of its fields, nested as deep as the dice like.
pub(crate) fn random_object(ty: TypeRef, dice: &mut Dice, depth: u64) -> Value {
    let mut map = Map::new();
    for field in ty.fields() {
        let is_meta = field.number == 0 && matches!(field.name, "apiVersion" | "kind");
        if !is_meta && dice.roll(2 + depth) == 0 {
            map.insert(field.name.to_string(), random_field(field.ty, dice, depth));
        }
    }
    Value::Object(map)
}

fn random_field(ty: FieldType, dice: &mut Dice, depth: u64) -> Value {
    let one = |dice: &mut Dice| random_value(ty.base, dice, depth);
    match ty.shape {
        Shape::One => one(dice),
        Shape::List => (0..1 + dice.roll(3)).map(|_| one(dice)).collect(),
        Shape::Map => {
            let entries = (0..1 + dice.roll(3)).map(|i| (format!("k{i}"), one(dice)));
            Value::Object(entries.collect())
        }
        Shape::MapOfLists => json!({"k": [one(dice), one(dice)]}),
    }
}

fn random_value(base: Base, dice: &mut Dice, depth: u64) -> Value {
    match base {
        Base::String => json!(format!("s{}é", dice.roll(1000))),
        Base::Int32 => json!(dice.roll(1 << 31) as i32 - (1 << 30)),
        Base::Int64 => json!((dice.roll(1 << 31) as i64) << dice.roll(31)),
        Base::Number => json!(dice.roll(1000) as f64 / 8.0 + 0.125),
        Base::Bool => json!(dice.roll(2) == 0),
        Base::Bytes => json!(["AAEC", "/+8=", "YQ=="][dice.roll(3) as usize]),
        Base::Time => json!(format!("20{:02}-03-04T05:06:07Z", 10 + dice.roll(80))),
        Base::MicroTime => json!(format!("1965-03-04T05:06:07.{:06}Z", dice.roll(1_000_000))),
        Base::Quantity => json!(["1", "100m", "64Mi", "12e6"][dice.roll(4) as usize]),
        Base::IntOrString => [json!("25%"), json!(-1), json!(8080)][dice.roll(3) as usize].clone(),
        Base::Raw => json!({"apiVersion": "x/v1", "kind": "Any", "n": dice.roll(9)}),
        Base::Fields => json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}),
        Base::Json => [json!(1), json!("a"), json!([true]), json!({"x": 1.5})][dice.roll(4) as usize].clone(),
        Base::SchemaOrBool => {
            [json!(false), json!(true), json!({"type": "string"})][dice.roll(3) as usize].clone()
        }
        Base::SchemaOrArray => {
            [json!({"type": "string"}), json!([{"type": "string"}, {}])][dice.roll(2) as usize].clone()
        }
        Base::SchemaOrStrings => {
            [json!({"type": "string"}), json!(["a", "b"])][dice.roll(2) as usize].clone()
        }
        Base::Object(ty) if depth < 6 => random_object(ty, dice, depth + 1),
        Base::Object(_) => json!({}),
    }
}
