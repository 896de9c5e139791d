//! The text of an HTML body: what `description` shows. The HTML itself stays in the metadata.
//!
//! A small converter of our own, in one pass over the input: bodies come from mail programs and may
//! have megabytes; no document tree is built, and nothing is ever rendered from the result.

/// What an element does to the text.
#[derive(Clone, Copy)]
enum Element {
    /// `br`.
    Break,
    /// Keeps its white space.
    Pre,
    /// Stands between empty lines.
    Paragraph,
    /// Stands apart from the cell before it.
    Cell,
    /// Stands on lines of its own.
    Block,
    /// A block with a dash.
    Item,
    /// Its content is not text.
    Hidden(&'static str),
    /// Everything else.
    Inline,
}

impl Element {
    fn named(name: &str) -> Self {
        let mut lower = [0; "blockquote".len()];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return Self::Inline;
        };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"br" => Self::Break,
            b"pre" => Self::Pre,
            b"p" => Self::Paragraph,
            b"td" | b"th" => Self::Cell,
            b"li" => Self::Item,
            b"head" => Self::Hidden("head"),
            b"style" => Self::Hidden("style"),
            b"script" => Self::Hidden("script"),
            b"title" => Self::Hidden("title"),
            b"address" | b"article" | b"blockquote" | b"dd" | b"div" | b"dl" | b"dt"
            | b"footer" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"header" | b"hr"
            | b"ol" | b"section" | b"tr" | b"ul" => Self::Block,
            _ => Self::Inline,
        }
    }
}

/// Entities that mail programs write; others stay as they are.
const ENTITIES: [(&str, char); 21] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bull", '•'),
    ("hellip", '…'),
    ("middot", '·'),
    ("copy", '©'),
    ("reg", '®'),
    ("euro", '€'),
    ("trade", '™'),
    ("laquo", '«'),
    ("raquo", '»'),
];
/// Longest entity that is looked for.
const MAX_ENTITY: usize = 12;

/// Text with the line breaks that the elements mean: blanks are folded (but in `pre`), blocks and
/// `br` break lines, list items get a dash, at most one empty line in a row.
pub(crate) fn to_text(html: &str) -> String {
    let mut out = Text {
        written: String::with_capacity(html.len() / 4),
        newlines: 0,
        blank: false,
        pre: 0,
    };
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with('&') {
            entity(rest, &mut out)
        } else {
            tag(rest, &mut out)
        };
    }
    out.push_str(rest);
    let length = out.written.trim_end().len();
    out.written.truncate(length);
    out.written
}

/// What has been written, and the white space that is due before the next character.
struct Text {
    written: String,
    newlines: usize,
    blank: bool,
    pre: usize,
}

impl Text {
    fn push_str(&mut self, text: &str) {
        if self.pre > 0 {
            for c in text.chars() {
                self.push(c);
            }
            return;
        }
        // Words are copied whole.
        for (n, word) in text.split(is_blank).enumerate() {
            self.blank |= n > 0;
            if !word.is_empty() {
                self.begin();
                self.written.push_str(word);
            }
        }
    }

    fn push(&mut self, c: char) {
        if self.pre > 0 && c == '\n' {
            self.break_line(self.newlines + 1);
        } else if self.pre == 0 && is_blank(c) {
            self.blank = true;
        } else if c != '\r' {
            self.begin();
            self.written.push(c);
        }
    }

    /// Writes the white space that is due.
    fn begin(&mut self) {
        if !self.written.is_empty() {
            for _ in 0..self.newlines.min(2) {
                self.written.push('\n');
            }
            if self.blank && self.newlines == 0 {
                self.written.push(' ');
            }
        }
        (self.newlines, self.blank) = (0, false);
    }

    /// At least this many line breaks come before the next character.
    fn break_line(&mut self, newlines: usize) {
        self.newlines = self.newlines.max(newlines);
        self.blank = false;
    }
}

fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{a0}'
}

/// Reads a tag, a comment or a lone `<` at the start of `html`; gives what follows.
fn tag<'a>(html: &'a str, out: &mut Text) -> &'a str {
    if let Some(comment) = html.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    let body = &html[1..];
    if !body.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
        out.push('<');
        return body;
    }
    let Some(end) = tag_end(body) else {
        return "";
    };
    let (inside, rest) = (&body[..end], &body[end + 1..]);
    let (closing, inside) = match inside.strip_prefix('/') {
        Some(inside) => (true, inside),
        None => (false, inside),
    };
    let name_end = inside
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(inside.len());
    match Element::named(&inside[..name_end]) {
        Element::Break => out.break_line(out.newlines + 1),
        Element::Pre => {
            out.break_line(1);
            out.pre = if closing {
                out.pre.saturating_sub(1)
            } else {
                out.pre + 1
            };
        }
        Element::Paragraph => out.break_line(2),
        Element::Cell => out.blank = true,
        Element::Block => out.break_line(1),
        Element::Item => {
            out.break_line(1);
            if !closing {
                out.push_str("- ");
            }
        }
        Element::Hidden(name) if !closing && !inside.ends_with('/') => {
            return after_closing(rest, name);
        }
        Element::Hidden(_) | Element::Inline => {}
    }
    rest
}

