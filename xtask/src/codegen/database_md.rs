//! docs/database.md: the ER diagram as Mermaid, and each table with its columns, keys and indexes.

use std::fmt::Write as _;

use anyhow::Result;

use super::catalog::{Catalog, Column, Table};

const HEAD: &str = "# Database\n\n\
    Generated from the migrations by `cargo xtask codegen`: change a migration and its column comments, \
    not this file.\n";

pub(super) fn render(catalog: &Catalog) -> Result<String> {
    let mut out = String::from(HEAD);
    diagram(&mut out, catalog)?;
    out.push_str("\n## Tables\n");
    for table in &catalog.tables {
        render_table(&mut out, table)?;
    }
    out.push_str("\n## Enums\n\n| type | labels | meaning |\n|---|---|---|\n");
    for enum_type in &catalog.enums {
        let (name, labels) = (&enum_type.name, enum_type.labels.join(", "));
        writeln!(
            out,
            "| `{name}` | {labels} | {} |",
            cell(&enum_type.comment)
        )?;
    }
    Ok(out)
}

fn diagram(out: &mut String, catalog: &Catalog) -> Result<()> {
    out.push_str("\n```mermaid\nerDiagram\n");
    for table in &catalog.tables {
        for key in &table.foreign_keys {
            let child = table
                .columns
                .iter()
                .find(|column| column.name == key.column);
            let parent_side = if child.is_some_and(|column| column.is_nullable) {
                "|o"
            } else {
                "||"
            };
            // A foreign key that is the whole primary key: at most one child.
            let alone = table.primary_key.len() == 1 && table.primary_key[0] == key.column;
            let child_side = if alone { "o|" } else { "o{" };
            let (parent, name, column) = (&key.parent, &table.name, &key.column);
            writeln!(
                out,
                "    {parent} {parent_side}--{child_side} {name} : {column}"
            )?;
        }
    }
    for table in &catalog.tables {
        writeln!(out, "    {} {{", table.name)?;
        for column in &table.columns {
            let marks = marks(table, column);
            let marks = if marks.is_empty() {
                String::new()
            } else {
                format!(" {}", marks.join(","))
            };
            writeln!(out, "        {} {}{marks}", type_text(column), column.name)?;
        }
        out.push_str("    }\n");
    }
    out.push_str("```\n");
    Ok(())
}

fn marks(table: &Table, column: &Column) -> Vec<&'static str> {
    let mut marks = Vec::new();
    if table.primary_key.contains(&column.name) {
        marks.push("PK");
    }
    if table
        .foreign_keys
        .iter()
        .any(|key| key.column == column.name)
    {
        marks.push("FK");
    }
    let alone = |index: &super::catalog::Index| index.is_unique && index.columns == column.name;
    if table.indexes.iter().any(alone) && !marks.contains(&"PK") {
        marks.push("UK");
    }
    marks
}

fn render_table(out: &mut String, table: &Table) -> Result<()> {
    writeln!(out, "\n### {}\n\n{}\n", table.name, table.comment)?;
    out.push_str("| column | type | null | default | meaning |\n|---|---|---|---|---|\n");
    for column in &table.columns {
        let null = if column.is_nullable { "yes" } else { "" };
        let default = column
            .default
            .as_deref()
            .map(|text| format!("`{}`", cell(text)));
        let (name, sql_type, comment) = (&column.name, type_text(column), cell(&column.comment));
        writeln!(
            out,
            "| `{name}` | {sql_type} | {null} | {} | {comment} |",
            default.unwrap_or_default()
        )?;
    }
    if !table.foreign_keys.is_empty() {
        out.push('\n');
    }
    for key in &table.foreign_keys {
        writeln!(
            out,
            "- `{}` → `{}`, ON DELETE {}",
            key.column, key.parent, key.on_delete
        )?;
    }
    out.push_str("\n| index | on | only where |\n|---|---|---|\n");
    for index in &table.indexes {
        let unique = if index.is_unique { ", unique" } else { "" };
        let only = index
            .predicate
            .as_deref()
            .map(|text| format!("`{}`", cell(text)));
        let (name, columns) = (&index.name, &index.columns);
        writeln!(
            out,
            "| `{name}`{unique} | {columns} | {} |",
            only.unwrap_or_default()
        )?;
    }
    Ok(())
}

fn type_text(column: &Column) -> String {
    match column.max_length {
        Some(length) => format!("{}({length})", column.type_name),
        // The mermaid diagram has no brackets in a type.
        None => match column.type_name.strip_prefix('_') {
            Some(element) => format!("{element}_array"),
            None => column.type_name.clone(),
        },
    }
}

/// In a table of Markdown a bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
