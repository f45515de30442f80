import { hexOf, Tag } from '#dicom/tags.ts';
import { lastMerges, type Merge, patientIdsOf } from '../../fold/correct.ts';
import type { KeptControl } from '../../state/commits.ts';
import { keyText } from '../../state/keys.ts';
import { asked } from './client.ts';
import type { Documents } from './documents-store.ts';
import { cut } from './schema.ts';

/** All that were folded, superseded ones too. */
const keptIn = (body: string): Merge[] =>
  (JSON.parse(body) as KeptControl[]).map((one) => ({ ...(one.body as Omit<Merge, 'order'>), order: one.sort }));
export const mergesIn = (body: string): Map<string, Merge> => lastMerges(keptIn(body));

/** What is known of merges, one document a tenant. */
export class ElasticMerges {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  async read(tenant: string): Promise<{ last: Map<string, Merge>; version: string }> {
    const found = await this.#documents.one<{ body: string }>('state', `merges/${tenant}`);
    if (!found) return { last: new Map(), version: '' };
    return { last: mergesIn(found.source.body), version: `${found.at.term}/${found.at.seqNo}` };
  }

  async keep(tenant: string, identities: readonly KeptControl[]): Promise<void> {
    for (;;) {
      const id = `merges/${tenant}`;
      const found = await this.#documents.one<{ body: string }>('state', id);
      const kept = new Map(
        (found ? (JSON.parse(found.source.body) as KeptControl[]) : []).map((one) => [one.sort, one]),
      );
      const before = kept.size;
      for (const one of identities) kept.set(one.sort, one);
      if (kept.size === before) return;
      const source = { tenant, kind: 'merges', body: JSON.stringify([...kept.values()]) };
      const [done] = await this.#documents.write([{ index: 'state', id, source, at: found?.at }]);
      if (done) return;
    }
  }

  /**
   * The studies whose patient any merge may have changed. The one search of the fold: after a refresh it sees every study that was
   * acknowledged, and whoever writes one later looks at the merges again behind it.
   */
  async studiesOfMerged(tenant: string): Promise<string[]> {
    const found = await this.#documents.one<{ body: string }>('state', `merges/${tenant}`);
    const ids = patientIdsOf(found ? keptIn(found.source.body) : []);
    await this.#documents.refresh('studies');
    const studies: string[] = [];
    let after: [string] | undefined;
    for (;;) {
      const { hits } = await asked('looking for the studies of a patient', () =>
        this.#documents.client.search<{ uid: string }>({
          index: this.#documents.name('studies'),
          size: 1_000,
          _source: ['uid'],
          track_total_hits: false,
          allow_partial_search_results: false,
          query: {
            bool: {
              filter: [
                { term: { tenant } },
                { terms: { [`k${hexOf(Tag.PatientID)}`]: [...ids].map((one) => cut(keyText('LO', one))) } },
              ],
            },
          },
          sort: [{ uid: 'asc' }],
          ...(after ? { search_after: after } : {}),
        }),
      );
      for (const hit of hits.hits) studies.push(hit._source!.uid);
      if (hits.hits.length < 1_000) return studies;
      after = [studies.at(-1)!];
    }
  }
}
