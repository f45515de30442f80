import { DatabaseSync, type StatementSync } from 'node:sqlite';

/** So that nobody outside the adapters names node:sqlite. */
export type Database = DatabaseSync;

/** Raised whenever a table, a block or a document changes its shape: an index of another version rebuilds itself. */
export const INDEX_VERSION = 2;

/**
 * Patients, studies and series are rows with a document; instances live in blocks of up to 512, because one row an instance, header
 * and all, is dear (Orthanc: 3.3 kB an instance). Everything here can be rebuilt from the log, so `synchronous` is NORMAL: a power
 * loss may take the newest transactions, positions and rows together, and the fold reads them again.
 */
export const SCHEMA = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- How far each lane is folded: written in the transaction of the rows.
CREATE TABLE positions (
  tenant INTEGER NOT NULL, lane TEXT NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (tenant, lane)
) WITHOUT ROWID;

-- A patient is (Patient ID, issuer); an empty Patient ID never joins two studies (its key is the study's UID).
CREATE TABLE patients (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  key TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  issuer TEXT NOT NULL,
  name TEXT NOT NULL,               -- sortText of the winner's PatientName
  live INTEGER NOT NULL,            -- 1 while any of its studies has a live instance
  doc TEXT NOT NULL                 -- LevelDoc, patient attributes
);
CREATE UNIQUE INDEX patients_key ON patients (tenant, key);
CREATE INDEX patients_id ON patients (tenant, patient_id) WHERE live = 1;
CREATE INDEX patients_name ON patients (tenant, name, id) WHERE live = 1;
-- The distinct patient attributes that its studies carry, and how many studies carry each.
CREATE TABLE patient_variants (
  patient INTEGER NOT NULL, digest TEXT NOT NULL, studies INTEGER NOT NULL, doc TEXT NOT NULL,
  PRIMARY KEY (patient, digest)
) WITHOUT ROWID;

-- The sums of the studies' counts: a status page must not read a million rows.
CREATE TABLE totals (
  tenant INTEGER PRIMARY KEY,
  studies INTEGER NOT NULL, series INTEGER NOT NULL, instances INTEGER NOT NULL, bytes INTEGER NOT NULL,
  trash_instances INTEGER NOT NULL, conflicts INTEGER NOT NULL, disagrees INTEGER NOT NULL
);

CREATE TABLE studies (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  study_instance_uid TEXT NOT NULL,
  patient INTEGER NOT NULL,
  first_order TEXT NOT NULL,        -- orderOf the first live entry: whose values the row shows
  study_date TEXT NOT NULL,         -- of the row, as YYYYMMDD or empty
  study_time TEXT NOT NULL,         -- of the row, as received
  series INTEGER NOT NULL,          -- with at least one live instance
  instances INTEGER NOT NULL,       -- live: 0 hides the study
  bytes INTEGER NOT NULL,           -- of what shows
  trash_instances INTEGER NOT NULL,
  trash_bytes INTEGER NOT NULL,
  conflicts INTEGER NOT NULL,       -- SOP instances with several versions
  compactable INTEGER NOT NULL,     -- entries with work for the keeper: still in the log, or no longer needed
  disagrees INTEGER NOT NULL,       -- 1: its instances carry different patient or study attributes
  hold INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL,      -- of the newest entry's stamp
  settled INTEGER NOT NULL,         -- 0 arriving, 1 metadata written, 2 announced
  patient_digests TEXT NOT NULL,    -- what it counts for in patient_variants
  doc TEXT NOT NULL                 -- StudyDoc
);
CREATE UNIQUE INDEX studies_uid ON studies (tenant, study_instance_uid);
CREATE INDEX studies_patient ON studies (patient, first_order);
-- The order of a study list: newest first, the UID breaks ties (search/order.ts), so that it is the same after a rebuild.
CREATE INDEX studies_date ON studies (tenant, study_date, study_time, study_instance_uid) WHERE instances > 0;
CREATE INDEX studies_unsettled ON studies (settled, changed_ms) WHERE settled < 2;
CREATE INDEX studies_trash ON studies (tenant, id) WHERE trash_instances > 0;
CREATE INDEX studies_compactable ON studies (tenant, changed_ms) WHERE compactable > 0 AND settled > 0;
CREATE INDEX studies_conflict ON studies (tenant, id) WHERE conflicts > 0 OR disagrees > 0;

-- Every value of STUDY_KEYS that any live instance of the study carries, as keyText writes it.
CREATE TABLE study_keys (
  tenant INTEGER NOT NULL, tag INTEGER NOT NULL, value TEXT NOT NULL, study INTEGER NOT NULL,
  PRIMARY KEY (tenant, tag, value, study)
) WITHOUT ROWID;

CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  study INTEGER NOT NULL,
  series_instance_uid TEXT NOT NULL,
  first_order TEXT NOT NULL,
  modality TEXT NOT NULL,           -- of the row
  series_number TEXT NOT NULL,      -- of the row, as received
  instances INTEGER NOT NULL,       -- live: 0 hides the series
  bytes INTEGER NOT NULL,
  trash_instances INTEGER NOT NULL,
  trash_bytes INTEGER NOT NULL,
  conflicts INTEGER NOT NULL,
  compactable INTEGER NOT NULL,
  revision INTEGER NOT NULL,        -- counts the folds that touched it: caches and ETags hang on it
  metadata TEXT NOT NULL,           -- name of its metadata object under derived/metadata, empty: none
  doc TEXT NOT NULL,                -- SeriesDoc
  variants BLOB NOT NULL            -- zstd(JSON SeriesVariants): the writer's own
);
CREATE UNIQUE INDEX series_uid ON series (study, series_instance_uid);
CREATE INDEX series_by_uid ON series (series_instance_uid);

