import type { DatabaseSync } from 'node:sqlite';
import type { Describe, RawCommit, ReadableCommit } from '../../fold/commit.ts';
import { type ControlPatch, joinControl } from '../../fold/control.ts';
import { type Merge, patientIdsOf } from '../../fold/correct.ts';
import { idKey, msOfStamp, stampOfOrder } from '../../fold/order.ts';
import type { EntryRecord, VersionPolicy } from '../../fold/types.ts';
import {
  type Arrival,
  emptyResult,
  type FoldResult,
  newWork,
  readableCommits,
  recordOf,
  type StudyWork,
  sortCommits,
} from '../../state/commits.ts';
import { keyText } from '../../state/keys.ts';
import { sopHash } from '../../state/sop-hash.ts';
import { correctionsOf, keepControl, keepPending, keptMerges, mergesOf, takePending } from './controls.ts';
import { keepHeads } from './heads.ts';
import { statement } from './schema.ts';
import { SeriesState } from './series-state.ts';
import { createStudy, loadStudy, saveStudy } from './study-rows.ts';

/** Entries in decoded blocks that the writer keeps between commits: about 40 MB. */
const RECORDS_HELD_MAX = 50_000;
const SERIES_HELD_MAX = 500;

/** Folds commits into the tables: one call is one transaction, positions included. Only one writer may be open on a file. */
export class IndexWriter {
  readonly #db: DatabaseSync;
  readonly #policy: VersionPolicy;
  readonly #describe: Describe;
  #acceptGaps: boolean;
  readonly #series = new Map<string, SeriesState>();
  readonly #merges = new Map<number, Map<string, Merge>>();
  /** Lanes at a commit that nobody understood, by tenant. */
  readonly #stopped = new Map<number, Set<string>>();

  constructor(db: DatabaseSync, options: { policy: VersionPolicy; describe: Describe; acceptGaps?: boolean }) {
    this.#db = db;
    this.#policy = options.policy;
    this.#describe = options.describe;
    this.#acceptGaps = options.acceptGaps ?? false;
  }

