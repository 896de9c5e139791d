//! schema.rs in diesel's `table!` syntax, as `diesel_cli` would write it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::catalog::{Catalog, Column, EnumType, Table};

/// diesel's largest table with the features that the workspace turns on.
const MOST_COLUMNS: usize = 64;

/// Names that can't be a Rust identifier or that `table!` makes itself.
const TAKEN: [&str; 22] = [
    "as", "async", "columns", "const", "dsl", "enum", "fn", "for", "if", "impl", "in", "loop",
    "match", "mod", "move", "ref", "star", "static", "table", "type", "use", "where",
];

pub(super) fn render(catalog: &Catalog) -> Result<String> {
    let mut out = String::from(
        "//! The tables as diesel sees them. Generated from the migrations by `cargo xtask codegen`:\n\
         //! change a migration, not this file.\n\
         #![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = \"generated\")]\n",
    );
    sql_types(&mut out, &catalog.enums)?;
    for table in &catalog.tables {
        render_table(&mut out, table, &catalog.enums)?;
    }
    joins(&mut out, catalog)?;
    out.push_str("\ndiesel::allow_tables_to_appear_in_same_query!(\n");
    for table in &catalog.tables {
        writeln!(out, "    {},", table.name)?;
    }
    out.push_str(");\n");
    Ok(out)
}

fn sql_types(out: &mut String, enums: &[EnumType]) -> Result<()> {
    out.push_str("\n/// PostgreSQL's enum types.\npub mod sql_types {\n");
    for (position, enum_type) in enums.iter().enumerate() {
        out.push_str(if position > 0 { "\n" } else { "" });
        let labels: Vec<String> = enum_type
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        write!(
            out,
            "    /// {} {}.\n    #[derive(Debug, Clone, Copy, diesel::query_builder::QueryId, diesel::sql_types::SqlType)]\n    \
             #[diesel(postgres_type(name = \"{}\"))]\n    pub struct {};\n",
            enum_type.comment,
            labels.join(", "),
            enum_type.name,
            pascal_case(&enum_type.name)
        )?;
    }
    out.push_str("}\n");
    Ok(())
}

fn render_table(out: &mut String, table: &Table, enums: &[EnumType]) -> Result<()> {
    if table.columns.len() > MOST_COLUMNS {
        bail!(
            "{} has {} columns, diesel is built for {MOST_COLUMNS}: turn on diesel's 128-column-tables",
            table.name,
            table.columns.len()
        );
    }
    if table.primary_key.is_empty() {
        bail!("{} has no primary key, which diesel needs", table.name);
    }
    let used: BTreeSet<&str> = table
        .columns
        .iter()
        .map(|column| column.type_name.as_str())
        .filter(|name| enums.iter().any(|enum_type| enum_type.name == *name))
        .collect();
    out.push_str("\ndiesel::table! {\n    use diesel::sql_types::*;\n");
    for name in used {
        writeln!(out, "    use super::sql_types::{};", pascal_case(name))?;
    }
    write!(
        out,
        "\n    /// {}\n    {} ({}) {{\n",
        table.comment,
        table.name,
        table.primary_key.join(", ")
    )?;
    for column in &table.columns {
        render_column(out, table, column, enums)?;
    }
    out.push_str("    }\n}\n");
    Ok(())
}

fn render_column(
    out: &mut String,
    table: &Table,
    column: &Column,
    enums: &[EnumType],
) -> Result<()> {
    writeln!(out, "        /// {}", column.comment)?;
    if let Some(length) = column.max_length {
        writeln!(out, "        #[max_length = {length}]")?;
    }
    let mut name = column.name.clone();
    if TAKEN.contains(&name.as_str()) || name == table.name {
        writeln!(out, "        #[sql_name = \"{name}\"]")?;
        name.push('_');
    }
    let sql_type = diesel_type(&column.type_name, enums)?;
    let sql_type = if column.is_nullable {
        format!("Nullable<{sql_type}>")
    } else {
        sql_type
    };
    writeln!(out, "        {name} -> {sql_type},")?;
    Ok(())
}

fn diesel_type(name: &str, enums: &[EnumType]) -> Result<String> {
    let sql_type = match name {
        "uuid" => "Uuid",
        "varchar" => "Varchar",
        "text" => "Text",
        "bool" => "Bool",
        "int2" => "Int2",
        "int4" => "Int4",
        "int8" => "Int8",
        "float8" => "Float8",
        "timestamptz" => "Timestamptz",
        "date" => "Date",
        "jsonb" => "Jsonb",
        "bytea" => "Bytea",
        // An element of an array can be null, as far as PostgreSQL knows.
        "_text" => "Array<Nullable<Text>>",
        other if enums.iter().any(|enum_type| enum_type.name == other) => {
            return Ok(pascal_case(other));
        }
        other => bail!("schema_rs.rs knows no diesel type for {other}: add it there"),
    };
    Ok(sql_type.to_owned())
}

/// diesel joins a pair of tables by at most one key, and a table to itself not at all.
fn joins(out: &mut String, catalog: &Catalog) -> Result<()> {
    let mut keys: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for table in &catalog.tables {
        for key in &table.foreign_keys {
            if key.parent != table.name {
                keys.entry((&table.name, &key.parent))
                    .or_default()
                    .push(&key.column);
            }
        }
    }
    out.push('\n');
    for ((child, parent), columns) in keys {
        if let [column] = columns[..] {
            writeln!(out, "diesel::joinable!({child} -> {parent} ({column}));")?;
        }
    }
    Ok(())
}

fn pascal_case(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let (first, rest) = word.split_at(1.min(word.len()));
            [first.to_uppercase(), rest.to_owned()]
        })
        .collect()
}
