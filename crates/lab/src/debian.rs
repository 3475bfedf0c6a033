//! The text formats of Debian's archive: paragraphs (deb822), the older one-line sources, lists of files to fetch.
//! Nothing here touches the system; everything takes any input.

use std::collections::BTreeMap;

/// One paragraph of `Name: value` fields. Names are in lower case; lines that continue a value are kept after a newline.
pub(crate) type Paragraph = BTreeMap<String, String>;

/// The paragraphs of a text. Comments and what is no field are passed over.
pub(crate) fn paragraphs(text: &str) -> Vec<Paragraph> {
    let mut all = Vec::new();
    let mut current = Paragraph::new();
    let mut last: Option<String> = None;
    for line in text.lines() {
        if line.trim().is_empty() {
            if !current.is_empty() {
                all.push(std::mem::take(&mut current));
            }
            last = None;
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| current.get_mut(name)) {
                value.push('\n');
                value.push_str(line.trim_end());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.to_ascii_lowercase();
            current.insert(name.clone(), value.trim().to_owned());
            last = Some(name);
        }
    }
    if !current.is_empty() {
        all.push(current);
    }
    all
}

/// A package source of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Source {
    pub(crate) uris: Vec<String>,
    pub(crate) suites: Vec<String>,
    /// Options about trust, to be handed on as they are: (field name, value).
    pub(crate) options: Vec<(&'static str, String)>,
}

/// The options that say whom to trust. Others (architectures, languages, targets) are ours to choose.
const HANDED_ON: [&str; 5] = ["Signed-By", "Trusted", "Check-Valid-Until", "Check-Date", "By-Hash"];

/// The enabled binary sources of a `.sources` file.
pub(crate) fn sources_deb822(text: &str) -> Vec<Source> {
    let words = |paragraph: &Paragraph, name: &str| -> Vec<String> {
        paragraph.get(name).map(|value| value.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    };
    paragraphs(text)
        .iter()
        .filter(|p| p.get("enabled").is_none_or(|value| !["no", "false", "0"].contains(&value.as_str())))
        .filter(|p| words(p, "types").iter().any(|kind| kind == "deb"))
        .map(|p| Source {
            uris: words(p, "uris"),
            suites: words(p, "suites"),
            options: HANDED_ON
                .iter()
                .filter_map(|name| Some((*name, p.get(&name.to_ascii_lowercase())?.clone())))
                .collect(),
        })
        .filter(|source| !source.uris.is_empty() && !source.suites.is_empty())
        .collect()
}

/// The binary sources of a one-line file (`deb [option=value ...] URI SUITE COMPONENT...`).
pub(crate) fn sources_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let option = |word: &str| {
        let (name, value) = word.split_once('=')?;
        let name = HANDED_ON.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        // In this format several keyrings are separated by commas, in the other one by spaces.
        Some((*name, value.replace(',', " ")))
    };
    Some(Source {
        uris: vec![uri.to_owned()],
        suites: vec![suite.to_owned()],
        options: options.split_whitespace().filter_map(option).collect(),
    })
}

/// A source as a paragraph for our own `.sources` file.
pub(crate) fn paragraph_of(source: &Source, suites: &[&str], architectures: &str) -> String {
    let mut text = format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: {architectures}\n",
        source.uris.join(" "),
        suites.join(" ")
    );
    for (name, value) in &source.options {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text.push('\n');
    text
}

/// One file that `apt-get --print-uris` would fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToFetch {
    pub(crate) file: String,
    pub(crate) size: u64,
}

/// The files named by `apt-get --print-uris`: lines of `'URI' file size [hash]`.
pub(crate) fn print_uris(text: &str) -> Vec<ToFetch> {
    let one = |line: &str| {
        let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut words = rest.split_whitespace();
        let (file, size) = (words.next()?, words.next()?.parse().ok()?);
        (!file.contains('/') && file.ends_with(".deb")).then(|| ToFetch { file: file.to_owned(), size })
    };
    text.lines().filter_map(one).collect()
}

/// A row of `apt-cache madison`: package, version, suite.
pub(crate) fn madison(text: &str) -> Vec<(String, String, String)> {
    let one = |line: &str| {
        let mut columns = line.split('|').map(str::trim);
        let (package, version, place) = (columns.next()?, columns.next()?, columns.next()?);
        let suite = place.split_whitespace().nth(1)?.split('/').next()?;
        let known = !package.is_empty() && !version.is_empty();
        known.then(|| (package.to_owned(), version.to_owned(), suite.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

/// Values of a shell-like file such as `/etc/os-release`.
pub(crate) fn os_release<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOURCES: &str = "# main\nTypes: deb deb-src\nURIs: http://mirror.example/debian\n# old\nSuites: bookworm \
        bookworm-updates\nComponents: main contrib\nsigned-by:\n -----BEGIN-----\n .\n abc\n\n\
        Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: x\n\nTypes: deb-src\nURIs: http://src.example\nSuites: y\n";

    #[test]
    fn deb822_sources() {
        let found = sources_deb822(SOURCES);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(found[0].options, [("Signed-By", "\n -----BEGIN-----\n .\n abc".to_owned())]);
        let written = paragraph_of(&found[0], &["trixie"], "arm64");
        assert_eq!(sources_deb822(&written)[0].options, found[0].options);
        assert_eq!(paragraphs(&written)[0]["architectures"], "arm64");
    }

    #[test]
    fn one_line_sources() {
        let text = "deb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://m.example/debian trixie main # c\n\
            deb-src http://m.example x main\n#deb http://n.example x main\ndeb http://only.example\ndebx a b c\n\
            deb http://m.example/s trixie-security main\n";
        let found = sources_one_line(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].options, [("Signed-By", "/a.gpg /b.gpg".to_owned())]);
        assert_eq!(found[1].suites, ["trixie-security"]);
    }

    #[test]
    fn files_to_fetch() {
        let text = "'http://m.example/pool/q_1%3a2.deb' q_1%3a2_amd64.deb 9788540 MD5Sum:00\n'x' ../a.deb 1\nnoise\n";
        assert_eq!(print_uris(text), [ToFetch { file: "q_1%3a2_amd64.deb".into(), size: 9_788_540 }]);
    }

    #[test]
    fn rows_of_madison() {
        let text = " rustc-web | 1.96.0-1 | http://m.example/debian trixie/main amd64 Packages\nN: noise\n";
        assert_eq!(madison(text), [("rustc-web".into(), "1.96.0-1".into(), "trixie".into())]);
    }

    #[test]
    fn release_names() {
        let text = "ID=debian\nVERSION_CODENAME=\"bookworm\"\n";
        assert_eq!(os_release(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(os_release(text, "ID"), Some("debian"));
        assert_eq!(os_release(text, "VERSION"), None);
    }

    /// Everything at once: no panic, and never more text than went in (but for the folded case of names).
    fn feed(text: &str) {
        let kept: usize = paragraphs(text).iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
        assert!(kept <= 2 * text.len());
        let _ = (sources_deb822(text), sources_one_line(text), print_uris(text), madison(text), os_release(text, "ID"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            feed(&text);
        }

        #[test]
        fn mutated_text_is_read(at in 0..SOURCES.len(), with in "[\\PC\n:'|\\[\\]# ]{0,8}", cut in 0usize..40) {
            let mut text = SOURCES.to_owned() + "deb [a=b] http://x y z\n'u' f.deb 3\n a | b | c d/e f\nID=\"x\n";
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &with);
            feed(&text);
        }
    }
}
