import { hash } from 'node:crypto';
import type { At, Documents } from './documents-store.ts';

/** A tenant's lanes stand in so many documents: with 10^5 closed lanes each is some 300 kB, and a fold writes few of them. */
const BUCKETS = 16;
const bucketOf = (lane: string): number => hash('sha1', lane, 'buffer')[0]! % BUCKETS;

interface Body {
  body: string;
}
type Lanes = Record<string, number>;

export class Positions {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  #id = (tenant: string, bucket: number): string => `positions/${tenant}/${bucket}`;

  /** Of all lanes; or of some, and of what stands beside them. */
  async of(tenant: string, lanes?: Iterable<string>): Promise<Map<string, number>> {
    const buckets = lanes ? new Set([...lanes].map(bucketOf)) : Array(BUCKETS).keys();
    const ids = [...buckets].map((bucket) => this.#id(tenant, bucket));
    const found = await this.#documents.get<Body>('state', ids);
    return new Map([...found.values()].flatMap((one) => Object.entries(JSON.parse(one.source.body) as Lanes)));
  }

  /** Only forward: what another process has folded further stays. */
  async advance(tenant: string, reached: readonly { lane: string; sequence: number }[]): Promise<void> {
    let wanted = Map.groupBy(reached, ({ lane }) => bucketOf(lane));
    while (wanted.size > 0) {
      const ids = [...wanted.keys()].map((bucket) => this.#id(tenant, bucket));
      const found = await this.#documents.get<Body>('state', ids);
      const writes: { bucket: number; at: At | undefined; lanes: Lanes }[] = [];
      for (const [bucket, lanes] of wanted) {
        const before = found.get(this.#id(tenant, bucket));
        const after: Lanes = before ? (JSON.parse(before.source.body) as Lanes) : {};
        for (const { lane, sequence } of lanes) after[lane] = Math.max(after[lane] ?? 0, sequence);
        writes.push({ bucket, at: before?.at, lanes: after });
      }
      const done = await this.#documents.write(
        writes.map(({ bucket, at, lanes }) => ({
          index: 'state',
          id: this.#id(tenant, bucket),
          source: { tenant, kind: 'positions', body: JSON.stringify(lanes) },
          at,
        })),
      );
      const lost = writes.filter((_, index) => !done[index]).map(({ bucket }) => bucket);
      wanted = new Map([...wanted].filter(([bucket]) => lost.includes(bucket)));
    }
  }
}
