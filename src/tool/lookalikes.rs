//! Characters that a person or a model reads as those of a tag.

pub(super) fn is_opening(c: char) -> bool {
    matches!(
        c,
        '<' | '\u{2c2}'
            | '\u{1438}'
            | '\u{2039}'
            | '\u{2329}'
            | '\u{276c}'
            | '\u{276e}'
            | '\u{27e8}'
            | '\u{29fc}'
            | '\u{3008}'
            | '\u{fe64}'
            | '\u{ff1c}'
    )
}

pub(super) fn is_closing(c: char) -> bool {
    matches!(
        c,
        '>' | '\u{2c3}'
            | '\u{1433}'
            | '\u{203a}'
            | '\u{232a}'
            | '\u{276d}'
            | '\u{276f}'
            | '\u{27e9}'
            | '\u{29fd}'
            | '\u{3009}'
            | '\u{fe65}'
            | '\u{ff1e}'
    )
}

pub(super) fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '_' | '.' | ':' | '\u{2010}'
            ..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' | '\u{ff3f}'
    )
}

/// The length of an escaped `<` that `text` begins with, in HTML, in a URL, or in a string of a programming language.
pub(super) fn escaped_bracket(text: &str) -> Option<usize> {
    /// Longer than any form that has a meaning.
    const LONGEST: usize = 32;
    let mut rest = text;
    let mut take = |prefix: &str| {
        let found = rest.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if found {
            rest = &rest[prefix.len()..];
        }
        found
    };
    let zeros = |take: &mut dyn FnMut(&str) -> bool| (0..LONGEST).all(|_| take("0"));
    let found = if take("&") {
        // Escaped more than once.
        let _ = (0..LONGEST).all(|_| take("amp;"));
        let found = take("lt")
            || (take("#") && {
                let hexadecimal = take("x");
                zeros(&mut take);
                take(if hexadecimal { "3c" } else { "60" })
            });
        take(";");
        found
    } else if take("%") {
        let _ = (0..LONGEST).all(|_| take("25"));
        take("3c")
    } else {
        take("\\")
            && (take("x3c")
                || take("u003c")
                || (take("u{") && {
                    zeros(&mut take);
                    take("3c}")
                }))
    };
    found.then(|| text.len() - rest.len())
}

/// Whether `c` is not displayed, or only changes the look of the character before it.
pub(super) fn is_invisible(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(
            c,
            '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The small ASCII letter that `c` looks like, as far as the names of the tags need it.
pub(super) fn fold(c: char) -> char {
    let letter = |index: u32| char::from(b'a' + (index % 26) as u8);
    match c {
        '\u{ff21}'..='\u{ff3a}' => letter(u32::from(c) - 0xff21),
        '\u{ff41}'..='\u{ff5a}' => letter(u32::from(c) - 0xff41),
        '\u{24b6}'..='\u{24e9}' => letter(u32::from(c) - 0x24b6),
        '\u{1d400}'..='\u{1d6a3}' => letter(u32::from(c) - 0x1d400),
        'ѕ' | 'Ѕ' | 'ſ' | 'ꜱ' => 's',
        'у' | 'У' | 'ү' | 'Ү' | 'υ' | 'Υ' | 'γ' => 'y',
        'т' | 'Т' | 'τ' | 'Τ' => 't',
        'е' | 'Е' | 'Ε' | 'ε' => 'e',
        'м' | 'М' | 'Μ' => 'm',
        'п' | 'η' | 'Ν' | 'ո' => 'n',
        'о' | 'О' | 'ο' | 'Ο' | 'օ' | '0' => 'o',
        'і' | 'І' | 'ι' | 'Ι' | 'ı' | 'İ' | '1' | 'l' | '|' => 'i',
        'с' | 'С' | 'ϲ' => 'c',
        'а' | 'А' | 'α' | 'Α' => 'a',
        'г' => 'r',
        'ԁ' => 'd',
        c => c.to_ascii_lowercase(),
    }
}
