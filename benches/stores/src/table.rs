//! A table of PostgreSQL, written in batches.

use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, Statement};

use crate::{Connection, Result, TTL_S};

/// No index on `expires_at`: with one, PostgreSQL could not update a row within its page (HOT), and each refresh would
/// write the indexes, too. The wide columns come first, so that nothing is lost to alignment.
fn create(fillfactor: u32, logged: bool) -> String {
    let unlogged = if logged { "" } else { "UNLOGGED" };
    format!(
        "CREATE {unlogged} TABLE IF NOT EXISTS presence (
            connected_at bigint NOT NULL,
            expires_at timestamptz NOT NULL,
            user_id text COLLATE \"C\" PRIMARY KEY,
            server_id text NOT NULL
        ) WITH (fillfactor = {fillfactor})"
    )
}

const PULL: &str = "SELECT user_id, server_id, connected_at FROM presence
    WHERE user_id = ANY($1) AND expires_at > now()";

fn upsert() -> String {
    format!(
        "INSERT INTO presence (user_id, server_id, connected_at, expires_at)
        SELECT user_id, $2, connected_at, now() + interval '{TTL_S} s'
        FROM unnest($1::text[], $3::bigint[]) AS batch (user_id, connected_at)
        ON CONFLICT (user_id) DO UPDATE SET server_id = excluded.server_id,
            connected_at = excluded.connected_at, expires_at = excluded.expires_at"
    )
}

/// How to connect, and what may be tried out.
#[derive(Clone)]
pub struct Options {
    pub port: u16,
    pub password: String,
    pub batch: usize,
    pub fillfactor: u32,
    pub logged: bool,
}

pub struct Table {
    client: Client,
    upsert: Statement,
    pull: Statement,
    batch: usize,
}

impl Table {
    pub fn connect(options: &Options) -> Result<Table> {
        let mut client = Config::new()
            .host("127.0.0.1")
            .port(options.port)
            .user("presence")
            .dbname("postgres")
            .password(&options.password)
            .connect(NoTls)?;
        // Otherwise each connection would tell us that the table is there, and each pull would be planned anew.
        client.batch_execute(
            "SET client_min_messages = warning; SET plan_cache_mode = force_generic_plan",
        )?;
        client.batch_execute(&create(options.fillfactor, options.logged))?;
        Ok(Table {
            upsert: client.prepare(&upsert())?,
            pull: client.prepare(PULL)?,
            client,
            batch: options.batch,
        })
    }

    /// Removes expired rows, and returns how many and how long it took.
    pub fn delete_expired(&mut self) -> Result<(u64, Duration)> {
        let start = Instant::now();
        let rows = self
            .client
            .execute("DELETE FROM presence WHERE expires_at <= now()", &[])?;
        Ok((rows, start.elapsed()))
    }

    /// What autovacuum does after that, at once.
    pub fn vacuum(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.client.batch_execute("VACUUM presence")?;
        Ok(start.elapsed())
    }

    /// Bytes of the table with its index on disk, most of which are in shared buffers, too.
    pub fn relation_bytes(&mut self) -> Result<i64> {
        let row = self
            .client
            .query_one("SELECT pg_total_relation_size('presence')", &[])?;
        Ok(row.get(0))
    }

    /// The share of updates that stayed within their page.
    pub fn hot_share(&mut self) -> Result<f64> {
        let query = "SELECT coalesce(n_tup_hot_upd::float8 / nullif(n_tup_upd, 0), 0)
            FROM pg_stat_user_tables WHERE relname = 'presence'";
        Ok(self.client.query_one(query, &[])?.get(0))
    }
}

impl Connection for Table {
    fn write(&mut self, users: &mut dyn Iterator<Item = u32>) -> Result<u64> {
        let (server, mut written) = ("server-1", 0);
        loop {
            let some = users.take(self.batch);
            let mut ids: Vec<String> = some.map(|user| user.to_string()).collect();
            if ids.is_empty() {
                return Ok(written);
            }
            // Neighbours in the index come one after the other, and two servers that write the same users never wait
            // for each other in a circle.
            ids.sort_unstable();
            // An upsert may not meet a row twice, as it would at the end of a short round of users.
            ids.dedup();
            let connected_at = vec![1_234_567_890_123_i64; ids.len()];
            written += self
                .client
                .execute(&self.upsert, &[&ids, &server, &connected_at])?;
        }
    }

    fn pull(&mut self, users: &[u32]) -> Result<u64> {
        let ids: Vec<String> = users.iter().map(u32::to_string).collect();
        Ok(self.client.query(&self.pull, &[&ids])?.len() as u64)
    }

    fn items(&mut self) -> Result<u64> {
        let row = self
            .client
            .query_one("SELECT count(*) FROM presence", &[])?;
        Ok(row.get::<_, i64>(0) as u64)
    }

    fn table(&mut self) -> Option<&mut Table> {
        Some(self)
    }
}
