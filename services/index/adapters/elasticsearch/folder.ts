import { setTimeout as sleep } from 'node:timers/promises';
import { GantryError } from '#platform/errors.ts';
import type { Describe, RawCommit } from '../../fold/commit.ts';
import { type ControlPatch, joinControl } from '../../fold/control.ts';
import type { Merge } from '../../fold/correct.ts';
import { idKey } from '../../fold/order.ts';
import type { EntryRecord, VersionPolicy } from '../../fold/types.ts';
import {
  emptyResult,
  type FoldResult,
  newWork,
  readableCommits,
  recordOf,
  type StudyWork,
  sortCommits,
} from '../../state/commits.ts';
import { patientOfStudy } from '../../state/study-docs.ts';
import { correctionsIn, type StudySource, type StudyState } from './documents.ts';
import type { Documents, Write } from './documents-store.ts';
import { ElasticMerges } from './merges.ts';
import { ElasticPatients } from './patients.ts';
import { Positions } from './positions.ts';
import { seriesId, studyId } from './schema.ts';
import { ElasticSeries, loadSeries } from './series.ts';
import { ATTEMPTS, documentOf, newStudy, STUDIES_HELD_MAX, type Study, studyWrite, sumSeries } from './study.ts';

/** Entries of series that are kept between folds: about 80 MB. */
const ENTRIES_HELD_MAX = 100_000;

/**
 * Folds commits into Elasticsearch. It reads by id and writes states, each only where it was read; whoever loses reads again and joins, so
 * any number of processes may fold at once. Order: blocks, series, study, patient, position: a crash between leaves what the same commit,
 * folded again, completes.
 */
export class ElasticFolder {
  readonly #documents: Documents;
  readonly #policy: VersionPolicy;
  readonly #describe: Describe;
  readonly #positions: Positions;
  readonly #stopped = new Map<string, Set<string>>();
  readonly #studies = new Map<string, Study>();
  readonly #series = new Map<string, ElasticSeries>();
  readonly #patients: ElasticPatients;
  readonly #merges: ElasticMerges;
  #acceptGaps: boolean;

  constructor(documents: Documents, options: { policy: VersionPolicy; describe: Describe; acceptGaps?: boolean }) {
    this.#documents = documents;
    this.#policy = options.policy;
    this.#describe = options.describe;
    this.#acceptGaps = options.acceptGaps ?? false;
    this.#positions = new Positions(documents);
    this.#patients = new ElasticPatients(documents);
    this.#merges = new ElasticMerges(documents);
  }

  async fold(tenant: string, raws: readonly RawCommit[]): Promise<FoldResult> {
    const result = emptyResult();
    let stopped = this.#stopped.get(tenant);
    if (!stopped) this.#stopped.set(tenant, (stopped = new Set()));
    const known = await this.#positions.of(tenant, new Set(raws.map(({ lane }) => lane)));
    const commits = readableCommits(raws, (lane) => known.get(lane) ?? 0, {
      acceptGaps: this.#acceptGaps,
      stopped,
      result,
    });
    if (commits.length === 0) return result;
    try {
      const { studies, identities } = sortCommits(commits, result);
      if (identities.length > 0) {
        await this.#merges.keep(tenant, identities);
        for (const study of await this.#merges.studiesOfMerged(tenant)) this.#recompute(studies, study);
      }
      let merges = await this.#merges.read(tenant);
      await this.#all(tenant, studies, merges.last, result);
      // Merges kept by another process since: it looked for their studies before ours were there.
      for (
        let now = await this.#merges.read(tenant);
        now.version !== merges.version;
        now = await this.#merges.read(tenant)
      ) {
        merges = now;
        const again = new Map<string, StudyWork>();
        for (const study of studies.keys()) this.#recompute(again, study);
        await this.#all(tenant, again, merges.last, result);
      }
      await this.#positions.advance(tenant, result.positions);
      result.changedStudies = [...studies.keys()];
    } catch (error) {
      this.forget();
      throw error;
    }
    this.#evict();
    return result;
  }

  #recompute(studies: Map<string, StudyWork>, study: string): void {
    const work = studies.get(study) ?? newWork();
    work.recompute = true;
    studies.set(study, work);
  }

  /** What is held may no longer be what Elasticsearch has. */
  forget(): void {
    this.#studies.clear();
    this.#series.clear();
    this.#patients.forget();
  }