-- Up to 512 entries as one binary row (block.ts). id = series * 2^20 + n, so that a series is one range of the table.
CREATE TABLE blocks (id INTEGER PRIMARY KEY, entries INTEGER NOT NULL, data BLOB NOT NULL);

-- 48 bits of a digest of (tenant, SOP Instance UID): finds an instance without its study. A hit is a candidate; the block decides.
CREATE TABLE sops (hash INTEGER NOT NULL, series INTEGER NOT NULL, PRIMARY KEY (hash, series)) WITHOUT ROWID;
-- Hashes that more than one series carries: candidates for "one SOP Instance UID in two places".
CREATE TABLE shared_sops (tenant INTEGER NOT NULL, hash INTEGER NOT NULL, PRIMARY KEY (tenant, hash)) WITHOUT ROWID;

-- Control entries may be folded before the entries they name: what they said waits here, joined, for its entry.
CREATE TABLE pending (
  tenant INTEGER NOT NULL, lane TEXT NOT NULL, sequence INTEGER NOT NULL, n INTEGER NOT NULL,
  study_instance_uid TEXT NOT NULL, control TEXT NOT NULL,
  PRIMARY KEY (tenant, lane, sequence, n, study_instance_uid)
) WITHOUT ROWID;
-- Deletes and restores (for the trash: who and why), overlays, identities, holds, decisions: small, and few.
CREATE TABLE controls (
  tenant INTEGER NOT NULL, sort TEXT NOT NULL, kind TEXT NOT NULL, study_instance_uid TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (tenant, kind, study_instance_uid, sort)
) WITHOUT ROWID;

-- Headers of what has arrived since the series last settled: zstd of (entry, charset, head)*, one row a batch.
CREATE TABLE recent_heads (id INTEGER PRIMARY KEY, series INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX recent_heads_series ON recent_heads (series);
`;

export const blockId = (series: number, n: number): number => series * 2 ** 20 + n;

export function openIndex(path: string, options: { readOnly?: boolean } = {}): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: options.readOnly ?? false, timeout: 10_000 });
  if (!options.readOnly) {
    // A checkpoint flushes, and a store waits behind it to be found: one for 16 MiB, not for 4.
    // A reader's long statement must not let the write-ahead log grow for ever: 64 MiB, then it is cut back.
    db.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY;',
    );
  } else db.exec('PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 1073741824;');
  return db;
}

const statements = new WeakMap<DatabaseSync, Map<string, StatementSync>>();
/** A prepared statement of this connection, kept. Not for a statement that is still being iterated. */
export function statement(db: DatabaseSync, sql: string): StatementSync {
  let known = statements.get(db);
  if (!known) statements.set(db, (known = new Map()));
  let prepared = known.get(sql);
  if (!prepared) known.set(sql, (prepared = db.prepare(sql)));
  return prepared;
}

export function tenantId(db: DatabaseSync, tenant: string): number | undefined {
  return statement(db, 'SELECT id FROM tenants WHERE name = ?').get(tenant)?.id as number | undefined;
}

/** Makes the tables of a new index file. `complete` says that a rebuild has reached the heads: a file without it is thrown away. */
export function prepareIndex(db: DatabaseSync, options: { policy: string; complete?: boolean }): void {
  db.exec('BEGIN');
  db.exec(SCHEMA);
  const insert = db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)');
  insert.run('version', String(INDEX_VERSION));
  insert.run('policy', options.policy);
  insert.run('created', new Date().toISOString());
  insert.run('complete', options.complete === false ? '0' : '1');
  db.exec('COMMIT');
}
