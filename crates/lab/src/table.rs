//! Tables for people: columns aligned, figures to the right.

/// A table whose first column is text and whose others are figures.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these titles of columns.
    pub fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        Self { rows: vec![titles.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row; one shorter than the titles ends with empty cells.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, with two spaces between columns and a rule under the titles.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &[String]| {
            let cells: Vec<String> = (0..columns)
                .map(|column| match (column, widths[column]) {
                    (0, width) => format!("{:<width$}", cell(row, 0)),
                    (_, width) => format!("{:>width$}", cell(row, column)),
                })
                .collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        };
        let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ") + "\n";
        let mut lines = self.rows.iter().map(|row| line(row));
        let titles = lines.next().unwrap_or_default();
        titles + &rule + &lines.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "tok/s"]);
        table.row(["é", "1.0"]);
        table.row(["longer", "1234.5"]);
        table.row(["short"]);
        let expected = "name     tok/s\n------  ------\né          1.0\nlonger  1234.5\nshort\n";
        assert_eq!(table.render(), expected);
    }
}
