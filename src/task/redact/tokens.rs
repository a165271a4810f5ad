//! Secrets that have a known form. The providers of these tokens give them a prefix so that scanners find them.

/// The characters after a prefix.
#[derive(Clone, Copy)]
enum Body {
    /// ASCII letters and digits.
    Alnum,
    /// ASCII capitals and digits.
    Upper,
    /// ASCII letters, digits, `_`, `-` and `.`.
    Word,
    /// The same, with at least [`DENSE`] letters and digits in a row, one of them a digit: the prefix may begin a name.
    DenseWord,
}

const DENSE: usize = 16;

/// How far a body is looked at before it counts as one.
const LOOK: usize = 64;

/// Prefix, body, and the fewest characters of a body. Most bodies are longer; examples in documentation often are not.
const TOKENS: [(&str, Body, usize); 59] = [
    // AWS access key ids.
    ("AKIA", Body::Upper, 16),
    ("ASIA", Body::Upper, 16),
    ("ABIA", Body::Upper, 16),
    ("ACCA", Body::Upper, 16),
    // GitHub.
    ("ghp_", Body::Alnum, 20),
    ("gho_", Body::Alnum, 20),
    ("ghu_", Body::Alnum, 20),
    ("ghs_", Body::Alnum, 20),
    ("ghr_", Body::Alnum, 20),
    ("github_pat_", Body::Word, 20),
    // GitLab.
    ("glpat-", Body::Word, 20),
    ("glptt-", Body::Word, 20),
    ("gldt-", Body::Word, 20),
    ("glrt-", Body::Word, 20),
    ("glrtr-", Body::Word, 20),
    ("glcbt-", Body::Word, 16),
    ("glft-", Body::Word, 16),
    ("glffct-", Body::Word, 16),
    ("glimt-", Body::Word, 16),
    ("glsoat-", Body::Word, 16),
    ("glagent-", Body::Word, 20),
    // Slack.
    ("xoxa-", Body::Word, 10),
    ("xoxb-", Body::Word, 10),
    ("xoxc-", Body::Word, 10),
    ("xoxd-", Body::Word, 10),
    ("xoxe-", Body::Word, 10),
    ("xoxo-", Body::Word, 10),
    ("xoxp-", Body::Word, 10),
    ("xoxr-", Body::Word, 10),
    ("xoxs-", Body::Word, 10),
    ("xapp-1-", Body::Word, 10),
    // Google.
    ("AIza", Body::Word, 30),
    ("ya29.", Body::Word, 20),
    ("GOCSPX-", Body::Word, 20),
    // OpenAI, Anthropic and others; Groq, Hugging Face, Replicate.
    ("sk-", Body::DenseWord, 20),
    ("gsk_", Body::Alnum, 32),
    ("hf_", Body::Alnum, 30),
    ("r8_", Body::Alnum, 30),
    // Stripe.
    ("sk_live_", Body::Alnum, 10),
    ("sk_test_", Body::Alnum, 10),
    ("rk_live_", Body::Alnum, 10),
    ("rk_test_", Body::Alnum, 10),
    ("whsec_", Body::Alnum, 16),
    // Package registries.
    ("npm_", Body::Alnum, 30),
    ("pypi-AgE", Body::Word, 16),
    ("rubygems_", Body::Alnum, 32),
    ("dckr_pat_", Body::Word, 20),
    // Shopify.
    ("shpat_", Body::Alnum, 32),
    ("shpca_", Body::Alnum, 32),
    ("shppa_", Body::Alnum, 32),
    ("shpss_", Body::Alnum, 32),
    // DigitalOcean, Grafana, HashiCorp Vault, Linear, SendGrid, Atlassian, age.
    ("dop_v1_", Body::Alnum, 32),
    ("glsa_", Body::Word, 30),
    ("hvs.", Body::Word, 20),
    ("hvb.", Body::Word, 20),
    ("lin_api_", Body::Alnum, 32),
    ("SG.", Body::Word, 40),
    ("AGE-SECRET-KEY-1", Body::Alnum, 20),
    // A JSON Web Token: base64 of `{"` and what follows.
    ("eyJ", Body::Word, 17),
];

/// The length of the shortest token.
const SHORTEST: usize = 15;

/// Where the first token in a word begins, and how long it is. A token begins where no letter or digit is before it.
pub(super) fn find(word: &str) -> Option<(usize, usize)> {
    let bytes = word.as_bytes();
    // Most words are shorter.
    (0..(bytes.len() + 1).saturating_sub(SHORTEST))
        .filter(|&at| at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
        .filter_map(|at| word.get(at..).map(|rest| (at, rest)))
        .find_map(|(at, rest)| TOKENS.iter().find_map(|token| len(rest, *token)).map(|len| (at, len)))
}

fn len(text: &str, (prefix, body, fewest): (&str, Body, usize)) -> Option<usize> {
    let rest = text.strip_prefix(prefix)?.as_bytes();
    let is_body = |byte: &u8| match body {
        Body::Alnum => byte.is_ascii_alphanumeric(),
        Body::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        Body::Word | Body::DenseWord => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
    };
    let start = rest.get(..fewest)?;
    let ahead = &rest[..rest.len().min(LOOK)];
    let fits = start.iter().all(is_body)
        && match body {
            // Its length is fixed, and a longer word is another one.
            Body::Upper => rest.get(fewest).is_none_or(|byte| !byte.is_ascii_alphanumeric()),
            Body::DenseWord => ahead
                .split(|byte| !byte.is_ascii_alphanumeric())
                .any(|run| run.len() >= DENSE && run.iter().any(u8::is_ascii_digit)),
            Body::Alnum | Body::Word => true,
        };
    fits.then(|| prefix.len() + rest.iter().position(|byte| !is_body(byte)).unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_their_prefix() {
        let random = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
        for (prefix, body, fewest) in TOKENS {
            let body = match body {
                Body::Upper => random.to_uppercase()[..16].to_owned(),
                _ => random[..fewest.max(20)].to_owned(),
            };
            let token = format!("{prefix}{body}");
            assert_eq!(find(&token), Some((0, token.len())), "{token}");
            assert_eq!(find(&format!("x-{token}")), Some((2, token.len())), "{token}");
            assert_eq!(find(&format!("x{token}")), None, "{token}");
            assert_eq!(find(prefix), None);
            assert!(prefix.len() + fewest >= SHORTEST, "{prefix}");
        }
        assert_eq!(find("sk-ant-api03-a1B2c3D4e5F6g7H8i9J0"), Some((0, 33)));
        assert_eq!(find("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"), Some((0, 41)));
    }

    #[test]
    fn names_are_no_tokens() {
        for name in [
            "sk-learn-contrib-extras-for-python3",
            "npm_config_registry_and_more_of_the_like",
            "npm_package_dependencies",
            "ghp_",
            "ghp_too_short",
            "AKIA",
            "ASIA-PACIFIC-REGION",
            "AKIAIOSFODNN7EXAMPLEandmore",
            "SG.com",
            "eyJ.",
            "hf_hub_download",
            "gl-pat",
            "pypi-server",
            "xoxb",
            "a.b_c-d.e",
            "é",
        ] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
