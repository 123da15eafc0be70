//! Checks JSON text without building it.
//!
//! Accepts what `JSON.stringify` writes and both `JSON.parse` and yrs (which parses with `serde_json` into
//! signed 64-bit integers or floats) read. Does not recurse: nesting is a stack of bits.

use super::Refusal;
use super::limits::{JSON_BYTES_MAX, JSON_DEPTH_MAX};

/// Checks that a text is one JSON value.
pub(super) fn check_json(text: &str) -> Result<(), Refusal> {
    if text.len() > JSON_BYTES_MAX {
        return Err(Refusal::JsonLength);
    }
    let mut json = Json { bytes: text.as_bytes(), at: 0 };
    json.document()
}

struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The containers that are open, innermost last: true for an object.
#[derive(Default)]
struct Open {
    objects: u128,
    depth: usize,
}

impl Open {
    fn push(&mut self, object: bool) -> Result<(), Refusal> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(Refusal::JsonDepth);
        }
        self.objects = self.objects << 1 | u128::from(object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

impl Json<'_> {
    fn document(&mut self) -> Result<(), Refusal> {
        let mut open = Open::default();
        loop {
            // A value starts here.
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push(true)?;
                    if !self.closes(b'}') {
                        self.member()?;
                        continue;
                    }
                    open.pop();
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(false)?;
                    if !self.closes(b']') {
                        continue;
                    }
                    open.pop();
                }
                _ => self.scalar()?,
            }
            // A value has ended here: close what it ends, or go on to the next.
            if !self.after_value(&mut open)? {
                self.space();
                return if self.at == self.bytes.len() { Ok(()) } else { Err(Refusal::Json) };
            }
        }
    }

    /// Passes what follows a value. False when nothing is open any more.
    fn after_value(&mut self, open: &mut Open) -> Result<bool, Refusal> {
        while open.depth > 0 {
            self.space();
            let object = open.in_object();
            match self.next()? {
                b',' if object => return self.member().map(|()| true),
                b',' => return Ok(true),
                b'}' if object => open.pop(),
                b']' if !object => open.pop(),
                _ => return Err(Refusal::Json),
            }
        }
        Ok(false)
    }

    /// Passes a member's name and colon.
    fn member(&mut self) -> Result<(), Refusal> {
        self.space();
        self.expect(b'"')?;
        self.string()?;
        self.space();
        self.expect(b':')
    }

    fn scalar(&mut self) -> Result<(), Refusal> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string()
            }
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Refusal> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Refusal::Json);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes a string after its opening quote.
    fn string(&mut self) -> Result<(), Refusal> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0..0x20 => return Err(Refusal::Json),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex()? {
                // A lone half of a surrogate pair: JavaScript has such strings, Rust does not.
                0xdc00..0xe000 => Err(Refusal::Json),
                0xd800..0xdc00 => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    if matches!(self.hex()?, 0xdc00..0xe000) { Ok(()) } else { Err(Refusal::Json) }
                }
                _ => Ok(()),
            },
            _ => Err(Refusal::Json),
        }
    }

    fn hex(&mut self) -> Result<u32, Refusal> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.next()?).to_digit(16).ok_or(Refusal::Json)?;
            value = value << 4 | digit;
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(Refusal::Json);
            }
        } else {
            self.digits()?;
        }
        let mut whole = true;
        if self.take(b'.') {
            whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            whole = false;
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Refusal::Json)?;
        // yrs has no unsigned 64-bit integers: it refuses a whole number that only they could hold.
        let unreadable = whole && text.parse::<u64>().is_ok_and(|value| i64::try_from(value).is_err());
        // serde_json refuses what overflows a float, and need not round as we do near the largest.
        let finite = text.parse::<f64>().is_ok_and(|value| value.abs() < 1e308);
        if unreadable || !finite { Err(Refusal::Json) } else { Ok(()) }
    }

    fn digits(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(Refusal::Json) } else { Ok(()) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn closes(&mut self, byte: u8) -> bool {
        self.space();
        self.take(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        if self.take(byte) { Ok(()) } else { Err(Refusal::Json) }
    }

    fn next(&mut self) -> Result<u8, Refusal> {
        let byte = self.peek().ok_or(Refusal::Json)?;
        self.at += 1;
        Ok(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_yjs_writes_is_accepted() {
        for text in [
            "null",
            "true",
            "-0",
            "0.5e-7",
            "1e21",
            "9223372036854775807",
            r#""a\n\u00e9\ud83d\ude00 😀""#,
            "[]",
            "{}",
            r#" { "image" : [ 1 , {"a":[]} , "x" ] , "b":{} } "#,
        ] {
            assert_eq!(check_json(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_yrs_or_yjs_cannot_read_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "01",
            "1.",
            ".5",
            "1e",
            "+1",
            "1e309",
            "9223372036854775808",
            "\"\t\"",
            r#""\x""#,
            r#""\ud83d""#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\u0041""#,
            "[1,]",
            "[1 2]",
            "[1}",
            r#"{"a"}"#,
            r#"{"a":1,}"#,
            "{1:2}",
            "1 2",
            "undefined",
            "[",
            "\"",
        ] {
            assert_eq!(check_json(text), Err(Refusal::Json), "{text}");
        }
    }

    #[test]
    fn nesting_stops_at_the_depth_limit() {
        let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(check_json(&nested(JSON_DEPTH_MAX)), Ok(()));
        assert_eq!(check_json(&nested(JSON_DEPTH_MAX + 1)), Err(Refusal::JsonDepth));
        assert_eq!(check_json(&nested(100_000)), Err(Refusal::JsonDepth));
    }
}
