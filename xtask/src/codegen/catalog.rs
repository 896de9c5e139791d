//! The schema as the database itself describes it.

use std::collections::BTreeMap;

use anyhow::Result;
use tokio_postgres::Client;

/// Everything in the schema `public` but diesel's own table, each list sorted by name.
pub(crate) struct Catalog {
    pub(crate) enums: Vec<EnumType>,
    pub(crate) tables: Vec<Table>,
}

pub(crate) struct EnumType {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) labels: Vec<String>,
}

pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) comment: String,
    /// In the order of the table.
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) indexes: Vec<Index>,
}

pub(crate) struct Column {
    pub(crate) name: String,
    /// The type's own name: varchar, timestamptz, `event_status`.
    pub(crate) type_name: String,
    /// Of a varchar.
    pub(crate) max_length: Option<i32>,
    pub(crate) is_nullable: bool,
    /// As an SQL expression.
    pub(crate) default: Option<String>,
    pub(crate) comment: String,
}

pub(crate) struct ForeignKey {
    pub(crate) column: String,
    pub(crate) parent: String,
    /// What follows ON DELETE.
    pub(crate) on_delete: &'static str,
}

pub(crate) struct Index {
    pub(crate) name: String,
    /// Columns or expressions, as CREATE INDEX takes them.
    pub(crate) columns: String,
    pub(crate) is_unique: bool,
    pub(crate) predicate: Option<String>,
}

/// Reads the catalog of the connected database.
pub(crate) async fn read(client: &Client) -> Result<Catalog> {
    let mut enums: BTreeMap<String, EnumType> = BTreeMap::new();
    for row in client
        .query(
            "SELECT t.typname::text, e.enumlabel::text, coalesce(obj_description(t.oid, 'pg_type'), '')
             FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
             WHERE t.typnamespace = 'public'::regnamespace ORDER BY t.typname, e.enumsortorder",
            &[],
        )
        .await?
    {
        let name: String = row.get(0);
        let entry = enums.entry(name.clone()).or_insert_with(|| EnumType {
            name,
            comment: row.get(2),
            labels: Vec::new(),
        });
        entry.labels.push(row.get(1));
    }
    let mut tables = Vec::new();
    for row in client
        .query(
            "SELECT c.oid, c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), '')
             FROM pg_class c
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
               AND c.relname <> '__diesel_schema_migrations' ORDER BY c.relname",
            &[],
        )
        .await?
    {
        let oid: u32 = row.get(0);
        tables.push(Table {
            name: row.get(1),
            comment: row.get(2),
            columns: columns(client, oid).await?,
            primary_key: primary_key(client, oid).await?,
            foreign_keys: foreign_keys(client, oid).await?,
            indexes: indexes(client, oid).await?,
        });
    }
    Ok(Catalog {
        enums: enums.into_values().collect(),
        tables,
    })
}

async fn columns(client: &Client, table: u32) -> Result<Vec<Column>> {
    let rows = client
        .query(
            "SELECT a.attname::text, t.typname::text, a.atttypmod, NOT a.attnotnull,
                    pg_get_expr(d.adbin, d.adrelid), coalesce(col_description(a.attrelid, a.attnum), '')
             FROM pg_attribute a
             JOIN pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&table],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let type_name: String = row.get(1);
            let modifier: i32 = row.get(2);
            Column {
                name: row.get(0),
                // The modifier of a varchar is its length and four bytes of header.
                max_length: (type_name == "varchar" && modifier > 4).then_some(modifier - 4),
                type_name,
                is_nullable: row.get(3),
                default: row.get(4),
                comment: row.get(5),
            }
        })
        .collect())
}

async fn primary_key(client: &Client, table: u32) -> Result<Vec<String>> {
    let rows = client
        .query(
            "SELECT a.attname::text
             FROM pg_constraint c
             CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (number, position)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number
             WHERE c.conrelid = $1 AND c.contype = 'p' ORDER BY k.position",
            &[&table],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn foreign_keys(client: &Client, table: u32) -> Result<Vec<ForeignKey>> {
    let rows = client
        .query(
            "SELECT a.attname::text, p.relname::text, c.confdeltype::text
             FROM pg_constraint c
             JOIN pg_class p ON p.oid = c.confrelid
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
             WHERE c.conrelid = $1 AND c.contype = 'f' ORDER BY a.attname",
            &[&table],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| ForeignKey {
            column: row.get(0),
            parent: row.get(1),
            on_delete: match row.get(2) {
                "c" => "CASCADE",
                "n" => "SET NULL",
                "r" => "RESTRICT",
                "d" => "SET DEFAULT",
                _ => "NO ACTION",
            },
        })
        .collect())
}

async fn indexes(client: &Client, table: u32) -> Result<Vec<Index>> {
    let rows = client
        .query(
            "SELECT i.relname::text,
                    (SELECT string_agg(pg_get_indexdef(x.indexrelid, n, true), ', ' ORDER BY n)
                     FROM generate_series(1, x.indnkeyatts) AS n),
                    x.indisunique, pg_get_expr(x.indpred, x.indrelid)
             FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
             WHERE x.indrelid = $1 ORDER BY x.indisprimary DESC, x.indisunique DESC, i.relname",
            &[&table],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Index {
            name: row.get(0),
            columns: row.get(1),
            is_unique: row.get(2),
            predicate: row.get(3),
        })
        .collect())
}
