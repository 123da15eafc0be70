//! What scripts can call beside the language itself. Each function costs as many operations as it has work.
//!
//! | of | functions |
//! |---|---|
//! | the merge | `conflict()` and `deleted()`, to be returned |
//! | numbers | `abs`, `floor`, `ceiling`, `round` (halves away from 0), `to_int`, `to_float`, `is_nan` |
//! | strings | `len` (in characters), `contains`, `starts_with`, `ends_with`, `trim`, `split(separator)`, `replace(from, to)` |
//! | lists | `len`, `push`, `contains`, `index_of` (-1 when it is not there), `remove(index)`, `reverse`, `sort`, `unique` (the first of equals stays), `join(separator)`, `list1 + list2` |
//! | objects | `len`, `contains(key)`, `keys`, `values`, `remove(key)` |
//!
//! Lists and objects are equal when their parts are, and integers equal doubles of the same value. `sort` orders by
//! type, then by value.

use super::convert::{Budget, from_dynamic};
use super::{ELEMENTS_MAX, OPERATIONS_MAX, STRINGS_BYTES_MAX};
use crate::fields::Value;
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, ImmutableString, Map, NativeCallContext, Position,
};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What `conflict()` gives: the script leaves it to people.
#[derive(Clone, Debug)]
pub(super) struct Conflict;

/// What `deleted()` gives: the key is to be absent.
#[derive(Clone, Debug)]
pub(super) struct Deleted;

/// A `BigInt`, which scripts can hand on and compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BigInt(pub i64);

type Failable<T> = Result<T, Box<EvalAltResult>>;

type Context<'a> = NativeCallContext<'a>;

/// How many bytes of a string are as much work as one element of a list.
const BYTES_PER_OPERATION: usize = 64;

/// The work of functions, which Rhai counts as one operation each.
#[derive(Clone, Debug, Default)]
pub(super) struct Work(Arc<AtomicU64>);

impl Work {
    fn done(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts the work of a function on so many elements.
fn elements(context: &Context<'_>, count: usize) {
    if let Some(work) = context.tag().and_then(|tag| tag.read_lock::<Work>()) {
        work.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Counts the work of a function on so many bytes.
fn bytes(context: &Context<'_>, count: usize) {
    elements(context, count / BYTES_PER_OPERATION);
}

/// The number as a double: beyond 53 bits the nearest there is, as in JavaScript.
#[expect(clippy::cast_precision_loss, reason = "numbers are doubles")]
pub(super) const fn double(value: INT) -> FLOAT {
    value as FLOAT
}

/// Gives an engine the functions, whose work is counted.
pub(super) fn register(engine: &mut Engine, work: &Work) {
    engine.set_default_tag(Dynamic::from(work.clone()));
    let counted = work.clone();
    engine.on_progress(move |operations| {
        (operations.saturating_add(counted.done()) > OPERATIONS_MAX).then_some(Dynamic::UNIT)
    });
    engine.register_fn("conflict", || Conflict).register_fn("deleted", || Deleted);
    engine.register_fn("==", |a: BigInt, b: BigInt| a == b).register_fn("!=", |a: BigInt, b: BigInt| a != b);
    engine.register_iterator::<Range<INT>>().register_iterator::<RangeInclusive<INT>>();
    engine.register_iterator::<Array>();
    numbers(engine);
    strings(engine);
    lists(engine);
    objects(engine);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "to_int cuts the fraction; what no integer is becomes the nearest"
)]
fn numbers(engine: &mut Engine) {
    engine
        .register_fn("abs", FLOAT::abs)
        .register_fn("abs", INT::saturating_abs)
        .register_fn("floor", FLOAT::floor)
        .register_fn("ceiling", FLOAT::ceil)
        .register_fn("round", FLOAT::round)
        .register_fn("is_nan", FLOAT::is_nan)
        .register_fn("to_int", |value: FLOAT| value as INT)
        .register_fn("to_int", |value: INT| value)
        .register_fn("to_float", double)
        .register_fn("to_float", |value: FLOAT| value);
}

fn strings(engine: &mut Engine) {
    engine
        .register_fn("len", |context: Context<'_>, text: &str| {
            bytes(&context, text.len());
            length(text.chars().count())
        })
        .register_fn("contains", |context: Context<'_>, text: &str, part: &str| {
            bytes(&context, text.len());
            text.contains(part)
        })
        .register_fn("starts_with", |text: &str, part: &str| text.starts_with(part))
        .register_fn("ends_with", |text: &str, part: &str| text.ends_with(part))
        .register_fn("trim", |context: Context<'_>, text: &str| {
            bytes(&context, text.len());
            ImmutableString::from(text.trim())
        })
        .register_fn("split", |context: Context<'_>, text: &str, separator: &str| {
            elements(&context, text.len());
            text.split(separator).take(ELEMENTS_MAX + 1).map(string).collect::<Array>()
        })
        .register_fn("replace", |context: Context<'_>, text: &str, from: &str, to: &str| {
            replace(&context, text, from, to)
        });
}

fn replace(context: &Context<'_>, text: &str, from: &str, to: &str) -> Failable<ImmutableString> {
    elements(context, text.len());
    let count = text.matches(from).count();
    within(text.len() + count.saturating_mul(to.len()) - count.saturating_mul(from.len()))?;
    Ok(text.replace(from, to).into())
}

