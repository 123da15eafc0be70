//! What becomes of a field that names a document which is deleted.
//!
//! Pure. Nothing a person does to the field, or to the document that holds it, is undone: who has it, after all,
//! is listed with what it names.

use super::schema::{DeletePolicy, ReferencePolicy};
use super::value::Value;
use crate::ids::DocName;
use crate::life::Life;

/// What is to be done about a reference to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    Leave,
    /// The name goes from the field.
    Clear,
    /// The document that holds it is deleted.
    Delete,
}

/// A document's life, and what comes of edits that a deletion of it had not seen.
#[derive(Clone, Copy, Debug)]
pub struct Lived<'a> {
    /// What was written of it.
    pub life: &'a Life,
    /// What its collection says.
    pub on_delete: DeletePolicy,
}

impl Lived<'_> {
    fn is_deleted(self) -> bool {
        self.life.is_deleted(self.on_delete)
    }
}

/// What is to be done about a reference of one document, the source, to another, the target.
#[must_use]
pub fn repair(policy: ReferencePolicy, source: Lived<'_>, target: Lived<'_>) -> Repair {
    if !target.is_deleted() || source.is_deleted() {
        return Repair::Leave;
    }
    match policy {
        ReferencePolicy::Keep => Repair::Leave,
        ReferencePolicy::Null => Repair::Clear,
        ReferencePolicy::Cascade => {
            // An edit that kept it through its deletion, or somebody who brought it back since, stands.
            let gone_since = target.life.deletion().map(|deletion| deletion.stamp);
            let is_kept = source.life.is_revived(source.on_delete) || source.life.restoration() > gone_since;
            if is_kept { Repair::Leave } else { Repair::Delete }
        }
    }
}

/// A field's value without a document's name; none where it does not name it. What names nothing else becomes null,
/// a list keeps its others.
#[must_use]
pub fn without(value: &Value, name: &DocName) -> Option<Value> {
    let is_it = |value: &Value| matches!(value, Value::String(text) if **text == *name.as_str());
    match value {
        Value::List(values) if values.iter().any(is_it) => {
            Some(values.iter().filter(|value| !is_it(value)).cloned().collect())
        }
        value => is_it(value).then_some(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Stamp;
    use crate::frontier::Frontier;
    use crate::hlc::Hlc;
    use crate::ids::{Dot, Seq, StreamId};

    fn stamp(at: u64) -> Stamp {
        (Hlc(at), Dot { stream: StreamId::from_u32(1), seq: Seq(at) })
    }

    fn deleted(at: u64) -> Life {
        let mut life = Life::default();
        life.deleted(stamp(at), Frontier::new());
        life
    }

    fn becomes(policy: ReferencePolicy, source: &Life, target: &Life) -> Repair {
        let lived = |life| Lived { life, on_delete: DeletePolicy::Revive };
        repair(policy, lived(source), lived(target))
    }

    #[test]
    fn f11_a_reference_to_what_is_deleted_becomes_what_its_policy_says() {
        let (lives, target) = (Life::default(), deleted(5));
        for (policy, repair) in [
            (ReferencePolicy::Keep, Repair::Leave),
            (ReferencePolicy::Null, Repair::Clear),
            (ReferencePolicy::Cascade, Repair::Delete),
        ] {
            assert_eq!(becomes(policy, &lives, &target), repair);
            assert_eq!(becomes(policy, &lives, &lives), Repair::Leave, "the target lives");
            assert_eq!(becomes(policy, &deleted(3), &target), Repair::Leave, "the source is gone, too");
        }
    }

    #[test]
    fn f11_a_document_that_was_brought_back_or_kept_by_an_edit_is_not_deleted_again() {
        let target = deleted(5);
        let restored = |at| {
            let mut life = deleted(2);
            life.restored(stamp(at));
            life
        };
        assert_eq!(becomes(ReferencePolicy::Cascade, &restored(6), &target), Repair::Leave);
        assert_eq!(becomes(ReferencePolicy::Cascade, &restored(4), &target), Repair::Delete, "before that");
        let mut edited = deleted(6);
        edited.edited((Hlc(6), Dot { stream: StreamId::from_u32(2), seq: Seq(1) }));
        assert_eq!(becomes(ReferencePolicy::Cascade, &edited, &target), Repair::Leave);
        assert_eq!(becomes(ReferencePolicy::Null, &restored(6), &target), Repair::Clear);
    }

    #[test]
    fn a_name_goes_from_a_field_and_the_others_of_a_list_stay() {
        let name = DocName::new("people/ada").expect("a name");
        let list = |names: &[&str]| names.iter().map(|name| Value::from(*name)).collect::<Value>();
        assert_eq!(without(&"people/ada".into(), &name), Some(Value::Null));
        assert_eq!(without(&"people/bob".into(), &name), None);
        assert_eq!(without(&list(&["people/bob", "people/ada"]), &name), Some(list(&["people/bob"])));
        assert_eq!(without(&list(&["people/bob"]), &name), None);
    }
}