/// Where the `>` of a tag is; one in a quoted attribute value is passed over.
fn tag_end(tag: &str) -> Option<usize> {
    let first = tag.find('>')?;
    if !tag[..first].contains(['"', '\'']) {
        return Some(first);
    }
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            // A quote counts only after `=`: others stand in broken markup.
            (None, b'"' | b'\'') if tag[..at].trim_end().ends_with('=') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    // An unclosed quote must not swallow the rest of the body.
    Some(first)
}

/// What follows `</name…>`; nothing where it is never closed.
fn after_closing<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some(at) = rest.find("</") {
        rest = &rest[at + 2..];
        if rest
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
        {
            return rest.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    ""
}

/// Reads an entity at the start of `html`, which begins with `&`; gives what follows.
fn entity<'a>(html: &'a str, out: &mut Text) -> &'a str {
    let window = html
        .as_bytes()
        .iter()
        .take(MAX_ENTITY)
        .position(|byte| *byte == b';');
    let decoded = window.and_then(|end| {
        let name = &html[1..end];
        let decoded = match name.strip_prefix('#') {
            Some(number) => match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            }
            .ok()
            .and_then(char::from_u32),
            None => ENTITIES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, c)| *c),
        }?;
        Some((decoded, end))
    });
    match decoded {
        Some((c, end)) => {
            out.push(if c == '\u{a0}' { ' ' } else { c });
            &html[end + 1..]
        }
        None => {
            out.push('&');
            &html[1..]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::to_text;

    #[test]
    fn html_becomes_text() {
        for (html, text) in [
            ("", ""),
            ("plain", "plain"),
            (
                "<html><head><title>T</title><style>p{}</style></head><body>Hi</body></html>",
                "Hi",
            ),
            (
                "<html>\r\n<head>\r\n<meta charset=\"utf-8\">\r\n</head>\r\n<body>\r\nDoes this\r\n work?\r\n</body>\r\n</html>\r\n",
                "Does this work?",
            ),
            ("a<br>b<br/>c<BR />d", "a\nb\nc\nd"),
            ("a<br><br>b<br><br><br><br>c", "a\n\nb\n\nc"),
            ("<p>One</p>\n<p>Two</p>", "One\n\nTwo"),
            (
                "<div>One</div><div>Two <b>bold</b>!</div>",
                "One\nTwo bold!",
            ),
            ("<ul><li>One</li><li>Two</li></ul>end", "- One\n- Two\nend"),
            (
                "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>",
                "a b\nc",
            ),
            (
                "a &lt;b&gt; &amp;amp; &#43;1 &#x2713; &nbsp; &unknown; & &;",
                "a <b> &amp; +1 ✓ &unknown; & &;",
            ),
            ("<pre>a\n  b\n</pre>c", "a\n  b\nc"),
            ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
            ("<a href=\"x>y\" title='>'>link</a>", "link"),
            ("a<!-- <b>hidden</b> -->b", "ab"),
            ("a<!-- never closed", "a"),
            ("a<b", "a"),
            ("a<script>if (a < b) {}</script>b<style/>c", "abc"),
            ("a<style>never closed", "a"),
            ("<p title=\"never closed>text</p>", "text"),
            ("<é>ü&eacute;", "<é>ü&eacute;"),
            ("&#0;&#xD800;", "\u{0}&#xD800;"),
        ] {
            assert_eq!(to_text(html), text, "{html}");
        }
    }

    #[test]
    fn large_and_hostile_bodies_take_linear_time() {
        // Quadratic time would be hours; a minute leaves room for a busy machine.
        let size = 1 << 20;
        for unit in [
            "<", "&", "<p>", "</", "<a b=\"", "<style>", "<!--", "a ", "é", "<x '", "= '",
        ] {
            let html = unit.repeat(size / unit.len());
            let start = Instant::now();
            let _ = to_text(&html);
            assert!(start.elapsed() < Duration::from_mins(1), "{unit}");
        }
    }
}
