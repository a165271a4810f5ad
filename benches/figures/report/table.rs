//! A table as Markdown has it.

use std::fmt::Write as _;

#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) measured: String,
    pub(super) compared: String,
    pub(super) ratio: String,
    pub(super) goal: String,
    pub(super) verdict: &'static str,
}

impl Row {
    const HEAD: [&str; 6] = ["what", "measured", "compared to", "ratio", "goal", ""];

    fn cells(&self) -> [&str; 6] {
        [&self.what, &self.measured, &self.compared, &self.ratio, &self.goal, self.verdict]
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let lines: Vec<_> = std::iter::once(Row::HEAD).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<_> = (0..Row::HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default().max(3))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if number == 0 {
            let rules: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
            let _ = writeln!(text, "| {} |", rules.join(" | "));
        }
    }
    text
}