fn lists(engine: &mut Engine) {
    engine
        .register_fn("len", |list: &mut Array| length(list.len()))
        .register_fn("push", |list: &mut Array, element: Dynamic| list.push(element))
        .register_fn("contains", |context: Context<'_>, list: &mut Array, element: Dynamic| {
            Ok::<_, Box<EvalAltResult>>(place(&context, list, &element)?.is_some())
        })
        .register_fn("index_of", |context: Context<'_>, list: &mut Array, element: Dynamic| {
            Ok::<_, Box<EvalAltResult>>(place(&context, list, &element)?.map_or(-1, length))
        })
        .register_fn("remove", |context: Context<'_>, list: &mut Array, index: INT| {
            elements(&context, list.len());
            let index = usize::try_from(index).ok().filter(|index| *index < list.len());
            index.map_or(Dynamic::UNIT, |index| list.remove(index))
        })
        .register_fn("reverse", |context: Context<'_>, list: &mut Array| {
            elements(&context, list.len());
            list.reverse();
        })
        .register_fn("sort", |context: Context<'_>, list: &mut Array| sort(&context, list))
        .register_fn("unique", |context: Context<'_>, list: &mut Array| unique(&context, list))
        .register_fn("join", |context: Context<'_>, list: &mut Array, separator: &str| {
            join(&context, list, separator)
        })
        .register_fn("+", |context: Context<'_>, mut one: Array, other: Array| {
            elements(&context, one.len() + other.len());
            one.extend(other);
            one
        })
        .register_fn("==", |context: Context<'_>, a: Array, b: Array| equal(&context, a, b))
        .register_fn("!=", |context: Context<'_>, a: Array, b: Array| equal(&context, a, b).map(|is| !is));
}

fn objects(engine: &mut Engine) {
    engine
        .register_fn("len", |object: &mut Map| length(object.len()))
        .register_fn("contains", |object: &mut Map, key: &str| object.contains_key(key))
        .register_fn("keys", |context: Context<'_>, object: &mut Map| {
            elements(&context, object.len());
            object.keys().map(|key| string(key)).collect::<Array>()
        })
        .register_fn("values", |context: Context<'_>, object: &mut Map| {
            elements(&context, object.len());
            object.values().cloned().collect::<Array>()
        })
        .register_fn("remove", |object: &mut Map, key: &str| object.remove(key).unwrap_or(Dynamic::UNIT))
        .register_fn("==", |context: Context<'_>, a: Map, b: Map| equal(&context, a, b))
        .register_fn("!=", |context: Context<'_>, a: Map, b: Map| equal(&context, a, b).map(|is| !is));
}

fn string(text: &str) -> Dynamic {
    ImmutableString::from(text).into()
}

fn length(count: usize) -> INT {
    INT::try_from(count).unwrap_or(INT::MAX)
}

/// The value of a part, by which parts are compared.
fn plain(context: &Context<'_>, value: &Dynamic) -> Failable<Value> {
    let mut budget = Budget::full();
    let plain = from_dynamic(value, &mut budget);
    let spent = budget.spent();
    elements(context, 1 + spent.0);
    bytes(context, spent.1);
    plain.map_err(|what| format!("cannot compare {what}").into())
}

fn equal(context: &Context<'_>, a: impl Into<Dynamic>, b: impl Into<Dynamic>) -> Failable<bool> {
    Ok(plain(context, &a.into())? == plain(context, &b.into())?)
}

fn place(context: &Context<'_>, list: &Array, element: &Dynamic) -> Failable<Option<usize>> {
    let element = plain(context, element)?;
    for (place, other) in list.iter().enumerate() {
        if plain(context, other)? == element {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn sort(context: &Context<'_>, list: &mut Array) -> Failable<()> {
    let mut parts = Vec::new();
    for part in list.iter() {
        parts.push((plain(context, part)?, part.clone()));
    }
    parts.sort_by(|(a, _), (b, _)| a.cmp(b));
    *list = parts.into_iter().map(|(_, part)| part).collect();
    Ok(())
}

fn unique(context: &Context<'_>, list: &mut Array) -> Failable<()> {
    let mut seen = BTreeSet::new();
    let mut kept = Array::new();
    for part in list.iter() {
        if seen.insert(plain(context, part)?) {
            kept.push(part.clone());
        }
    }
    *list = kept;
    Ok(())
}

fn join(context: &Context<'_>, list: &mut Array, separator: &str) -> Failable<ImmutableString> {
    let mut joined = String::new();
    for (i, part) in list.iter().enumerate() {
        let Some(part) = part.read_lock::<ImmutableString>() else {
            return Err("join takes a list of strings".into());
        };
        if i > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&part);
        within(joined.len())?;
    }
    bytes(context, joined.len());
    elements(context, list.len());
    Ok(joined.into())
}

/// Refuses a string before it is made: Rhai sees only what is there.
fn within(bytes: usize) -> Failable<()> {
    if bytes <= STRINGS_BYTES_MAX {
        return Ok(());
    }
    Err(EvalAltResult::ErrorDataTooLarge("Length of string".to_owned(), Position::NONE).into())
}
