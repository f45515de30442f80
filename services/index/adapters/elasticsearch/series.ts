import { randomBytes } from 'node:crypto';
import { seriesDoc, textOf } from '../../fold/levels.ts';
import { idKey } from '../../fold/order.ts';
import type { EntryRecord } from '../../fold/types.ts';
import { BLOCK_ENTRIES_MAX, decodeBlock, encodeBlock } from '../../state/block.ts';
import { SeriesSums } from '../../state/series-sums.ts';
import { sopHash } from '../../state/sop-hash.ts';
import { decodeVariants, encodeVariants } from '../../state/variants.ts';
import { partsAbove, type SeriesSource, type SeriesSummary } from './documents.ts';
import type { At, Documents, Found, Write } from './documents-store.ts';
import { seriesId } from './schema.ts';

interface Block {
  id: string;
  entries: number;
  records: EntryRecord[];
  changed: boolean;
}

const base64 = (text: string): Buffer => Buffer.from(text, 'base64');

/** As a series' document names its blocks. */
export interface NamedBlock {
  id: string;
  entries: number;
}

/**
 * One series as a folding process holds it. Its document names the full blocks, which are never changed (what changes in one is written as
 * another), and carries the entries that do not fill one yet: so that a series is one state, whoever writes it.
 */
export class ElasticSeries extends SeriesSums {
  readonly tenant: string;
  readonly study: string;
  readonly id: string;
  at: At | undefined;
  blocks: Block[] = [];
  tail: EntryRecord[] = [];
  changed = false;
  /** Blocks that the document named before. */
  replaced: string[] = [];
  readonly #entries = new Set<string>();
  readonly #sops = new Set<string>();

  constructor(tenant: string, study: string, seriesInstanceUid: string) {
    super(seriesInstanceUid);
    this.tenant = tenant;
    this.study = study;
    this.id = seriesId(tenant, study, seriesInstanceUid);
  }

  static blocksOf = ({ source }: Found<SeriesSource>): NamedBlock[] => JSON.parse(source.blocks) as NamedBlock[];

  /** undefined: a block is gone, because the document has been written anew since. */
  static from(
    found: Found<SeriesSource>,
    blocks: ReadonlyMap<string, Found<{ data: string }>>,
  ): ElasticSeries | undefined {
    const { source } = found;
    const series = new ElasticSeries(source.tenant, source.study, source.uid);
    Object.assign(series, JSON.parse(source.sums));
    series.at = found.at;
    series.revision = source.revision;
    series.takeVariants(decodeVariants(base64(source.variants)));
    for (const { id, entries } of ElasticSeries.blocksOf(found)) {
      const block = blocks.get(id);
      if (!block) return undefined;
      series.blocks.push({ id, entries, records: decodeBlock(base64(block.source.data)), changed: false });
    }
    series.tail = decodeBlock(base64(source.tail));
    for (const record of series.records()) series.#know(record);
    return series;
  }

  #know(record: EntryRecord): void {
    this.#entries.add(idKey(record.id));
    this.#sops.add(record.sopInstanceUid);
  }
  hasEntry(key: string): boolean {
    return this.#entries.has(key);
  }
  hasSop(sopInstanceUid: string): boolean {
    return this.#sops.has(sopInstanceUid);
  }

  records(): EntryRecord[] {
    return [...this.blocks.flatMap((block) => block.records), ...this.tail];
  }

  append(record: EntryRecord): void {
    this.#know(record);
    this.tail.push(record);
    this.changed = true;
    if (this.tail.length < BLOCK_ENTRIES_MAX) return;
    this.blocks.push({ id: '', entries: this.tail.length, records: this.tail, changed: true });
    this.tail = [];
  }

  /** Applies `change` to each record; where it answers true, the record's block is written again. */
  update(change: (record: EntryRecord) => boolean): boolean {
    let any = false;
    for (const block of this.blocks) for (const record of block.records) if (change(record)) any = block.changed = true;
    for (const record of this.tail) if (change(record)) any = true;
    if (any) this.changed = true;
    return any;
  }

  get held(): number {
    return this.#entries.size;
  }

  summary(metadata: string): SeriesSummary {
    const { revision, firstOrder, instances, bytes, trashInstances, trashBytes, conflicts, compactable } = this;
    return {
      revision,
      firstOrder,
      number: textOf(seriesDoc(this.effective).attributes['00200011']),
      instances,
      bytes,
      trashInstances,
      trashBytes,
      conflicts,
      compactable,
      parts: partsAbove(this.effective),
      metadata,
    };
  }

  /** Blocks first, then the document that names them. */
  writes(): { blocks: Write[]; document: Write } {
    const { tenant, study, id } = this;
    this.revision++;
    const blocks: Write[] = [];
    const sops = (records: readonly EntryRecord[]) => [
      ...new Set(records.map((one) => sopHash(tenant, one.sopInstanceUid))),
    ];
    for (const block of this.blocks) {
      if (!block.changed) continue;
      if (block.id !== '') this.replaced.push(block.id);
      block.id = `${id}/${randomBytes(6).toString('base64url')}`;
      block.changed = false;
      const source = {
        tenant,
        study,
        series: this.seriesInstanceUid,
        data: encodeBlock(block.records).toString('base64'),
        sops: sops(block.records),
      };
      blocks.push({ index: 'blocks', id: block.id, source, at: undefined });
    }
    const doc = seriesDoc(this.effective);
    const { firstOrder, instances, bytes, trashInstances, trashBytes, conflicts, compactable } = this;
    const source: SeriesSource = {
      tenant,
      study,
      uid: this.seriesInstanceUid,
      firstOrder,
      number: textOf(doc.attributes['00200011']),
      instances,
      conflicts,
      sums: JSON.stringify({ firstOrder, instances, bytes, trashInstances, trashBytes, conflicts, compactable }),
      revision: this.revision,
      doc: JSON.stringify(doc),
      variants: encodeVariants(this.raw, this.effective).toString('base64'),
      blocks: JSON.stringify(this.blocks.map((block) => ({ id: block.id, entries: block.entries }))),
      tail: encodeBlock(this.tail).toString('base64'),
      sops: sops(this.tail),
    };
    return { blocks, document: { index: 'series', id, source, at: this.at } };
  }
}

/** Series by id; a document whose blocks went meanwhile is read again. */
export async function loadSeries(documents: Documents, ids: Iterable<string>): Promise<Map<string, ElasticSeries>> {
  const loaded = new Map<string, ElasticSeries>();
  let wanted = [...new Set(ids)];
  for (let attempt = 0; wanted.length > 0; attempt++) {
    if (attempt === LOAD_ATTEMPTS) throw new Error('a series names blocks that are not there');
    const found = await documents.get<SeriesSource>('series', wanted);
    const blocks = await documents.get<{ data: string }>(
      'blocks',
      [...found.values()].flatMap((one) => ElasticSeries.blocksOf(one).map((block) => block.id)),
    );
    const again: string[] = [];
    for (const [id, one] of found) {
      const series = ElasticSeries.from(one, blocks);
      if (series) loaded.set(id, series);
      else again.push(id);
    }
    wanted = again;
  }
  return loaded;
}
const LOAD_ATTEMPTS = 10;
