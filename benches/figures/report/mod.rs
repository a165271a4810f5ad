//! Tables: what was measured, against what, and whether that is as good as it should be.

mod machine;
mod rounds;
mod table;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use self::rounds::{Rounds, median, percentile};
use self::table::Row;
use crate::parts::Part;

#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
    missed: Vec<String>,
}

/// What one part has to say.
struct Section {
    part: &'static Part,
    rows: Vec<Row>,
    notes: Vec<String>,
    begun: Instant,
}

impl Report {
    pub(crate) fn begin(&mut self, part: &'static Part) {
        println!("\n{}: {}\n", part.name, part.what);
        self.sections.push(Section { part, rows: Vec::new(), notes: Vec::new(), begun: Instant::now() });
    }

    /// Prints what the part has said.
    pub(crate) fn end(&self) {
        if let Some(section) = self.sections.last() {
            println!("{}({:.0} s)", section.table(), section.begun.elapsed().as_secs_f64());
        }
    }

    /// The goals that were missed.
    pub(crate) fn missed(&self) -> &[String] {
        &self.missed
    }

    /// Something that is only told.
    pub(crate) fn fact(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.row(Row { what: what.into(), measured: measured.into(), ..Row::default() }, None);
    }

    /// Something that is too long for a row.
    pub(crate) fn note(&mut self, what: impl std::fmt::Display, text: impl std::fmt::Display) {
        if let Some(section) = self.sections.last_mut() {
            section.notes.push(format!("- {what}: {text}"));
        }
    }

    /// A count that must not be above `most`.
    pub(crate) fn count(&mut self, what: impl Into<String>, measured: u64, most: u64) {
        self.most(what, measured as f64, most as f64, "");
    }

    /// A number that must not be above `most`, in units of something.
    pub(crate) fn most(&mut self, what: impl Into<String>, measured: f64, most: f64, unit: &str) {
        let goal = if most == 0.0 { "0".to_owned() } else { format!("<= {most}{unit}") };
        let row = Row {
            what: what.into(),
            measured: format!("{}{unit}", number(measured)),
            goal,
            ..Row::default()
        };
        // Two runs of one program differ by a few instructions and allocations before it gets to what is counted.
        self.row(row, Some(measured <= most + 0.01));
    }

    /// A rate. It belongs to the machine and has no goal.
    pub(crate) fn per_second(&mut self, what: impl Into<String>, measured: f64) {
        self.fact(what, format!("{}/s", grouped(measured)));
    }

    /// A count against another one that is named. Without a goal it is only told.
    pub(crate) fn against(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        (compared, theirs): (f64, &str),
        goal: Option<f64>,
    ) {
        let ratio = measured / compared;
        let row = Row {
            what: what.into(),
            measured: number(measured),
            compared: format!("{} ({theirs})", number(compared)),
            ratio: format!("{ratio:.3}"),
            goal: goal.map(|goal| format!("<= {goal}")).unwrap_or_default(),
            verdict: "",
        };
        self.row(row, goal.map(|goal| ratio <= goal));
    }

    /// Times of rounds, each against another of the same round. The ratio is the median of the rounds' ratios, because
    /// what disturbs a round disturbs both of its sides. A ratio of times depends on the machine, so that it has no goal.
    pub(crate) fn ratio(&mut self, what: impl Into<String>, rounds: &Rounds) {
        let row = Row {
            what: what.into(),
            measured: time(rounds.ours()),
            compared: format!("{} ({})", time(rounds.theirs()), rounds.name()),
            ratio: rounds.shown(),
            ..Row::default()
        };
        self.row(row, None);
    }

    /// The same as rates, of so many operations in a round; more is better.
    pub(crate) fn rate(&mut self, what: impl Into<String>, rounds: &Rounds, operations: u64) {
        let rate = |time: Duration| format!("{}/s", grouped(operations as f64 / time.as_secs_f64()));
        let row = Row {
            what: what.into(),
            measured: rate(rounds.ours()),
            compared: format!("{} ({})", rate(rounds.theirs()), rounds.name()),
            ratio: rounds.inverse().shown(),
            ..Row::default()
        };
        self.row(row, None);
    }

    fn row(&mut self, mut row: Row, well: Option<bool>) {
        row.verdict = match well {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        let Some(section) = self.sections.last_mut() else { return };
        if well == Some(false) {
            let ratio = if row.ratio.is_empty() { &row.measured } else { &row.ratio };
            self.missed.push(format!(
                "{}: {}: {ratio}, goal {}",
                section.part.name,
                row.what.trim(),
                row.goal
            ));
        }
        // On a terminal each row is shown at once, because a part takes up to a minute.
        if std::io::stderr().is_terminal() {
            eprintln!("{}: {} {} {}", row.what, row.measured, row.ratio, row.verdict);
        }
        section.rows.push(row);
    }

    /// Writes everything to benches/RESULTS.md.
    pub(crate) fn write(&self) {
        let mut text = include_str!("about.md").to_owned();
        text.push_str(&machine::describe());
        for section in &self.sections {
            let part = section.part;
            let _ = write!(text, "\n## `{}`: {}\n\n{}\n", part.name, part.what, section.table());
            if !part.about.is_empty() {
                let _ = writeln!(text, "{}", part.about.trim());
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESULTS.md");
        let text = text.trim_end().to_owned() + "\n";
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Section {
    fn table(&self) -> String {
        let mut text = table::table(&self.rows);
        if !self.notes.is_empty() {
            let _ = write!(text, "\n{}\n", self.notes.join("\n"));
        }
        text
    }
}

pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        secs if secs < 1e-5 => format!("{:.0} ns", secs * 1e9),
        secs if secs < 1e-3 => format!("{:.0} us", secs * 1e6),
        secs if secs < 1.0 => format!("{:.2} ms", secs * 1e3),
        secs => format!("{secs:.2} s"),
    }
}

/// A count that may be a mean.
fn number(number: f64) -> String {
    if number.abs() < 10.0 && (number - number.round()).abs() > 0.01 {
        format!("{number:.2}")
    } else {
        // Not the zero that has a sign.
        format!("{:.0}", number.round() + 0.0)
    }
}

/// With its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
