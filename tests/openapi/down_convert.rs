//! OpenAPI 3.0.3 from our 3.1 document, for tools that read nothing newer.
//!
//! It knows the shapes that our document has, and panics on any other that 3.0 writes differently.

use serde_json::{Map, Value, json};

pub(crate) fn to_3_0(document: &Value) -> Value {
    let mut document = document.clone();
    document["openapi"] = json!("3.0.3");
    let license = document["info"]["license"].as_object_mut().expect("a license");
    license.remove("identifier").expect("an identifier");
    license.insert("url".to_owned(), json!("https://spdx.org/licenses/"));
    for schema in document["components"]["schemas"].as_object_mut().expect("schemas").values_mut() {
        convert_schema(schema);
    }
    for path in document["paths"].as_object_mut().expect("paths").values_mut() {
        for operation in path.as_object_mut().expect("a path item").values_mut() {
            each_schema(operation, &mut convert_schema);
        }
    }
    sorted(document)
}

/// Calls `visit` with every schema of an operation. Examples are data, whatever their members are called.
fn each_schema(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "schema" => visit(member),
                    "example" | "examples" => {}
                    _ => each_schema(member, visit),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_schema(item, visit)),
        _ => {}
    }
}

fn convert_schema(schema: &mut Value) {
    let members = schema.as_object_mut().expect("a schema is an object");
    const UNKNOWN: [&str; 8] =
        ["const", "$defs", "if", "prefixItems", "patternProperties", "anyOf", "not", "exclusiveMinimum"];
    for keyword in UNKNOWN {
        assert!(!members.contains_key(keyword), "no rule for {keyword}: {members:?}");
    }
    if let Some(Value::Array(types)) = members.get("type") {
        let [real, null] = types.as_slice() else { panic!("no rule for {types:?}") };
        assert_eq!(null, "null");
        let real = real.clone();
        members.insert("type".to_owned(), real);
        members.insert("nullable".to_owned(), json!(true));
    }
    if let Some(examples) = members.remove("examples") {
        members.insert("example".to_owned(), examples[0].clone());
    }
    if let Some(alternatives) = members.remove("oneOf") {
        let [reference, other] = alternatives.as_array().expect("a list").as_slice() else {
            panic!("no rule for {alternatives:?}")
        };
        assert_eq!(other, &json!({"type": "null"}));
        assert!(members.is_empty(), "no rule for members beside oneOf: {members:?}");
        let reference = json!({"$ref": reference["$ref"].as_str().expect("a reference")});
        // 3.0 has no type for null, and `nullable` counts only beside a type.
        members.insert("oneOf".to_owned(), json!([reference, {"enum": [null]}]));
    }
    // What stands beside a reference does not count in 3.0.
    if members.contains_key("$ref") && members.len() > 1 {
        let reference = members.remove("$ref").expect("just seen");
        members.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.values_mut().for_each(convert_schema);
    }
    if let Some(items) = members.get_mut("items") {
        convert_schema(items);
    }
}

/// So that the text does not depend on how the JSON library of the day orders members.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(
                members.into_iter().map(|(name, member)| (name, sorted(member))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        value => value,
    }
}
