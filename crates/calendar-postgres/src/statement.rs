//! One SQL statement with its binds, kept prepared.
//!
//! `diesel::sql_query` is never kept prepared: each use parses and plans anew, and asks the server
//! twice. A [`Statement`] is the same for a text that never changes.

use std::marker::PhantomData;

use diesel::deserialize::QueryableByName;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::BoxFuture;

use crate::error::PgError;

/// A statement under way.
pub(crate) type Running<'c, T> = BoxFuture<'c, Result<T, PgError>>;

/// A statement: SQL with `$1`, `$2`, …, and what is bound to them.
#[must_use = "a statement does nothing until it is run"]
pub(crate) struct Statement<'a> {
    sql: &'a str,
    /// One of few texts, which the server may keep with its plan.
    cached: bool,
    binds: Vec<Box<dyn QueryFragment<Pg> + Send + 'a>>,
}

struct Bind<ST, V> {
    value: V,
    sql_type: PhantomData<fn() -> ST>,
}

impl<ST, V> QueryFragment<Pg> for Bind<ST, V>
where
    Pg: HasSqlType<ST>,
    V: ToSql<ST, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // The placeholder stands in the text already.
        out.push_bind_param_value_only::<ST, V>(&self.value)
    }
}

impl<'a> Statement<'a> {
    /// A statement whose text is always the same.
    pub(crate) fn new(sql: &'static str) -> Self {
        Self {
            sql,
            cached: true,
            binds: Vec::new(),
        }
    }

    /// A statement that is planned anew each time: one that is put together for this use, or one
    /// that reads much, where a plan kept from when the tables were small would read all of them.
    pub(crate) fn once(sql: &'a str) -> Self {
        Self {
            sql,
            cached: false,
            binds: Vec::new(),
        }
    }

    /// Binds the next placeholder.
    pub(crate) fn bind<ST, V>(mut self, value: V) -> Self
    where
        ST: 'static,
        Pg: HasSqlType<ST>,
        V: ToSql<ST, Pg> + Send + 'a,
    {
        self.binds.push(Box::new(Bind {
            value,
            sql_type: PhantomData::<fn() -> ST>,
        }));
        self
    }

    /// Runs it; the number of rows it changed.
    pub(crate) fn run<'c>(self, connection: &'c mut AsyncPgConnection) -> Running<'c, u64>
    where
        'a: 'c,
    {
        // Boxed, so that what the future borrows does not show in the stores' futures.
        Box::pin(async move { Ok(RunQueryDsl::execute(self, connection).await? as u64) })
    }

    /// Runs it; its rows.
    pub(crate) fn rows<'c, T>(self, connection: &'c mut AsyncPgConnection) -> Running<'c, Vec<T>>
    where
        'a: 'c,
        T: QueryableByName<Pg> + Send + 'static,
    {
        Box::pin(async move { Ok(RunQueryDsl::load::<T>(self, connection).await?) })
    }

    /// Runs it; its first row.
    pub(crate) fn row<'c, T>(self, connection: &'c mut AsyncPgConnection) -> Running<'c, Option<T>>
    where
        'a: 'c,
        T: QueryableByName<Pg> + Send + 'static,
    {
        Box::pin(async move { Ok(self.rows(connection).await?.into_iter().next()) })
    }
}

impl QueryFragment<Pg> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if !self.cached {
            out.unsafe_to_cache_prepared();
        }
        out.push_sql(self.sql);
        for bind in &self.binds {
            bind.walk_ast(out.reborrow())?;
        }
        Ok(())
    }
}

impl QueryId for Statement<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}
