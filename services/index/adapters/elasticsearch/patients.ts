import { setTimeout as sleep } from 'node:timers/promises';
import { GantryError } from '#platform/errors.ts';
import { PATIENT_VARIANTS_MAX, patientDoc, patientParts } from '../../state/study-docs.ts';
import { lookedUpBy, type PatientSource, type PatientState, type PatientStudy } from './documents.ts';
import type { Documents, Found, Write } from './documents-store.ts';
import { patientId } from './schema.ts';
import { ATTEMPTS, STUDIES_HELD_MAX, type Study, variantsOf } from './study.ts';

interface PatientWork {
  study: string;
  revision: number;
  /** undefined: the study is no longer this patient's. */
  entry: PatientStudy | undefined;
  parts: Map<string, string>;
}

/** Patients as the studies of a fold say them: each keeps the set of its studies, by their revisions, so that whoever comes later knows more. */
export class ElasticPatients {
  readonly #documents: Documents;
  readonly #held = new Map<string, Found<PatientSource>>();

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  /** What is held may no longer be what Elasticsearch has. */
  forget(): void {
    this.#held.clear();
  }
  evict(): void {
    for (const id of this.#held.keys()) {
      if (this.#held.size <= STUDIES_HELD_MAX) break;
      this.#held.delete(id);
    }
  }

  async join(tenant: string, studies: readonly Study[]): Promise<void> {
    let left: { key: string; work: PatientWork }[] = [];
    for (const { source, state } of studies) {
      if (source.patient !== '') {
        const variants = variantsOf(state);
        const parts = patientParts(variants);
        const first = variants.reduce((a, b) => (b.order < a.order ? b : a));
        const entry: PatientStudy = {
          revision: source.revision,
          order: source.firstOrder,
          first: [...patientParts([first]).keys()][0]!,
          digests: [...parts.keys()].sort(),
        };
        left.push({ key: source.patient, work: { study: source.uid, revision: source.revision, entry, parts } });
      }
      for (const key of state.former)
        left.push({ key, work: { study: source.uid, revision: source.revision, entry: undefined, parts: new Map() } });
    }
    for (let attempt = 0; left.length > 0; attempt++) {
      if (attempt === ATTEMPTS)
        throw new GantryError('unavailable', 'other processes keep writing the patients that this one folds');
      if (attempt > 0) await sleep(Math.random() * Math.min(500, 5 * 2 ** attempt));
      const byPatient = Map.groupBy(left, (one) => one.key);
      const ids = new Map([...byPatient.keys()].map((key) => [key, patientId(tenant, key)]));
      const found = await this.#documents.get<PatientSource>(
        'patients',
        [...ids.values()].filter((id) => !this.#held.has(id)),
      );
      for (const [id, one] of found) this.#held.set(id, one);
      const writes: { key: string; write: Write; source: PatientSource }[] = [];
      for (const [key, works] of byPatient) {
        const id = ids.get(key)!;
        const known = this.#held.get(id);
        const source = patientWith(
          tenant,
          key,
          known?.source,
          works.map((one) => one.work),
        );
        if (source) writes.push({ key, source, write: { index: 'patients', id, source, at: known?.at } });
      }
      const done = await this.#documents.write(writes.map((one) => one.write));
      const lost = new Set<string>();
      for (const [index, { key, write, source }] of writes.entries()) {
        const at = done[index];
        if (at) this.#held.set(write.id, { at, source });
        else {
          lost.add(key);
          this.#held.delete(write.id);
        }
      }
      left = left.filter((one) => lost.has(one.key));
    }
  }
}

/** undefined: the patient's document says all that already. */
function patientWith(
  tenant: string,
  key: string,
  before: PatientSource | undefined,
  works: readonly PatientWork[],
): PatientSource | undefined {
  const state: PatientState = before ? (JSON.parse(before.state) as PatientState) : { studies: {}, parts: {} };
  let changed = false;
  for (const { study, revision, entry, parts } of works) {
    const known = state.studies[study];
    if (known && known.revision > revision) continue;
    if (entry === undefined) {
      if (known?.gone) continue;
      state.studies[study] = { revision, order: '', first: '', digests: [], gone: true };
    } else {
      if (known && JSON.stringify({ ...known, revision }) === JSON.stringify(entry)) continue;
      state.studies[study] = entry;
      for (const [digest, text] of parts) state.parts[digest] = text;
    }
    changed = true;
  }
  if (!changed) return undefined;
  const live = Object.values(state.studies).filter((one) => !one.gone);
  const used = new Set(live.flatMap((one) => one.digests));
  for (const digest of Object.keys(state.parts)) if (!used.has(digest)) delete state.parts[digest];
  const source: PatientSource = { tenant, key, live: live.length > 0 ? 1 : 0, doc: '{}', state: JSON.stringify(state) };
  if (live.length === 0) return source;
  const winner = live.reduce((a, b) => (b.order < a.order ? b : a));
  const digests = Object.keys(state.parts)
    .sort()
    .slice(0, PATIENT_VARIANTS_MAX + 1);
  const doc = patientDoc(
    JSON.parse(state.parts[winner.first]!),
    digests.map((digest) => state.parts[digest]!),
  );
  return Object.assign(source, lookedUpBy(doc), { doc: JSON.stringify(doc) });
}
