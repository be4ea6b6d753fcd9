-- The columns beside `row` are derived from it and only serve look-ups; `row` is msgpack, as in the journal.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cycles (name TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE definitions (hash TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY,
    cycle TEXT NOT NULL,
    status TEXT NOT NULL,
    step TEXT NOT NULL,
    created INTEGER NOT NULL,
    due INTEGER NOT NULL,      -- When its hold expires, 0 for never.
    active INTEGER NOT NULL,   -- 1 when a restart has something to do for it: a pass, a call or a queue.
    idle INTEGER NOT NULL,     -- When it last changed, 0 while a pass is in progress.
    purged INTEGER NOT NULL,   -- 1 when its data is gone.
    row BLOB NOT NULL
);
CREATE INDEX transactions_by_place ON transactions (cycle, status, step);  -- And by id, as every index.
CREATE INDEX transactions_by_due ON transactions (due) WHERE due > 0;
CREATE INDEX transactions_active ON transactions (id) WHERE active = 1;
CREATE INDEX transactions_by_age ON transactions (cycle, status, purged, idle) WHERE idle > 0;
CREATE TABLE hits (
    id INTEGER PRIMARY KEY,
    cycle TEXT NOT NULL,
    status TEXT NOT NULL,
    txn INTEGER NOT NULL,
    due INTEGER NOT NULL,      -- When its parking ends, 0 when it is not parked.
    waiting INTEGER NOT NULL,  -- 1 while a caller waits for its answer.
    purged INTEGER NOT NULL,   -- 1 when what it carried is gone.
    row BLOB NOT NULL
);
CREATE INDEX hits_by_transaction ON hits (txn, id) WHERE txn > 0;
CREATE INDEX hits_by_due ON hits (due) WHERE due > 0;
CREATE INDEX hits_waiting ON hits (id) WHERE waiting = 1;
CREATE INDEX hits_expired ON hits (id) WHERE status = 'expired';
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    cycle TEXT NOT NULL,
    txn INTEGER NOT NULL,
    row BLOB NOT NULL
);
CREATE INDEX incidents_by_transaction ON incidents (txn, id) WHERE txn > 0;
CREATE TABLE usages (id TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
-- One row for each value of each key in the indexes `reached` and `parted`, so that a value alone finds its transactions.
CREATE TABLE matched (
    value TEXT NOT NULL, id INTEGER NOT NULL, step TEXT NOT NULL, PRIMARY KEY (value, id, step)
) WITHOUT ROWID;
CREATE TABLE entries (
    name TEXT NOT NULL, key BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, key, id)
) WITHOUT ROWID;