  fold(tenantName: string, raws: readonly RawCommit[]): FoldResult {
    const result = emptyResult();
    const db = this.#db;
    db.exec('BEGIN IMMEDIATE');
    try {
      const tenant = this.#tenant(tenantName);
      const commits = this.#readable(tenant, raws, result);
      const studies = this.#sort(tenant, commits, result);
      for (const [studyInstanceUid, work] of studies) {
        this.#foldStudy(tenant, tenantName, studyInstanceUid, work, result);
        result.changedStudies.push(studyInstanceUid);
      }
      for (const { lane, sequence } of result.positions)
        statement(
          db,
          `INSERT INTO positions (tenant, lane, sequence) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sequence = excluded.sequence`,
        ).run(tenant, lane, sequence);
      db.exec('COMMIT');
    } catch (error) {
      this.forget();
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
    this.#evict();
    return result;
  }

  /** A rebuild has reached the heads: from here on a missing commit is news. */
  refuseGaps(): void {
    this.#acceptGaps = false;
  }

  /** A settled study's short blocks become full ones. Within the caller's transaction. */
  joinBlocks(study: number): void {
    for (const row of statement(this.#db, 'SELECT series_instance_uid FROM series WHERE study = ?').all(study))
      this.#state(study, row.series_instance_uid as string).joinBlocks(this.#db);
  }

  /** What is held may no longer be what the file says: a transaction was rolled back. */
  forget(): void {
    this.#series.clear();
    this.#merges.clear();
  }

  #tenant(name: string): number {
    statement(this.#db, 'INSERT OR IGNORE INTO tenants (name) VALUES (?)').run(name);
    return statement(this.#db, 'SELECT id FROM tenants WHERE name = ?').get(name)!.id as number;
  }

  #readable(tenant: number, raws: readonly RawCommit[], result: FoldResult): ReadableCommit[] {
    let stopped = this.#stopped.get(tenant);
    if (!stopped) this.#stopped.set(tenant, (stopped = new Set()));
    const known = (lane: string): number =>
      (statement(this.#db, 'SELECT sequence FROM positions WHERE tenant = ? AND lane = ?').get(tenant, lane)
        ?.sequence as number | undefined) ?? 0;
    return readableCommits(raws, known, { acceptGaps: this.#acceptGaps, stopped, result });
  }

  #sort(tenant: number, commits: ReadableCommit[], result: FoldResult): Map<string, StudyWork> {
    const { studies, identities } = sortCommits(commits, result);
    for (const [study, { controls }] of studies)
      for (const control of controls) keepControl(this.#db, tenant, study, control);
    for (const identity of identities) keepControl(this.#db, tenant, 'identity', identity);
    if (identities.length > 0)
      for (const study of this.#regroup(tenant)) {
        const work = studies.get(study) ?? newWork();
        work.recompute = true;
        studies.set(study, work);
      }
    return studies;
  }

  #mergesOf(tenant: number): Map<string, Merge> {
    let merges = this.#merges.get(tenant);
    if (!merges) {
      merges = mergesOf(this.#db, tenant);
      this.#merges.set(tenant, merges);
    }
    return merges;
  }

  /** The live studies whose patient any merge may have changed: those of every Patient ID that merges speak of. */
  #regroup(tenant: number): string[] {
    this.#merges.delete(tenant);
    const studies: string[] = [];
    for (const patientId of patientIdsOf(keptMerges(this.#db, tenant)))
      for (const row of statement(
        this.#db,
        `SELECT study_instance_uid FROM study_keys JOIN studies ON studies.id = study
         WHERE study_keys.tenant = ? AND tag = 0x00100020 AND value = ?`,
      ).all(tenant, keyText('LO', patientId)))
        studies.push(row.study_instance_uid as string);
    return studies;
  }

  #foldStudy(tenant: number, tenantName: string, uid: string, work: StudyWork, result: FoldResult): void {
    const db = this.#db;
    let study = loadStudy(db, tenant, uid);
    if (!study) {
      // What controls say before anything has arrived waits in `pending` and `controls`.
      if (work.arrivals.size === 0) {
        keepPending(db, tenant, work.patches);
        return;
      }
      study = createStudy(db, tenant, uid);
      const newest = statement(
        db,
        `SELECT max(sort) AS sort FROM controls
         WHERE tenant = ? AND study_instance_uid = ? AND kind IN ('delete', 'restore', 'decision', 'overlay')`,
      ).get(tenant, uid)?.sort as string | null;
      if (newest) work.newestMs = Math.max(work.newestMs, msOfStamp(stampOfOrder(newest)));
    }
    study.changedMs = Math.max(study.changedMs, work.newestMs);
    const corrections = correctionsOf(db, tenant, uid);
    const touched = new Map<string, SeriesState>();
    const dirty = new Set<SeriesState>();
    const seriesOf = (seriesInstanceUid: string): SeriesState => {
      let state = touched.get(seriesInstanceUid);
      if (!state) touched.set(seriesInstanceUid, (state = this.#state(study!.id, seriesInstanceUid)));
      return state;
    };
    for (const [seriesInstanceUid, arrivals] of work.arrivals) {
      const state = seriesOf(seriesInstanceUid);
      state.create(db); // its id goes into `sops`
      const plain = this.#arrive(tenant, tenantName, state, arrivals, corrections.length === 0, result);
      if (!plain) dirty.add(state);
    }
    if (work.patches.length > 0 || work.recompute)
      for (const row of statement(db, 'SELECT series_instance_uid FROM series WHERE study = ?').all(study.id))
        seriesOf(row.series_instance_uid as string);
    if (work.patches.length > 0) for (const state of this.#patch(tenant, work.patches, touched)) dirty.add(state);
    if (work.recompute) for (const state of touched.values()) dirty.add(state);
    let docChanged = false;
    for (const state of touched.values()) {
      if (dirty.has(state)) state.recompute(db, this.#policy, corrections, this.#mergesOf(tenant));
      else if (!work.arrivals.has(state.seriesInstanceUid)) continue;
      docChanged ||= state.docChanged;
      state.save(db);
    }
    const hold = statement(
      db,
      `SELECT body FROM controls WHERE tenant = ? AND kind = 'hold' AND study_instance_uid = ? ORDER BY sort DESC LIMIT 1`,
    ).get(tenant, uid);
    const held = hold !== undefined && (JSON.parse(hold.body as string) as { on: boolean }).on;
    saveStudy(db, study, touched, { docChanged, unsettles: work.unsettles, hold: held });
    for (const state of touched.values()) state.docChanged = false;
  }

  /** True where every arrival was a SOP instance new to its series, about which nobody had said anything. */
  #arrive(
    tenant: number,
    tenantName: string,
    state: SeriesState,
    arrivals: Arrival[],
    uncorrected: boolean,
    result: FoldResult,
  ): boolean {
    const db = this.#db;
    const pendingAny = statement(db, 'SELECT 1 FROM pending WHERE tenant = ? LIMIT 1').get(tenant) !== undefined;
    const merges = this.#mergesOf(tenant);
    let plain = uncorrected;
    const records: EntryRecord[] = [];
    for (const arrival of arrivals) {
      const { id, instance } = arrival;
      const record = recordOf(arrival, this.#describe, state, result.alarms);
      const control = pendingAny ? takePending(db, tenant, instance.studyInstanceUid, id) : undefined;
      if (control) record.control = control;
      const fresh = this.#register(tenant, tenantName, state.id, instance.sopInstanceUid);
      if (!fresh || control) plain = false;
      if (plain) state.addFresh(record, merges);
      records.push(record);
    }
    state.append(db, records);
    keepHeads(db, state.id, arrivals);
    return plain;
  }

  #register(tenant: number, tenantName: string, series: number, sopInstanceUid: string): boolean {
    const db = this.#db;
    const hash = sopHash(tenantName, sopInstanceUid);
    const known = statement(db, 'SELECT series FROM sops WHERE hash = ?').all(hash);
    if (known.some((row) => row.series === series)) return false;
    statement(db, 'INSERT INTO sops (hash, series) VALUES (?, ?)').run(hash, series);
    if (known.length > 0)
      statement(db, 'INSERT OR IGNORE INTO shared_sops (tenant, hash) VALUES (?, ?)').run(tenant, hash);
    return true;
  }

  /** Says to entries what controls said of them; what names no entry known yet waits. Answers the series in which something changed. */
  #patch(tenant: number, patches: ControlPatch[], series: ReadonlyMap<string, SeriesState>): SeriesState[] {
    const byEntry = new Map<string, ControlPatch>();
    for (const patch of patches) {
      const key = idKey(patch.id);
      const known = byEntry.get(key);
      byEntry.set(key, known ? { ...patch, control: joinControl(known.control, patch.control)! } : patch);
    }
    const changed: SeriesState[] = [];
    for (const state of series.values()) {
      const any = state.update(this.#db, (record) => {
        const key = idKey(record.id);
        const patch = byEntry.get(key);
        if (!patch) return false;
        byEntry.delete(key);
        record.control = joinControl(record.control, patch.control)!;
        return true;
      });
      if (any) changed.push(state);
    }
    keepPending(this.#db, tenant, byEntry.values());
    return changed;
  }

  #state(studyId: number, seriesInstanceUid: string): SeriesState {
    const key = `${studyId}/${seriesInstanceUid}`;
    const state = this.#series.get(key) ?? SeriesState.load(this.#db, studyId, seriesInstanceUid);
    // Set again: a Map iterates in the order of insertion, so the longest unused comes first.
    this.#series.delete(key);
    this.#series.set(key, state);
    return state;
  }

  #evict(): void {
    let records = 0;
    for (const state of this.#series.values()) records += state.recordsHeld;
    for (const [key, state] of this.#series) {
      if (records <= RECORDS_HELD_MAX && this.#series.size <= SERIES_HELD_MAX) break;
      records -= state.recordsHeld;
      this.#series.delete(key);
    }
  }
}