  #evict(): void {
    let entries = 0;
    for (const series of this.#series.values()) entries += series.held;
    for (const [id, series] of this.#series) {
      if (entries <= ENTRIES_HELD_MAX && this.#series.size <= STUDIES_HELD_MAX) break;
      entries -= series.held;
      this.#series.delete(id);
    }
    for (const id of this.#studies.keys()) {
      if (this.#studies.size <= STUDIES_HELD_MAX) break;
      this.#studies.delete(id);
    }
    this.#patients.evict();
  }

  async #all(
    tenant: string,
    studies: ReadonlyMap<string, StudyWork>,
    merges: ReadonlyMap<string, Merge>,
    result: FoldResult,
  ): Promise<void> {
    const alarms = new Set(result.alarms);
    let left = studies;
    for (let attempt = 0; left.size > 0; attempt++) {
      if (attempt === ATTEMPTS)
        throw new GantryError('unavailable', 'other processes keep writing the studies that this one folds');
      if (attempt > 0) await sleep(Math.random() * Math.min(500, 5 * 2 ** attempt));
      left = await this.#once(tenant, left, merges, alarms);
    }
    result.alarms = [...alarms];
  }

  /** Answers what must be folded again, because another process was faster. */
  async #once(
    tenant: string,
    studies: ReadonlyMap<string, StudyWork>,
    merges: ReadonlyMap<string, Merge>,
    alarms: Set<string>,
  ): Promise<Map<string, StudyWork>> {
    const loaded = await this.#load(tenant, studies);
    const again = new Map<string, StudyWork>();
    const lose = (study: Study): void => {
      again.set(study.source.uid, studies.get(study.source.uid)!);
      this.#studies.delete(study.id);
      for (const uid of this.#seriesOf(study, studies.get(study.source.uid)!))
        this.#series.delete(seriesId(tenant, study.source.uid, uid));
    };
    const folded: { study: Study; changed: boolean; series: ElasticSeries[] }[] = [];
    for (const study of loaded) folded.push(this.#foldStudy(study, studies.get(study.source.uid)!, merges, alarms));

    const blocks: Write[] = [];
    const documents: { study: Study; series: ElasticSeries; write: Write; blocks: string[] }[] = [];
    for (const { study, series } of folded)
      for (const one of series) {
        if (!one.changed) continue;
        const writes = one.writes();
        blocks.push(...writes.blocks);
        documents.push({ study, series: one, write: writes.document, blocks: writes.blocks.map(({ id }) => id) });
      }
    await this.#documents.write(blocks);
    const lost = new Set<Study>();
    const gone: string[] = [];
    const wrote = await this.#documents.write(documents.map((one) => one.write));
    for (const [index, { study, series, blocks: written }] of documents.entries()) {
      const at = wrote[index];
      if (!at) {
        gone.push(...written); // nothing names them
        lost.add(study);
        continue;
      }
      series.at = at;
      series.changed = false;
      gone.push(...series.replaced);
      series.replaced = [];
    }
    for (const study of lost) lose(study);
    const rest = folded.filter(({ study }) => !lost.has(study));
    const writes: { study: Study; write: Write }[] = [];
    for (const { study, series, changed } of rest)
      if (this.#sumUp(study, series, studies.get(study.source.uid)!, changed))
        writes.push({ study, write: studyWrite(study) });
    const wroteStudies = await this.#documents.write(writes.map((one) => one.write));
    for (const [index, { study }] of writes.entries()) {
      study.at = wroteStudies[index];
      if (!study.at) {
        lost.add(study);
        lose(study);
      }
    }
    await this.#documents.delete('blocks', gone);
    await this.#patients.join(
      tenant,
      rest.filter(({ study }) => !lost.has(study)).map(({ study }) => study),
    );
    return again;
  }

  #seriesOf(study: Study, work: StudyWork): Set<string> {
    const uids = new Set(work.arrivals.keys());
    if (work.patches.length > 0 || work.recompute) for (const uid of Object.keys(study.state.series)) uids.add(uid);
    return uids;
  }

  async #load(tenant: string, studies: ReadonlyMap<string, StudyWork>): Promise<Study[]> {
    const ids = new Map([...studies.keys()].map((uid) => [uid, studyId(tenant, uid)]));
    const found = await this.#documents.get<StudySource>(
      'studies',
      [...ids.values()].filter((id) => !this.#studies.has(id)),
    );
    const loaded: Study[] = [];
    const wanted: string[] = [];
    for (const [uid, id] of ids) {
      const one = found.get(id);
      const study: Study =
        this.#studies.get(id) ??
        (one
          ? { id, at: one.at, source: one.source, state: JSON.parse(one.source.state) as StudyState }
          : newStudy(tenant, uid, id));
      this.#studies.delete(id);
      this.#studies.set(id, study);
      loaded.push(study);
      for (const series of this.#seriesOf(study, studies.get(uid)!)) {
        const key = seriesId(tenant, uid, series);
        if (!this.#series.has(key)) wanted.push(key);
      }
    }
    for (const [id, series] of await loadSeries(this.#documents, wanted)) this.#series.set(id, series);
    return loaded;
  }

  #foldStudy(
    study: Study,
    work: StudyWork,
    merges: ReadonlyMap<string, Merge>,
    alarms: Set<string>,
  ): { study: Study; changed: boolean; series: ElasticSeries[] } {
    const { tenant, uid } = study.source;
    const { state } = study;
    let changed = false;
    const known = new Set(state.controls.map((one) => `${one.kind} ${one.sort}`));
    for (const control of work.controls)
      if (!known.has(`${control.kind} ${control.sort}`)) {
        state.controls.push(control);
        changed = true;
      }
    state.controls.sort((a, b) => (a.sort < b.sort ? -1 : 1));
    const corrections = correctionsIn(state);
    const touched: ElasticSeries[] = [];
    const dirty = new Set<ElasticSeries>();
    for (const seriesUid of this.#seriesOf(study, work)) {
      const key = seriesId(tenant, uid, seriesUid);
      const series = this.#series.get(key) ?? new ElasticSeries(tenant, uid, seriesUid);
      this.#series.delete(key);
      this.#series.set(key, series);
      touched.push(series);
      let plain = corrections.length === 0;
      const told: string[] = [];
      for (const arrival of work.arrivals.get(seriesUid) ?? []) {
        const id = idKey(arrival.id);
        if (series.hasEntry(id)) continue; // folded before
        const record = recordOf(arrival, this.#describe, series, told);
        const control = state.pending[id];
        if (control) {
          record.control = control;
          delete state.pending[id];
          changed = true;
        }
        if (control || series.hasSop(record.sopInstanceUid)) plain = false;
        if (plain) series.addFresh(record, merges);
        series.append(record);
      }
      for (const alarm of told) alarms.add(alarm);
      if (!plain && series.changed) dirty.add(series);
      if (work.recompute) dirty.add(series);
    }
    if (this.#patch(study, work.patches, touched, dirty)) changed = true;
    for (const series of dirty) {
      series.recomputeFrom(series.records(), this.#policy, corrections, merges);
      series.changed = true;
    }
    return { study, changed, series: touched };
  }

  /** Says to entries what controls said of them; what names no entry known yet waits. */
  #patch(
    study: Study,
    patches: readonly ControlPatch[],
    touched: readonly ElasticSeries[],
    dirty: Set<ElasticSeries>,
  ): boolean {
    if (patches.length === 0) return false;
    const byEntry = new Map<string, ControlPatch['control']>();
    for (const { id, control } of patches) byEntry.set(idKey(id), joinControl(byEntry.get(idKey(id)), control)!);
    for (const series of touched) {
      const any = series.update((record: EntryRecord) => {
        const key = idKey(record.id);
        const control = byEntry.get(key);
        if (!control) return false;
        byEntry.delete(key);
        record.control = joinControl(record.control, control)!;
        return true;
      });
      if (any) dirty.add(series);
    }
    for (const [key, control] of byEntry) study.state.pending[key] = joinControl(study.state.pending[key], control)!;
    return byEntry.size > 0;
  }

  /** The study's own document from what its series say. False: it says so already. */
  #sumUp(study: Study, touched: readonly ElasticSeries[], work: StudyWork, changed: boolean): boolean {
    const { source, state } = study;
    let summed = false;
    for (const series of touched) {
      const known = state.series[series.seriesInstanceUid];
      if (series.at === undefined || (known && known.revision >= series.revision)) continue;
      state.series[series.seriesInstanceUid] = series.summary(known?.metadata ?? '');
      summed = true;
    }
    const changedMs = Math.max(source.changedMs, work.newestMs);
    if (!summed && !changed && changedMs === source.changedMs && study.at) return false;
    source.changedMs = changedMs;
    if (work.unsettles && Object.keys(state.series).length > 0) source.settled = 0;
    if (summed) sumSeries(source, state);
    const holds = state.controls.filter((one) => one.kind === 'hold');
    source.hold = (holds.at(-1)?.body as { on: boolean } | undefined)?.on ?? false;
    if (summed) {
      const before = source.patient;
      const { doc } = documentOf(study);
      source.patient = source.instances > 0 ? patientOfStudy(source.uid, doc).key : '';
      if (before !== source.patient && before !== '') state.former.push(before);
      state.former = [...new Set(state.former)].filter((one) => one !== source.patient);
    }
    source.revision++;
    return true;
  }

  positions(tenant: string): Promise<Map<string, number>> {
    return this.#positions.of(tenant);
  }
  refuseGaps(): void {
    this.#acceptGaps = false;
  }
}
