//! One table: what was measured, against what, and whether that is as good as it should be.

use std::io::IsTerminal;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    missed: usize,
}

#[derive(Debug)]
struct Row {
    what: String,
    measured: String,
    compared: String,
    ratio: String,
    goal: String,
    verdict: &'static str,
}

impl Report {
    /// Something that is only told.
    pub(crate) fn fact(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.row(what.into(), measured.into(), String::new(), String::new(), String::new(), None);
    }

    /// Something that is too long for a row.
    pub(crate) fn note(&mut self, what: impl std::fmt::Display, text: impl std::fmt::Display) {
        self.notes.push(format!("- {what}: {text}"));
    }

    /// A count that must not be above `most`.
    pub(crate) fn count(&mut self, what: impl Into<String>, measured: u64, most: u64) {
        let goal = if most == 0 { "0".to_owned() } else { format!("<= {most}") };
        self.row(
            what.into(),
            measured.to_string(),
            String::new(),
            String::new(),
            goal,
            Some(measured <= most),
        );
    }

    /// Times of rounds, each against another of the same round. The ratio is the median of the rounds' ratios, because
    /// what disturbs a round disturbs both of its sides. Without a goal it is only told.
    pub(crate) fn ratio(&mut self, what: &str, rounds: &Rounds, goal: Option<f64>) {
        let ratio = rounds.ratio();
        let (low, high) = rounds.spread();
        self.row(
            what.to_owned(),
            time(median(rounds.pairs.iter().map(|(ours, _)| *ours))),
            format!("{} ({})", time(median(rounds.pairs.iter().map(|(_, theirs)| *theirs))), rounds.theirs),
            format!("{ratio:.2} ({low:.2} to {high:.2})"),
            goal.map(|goal| format!("<= {goal}")).unwrap_or_default(),
            goal.map(|goal| ratio <= goal),
        );
    }

    fn row(
        &mut self,
        what: String,
        measured: String,
        compared: String,
        ratio: String,
        goal: String,
        well: Option<bool>,
    ) {
        let verdict = match well {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        self.missed += usize::from(well == Some(false));
        // Somebody who watches sees that it goes on.
        if std::io::stderr().is_terminal() {
            eprintln!("{what}: {measured} {ratio} {verdict}");
        }
        self.rows.push(Row { what, measured, compared, ratio, goal, verdict });
    }

    /// Prints the table and the notes, and says how many goals were missed.
    pub(crate) fn print(&self) -> usize {
        let head = ["what", "measured", "compared to", "ratio (rounds)", "goal", ""].map(str::to_owned);
        let rows = self.rows.iter().map(|row| {
            [&row.what, &row.measured, &row.compared, &row.ratio, &row.goal, &row.verdict.to_owned()]
                .map(String::clone)
        });
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        let widths: Vec<_> = (0..6)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        for (line, row) in rows.iter().enumerate() {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            println!("| {} |", cells.join(" | "));
            if line == 0 {
                let rules: Vec<_> = widths.iter().map(|&width| "-".repeat(width.max(3))).collect();
                println!("| {} |", rules.join(" | "));
            }
        }
        println!();
        for note in &self.notes {
            println!("{note}");
        }
        self.missed
    }
}

/// Pairs of times, ours and the one it is compared to, each pair of one round.
#[derive(Debug)]
pub(crate) struct Rounds {
    theirs: &'static str,
    pairs: Vec<(Duration, Duration)>,
}

impl Rounds {
    /// `theirs` names what ours is compared to.
    pub(crate) const fn new(theirs: &'static str) -> Self {
        Self { theirs, pairs: Vec::new() }
    }

    pub(crate) fn push(&mut self, ours: Duration, theirs: Duration) {
        self.pairs.push((ours, theirs));
    }

    fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<_> =
            self.pairs.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    fn ratio(&self) -> f64 {
        let ratios = self.ratios();
        ratios[ratios.len() / 2]
    }

    /// The best round and the worst one.
    fn spread(&self) -> (f64, f64) {
        let ratios = self.ratios();
        (ratios[0], ratios[ratios.len() - 1])
    }
}

pub(crate) fn median(times: impl Iterator<Item = Duration>) -> Duration {
    percentile(times, 50)
}

/// The time that so many in a hundred do not exceed.
pub(crate) fn percentile(times: impl Iterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        secs if secs < 1e-3 => format!("{:.0} us", secs * 1e6),
        secs if secs < 1.0 => format!("{:.2} ms", secs * 1e3),
        secs => format!("{secs:.2} s"),
    }
}
