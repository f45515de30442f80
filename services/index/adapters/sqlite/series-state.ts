import type { DatabaseSync } from 'node:sqlite';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { type Correction, correct, correctionsFor, identify, type Merge } from '../../fold/correct.ts';
import { compactableOf, inLog, orderOfRecord, viewSeries } from '../../fold/instance.ts';
import { seriesDoc, textOf, type Variant } from '../../fold/levels.ts';
import type { EntryRecord, JsonAttributes, VersionPolicy } from '../../fold/types.ts';
import { decodeBlock, encodeBlock } from './block.ts';
import { BLOCK_ENTRIES_MAX, blockId, statement } from './schema.ts';

/** A block still growing is rewritten whole by each commit: short ones keep that cheap, and sixteen of them become one full block. */
const TAIL_ENTRIES = 32;
const SMALL_BLOCKS_MAX = 16;

interface Block {
  n: number;
  entries: number;
  records?: EntryRecord[] | undefined;
  changed: boolean;
}

/** One series as the writer holds it: counts and variants always, blocks when somebody looked. */
export class SeriesState {
  id = 0;
  readonly studyId: number;
  readonly seriesInstanceUid: string;
  firstOrder = '';
  instances = 0;
  bytes = 0;
  trashInstances = 0;
  trashBytes = 0;
  conflicts = 0;
  compactable = 0;
  revision = 0;
  /** As the headers said; a record's `variant` is an index into it. */
  raw: JsonAttributes[] = [];
  /** What the live instances carry, corrections and merges laid over. */
  effective: (Variant & { variant?: number })[] = [];
  blocks: Block[] = [];
  /** The set of effective variants, or which is first, has changed: rows above must be written anew. */
  docChanged = true;
  #rawIndex = new Map<string, number>();

  constructor(studyId: number, seriesInstanceUid: string) {
    this.studyId = studyId;
    this.seriesInstanceUid = seriesInstanceUid;
  }

  static load(db: DatabaseSync, studyId: number, seriesInstanceUid: string): SeriesState {
    const state = new SeriesState(studyId, seriesInstanceUid);
    const row = statement(db, 'SELECT * FROM series WHERE study = ? AND series_instance_uid = ?').get(
      studyId,
      seriesInstanceUid,
    );
    if (!row) return state;
    state.id = row.id as number;
    state.firstOrder = row.first_order as string;
    state.instances = row.instances as number;
    state.bytes = row.bytes as number;
    state.trashInstances = row.trash_instances as number;
    state.trashBytes = row.trash_bytes as number;
    state.conflicts = row.conflicts as number;
    state.compactable = row.compactable as number;
    state.revision = row.revision as number;
    const { raw, effective } = decodeVariants(row.variants as Uint8Array);
    state.raw = raw;
    state.effective = effective;
    for (const [index, attributes] of raw.entries()) state.#rawIndex.set(JSON.stringify(attributes), index);
    state.docChanged = false;
    for (const block of statement(db, 'SELECT id, entries FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id').iterate(
      blockId(state.id, 0),
      blockId(state.id, 2 ** 20 - 1),
    ))
      state.blocks.push({ n: (block.id as number) % 2 ** 20, entries: block.entries as number, changed: false });
    return state;
  }

  variantOf(attributes: JsonAttributes): number {
    const text = JSON.stringify(attributes);
    let index = this.#rawIndex.get(text);
    if (index === undefined) {
      this.#rawIndex.set(text, (index = this.raw.length));
      this.raw.push(attributes);
    }
    return index;
  }

  get recordsHeld(): number {
    return this.blocks.reduce((sum, one) => sum + (one.records?.length ?? 0), 0);
  }

  #records(db: DatabaseSync, block: Block): EntryRecord[] {
    if (!block.records) {
      const row = statement(db, 'SELECT data FROM blocks WHERE id = ?').get(blockId(this.id, block.n));
      block.records = decodeBlock(row!.data as Uint8Array);
    }
    return block.records;
  }

  allRecords(db: DatabaseSync): EntryRecord[] {
    return this.blocks.flatMap((block) => this.#records(db, block));
  }

  /** Applies `change` to each record; where it answers true, the record's block is written again. */
  update(db: DatabaseSync, change: (record: EntryRecord) => boolean): boolean {
    let any = false;
    for (const block of this.blocks)
      for (const record of this.#records(db, block)) if (change(record)) any = block.changed = true;
    return any;
  }

  append(db: DatabaseSync, records: readonly EntryRecord[]): void {
    let from = 0;
    while (from < records.length) {
      let tail = this.blocks.at(-1);
      if (!tail || tail.entries >= TAIL_ENTRIES) {
        tail = { n: (tail?.n ?? -1) + 1, entries: 0, records: [], changed: true };
        this.blocks.push(tail);
      }
      const held = this.#records(db, tail);
      const taken = records.slice(from, from + BLOCK_ENTRIES_MAX - held.length);
      held.push(...taken);
      tail.entries = held.length;
      tail.changed = true;
      from += taken.length;
    }
    let small = 0;
    while (small < this.blocks.length && this.blocks.at(-1 - small)!.entries < BLOCK_ENTRIES_MAX) small++;
    if (small >= SMALL_BLOCKS_MAX) this.merge(db, this.blocks.length - small);
  }

  /** All short blocks into full ones. Nothing that a query can see changes, so the revision stays. */
  joinBlocks(db: DatabaseSync): void {
    const first = this.blocks.findIndex((one) => one.entries < BLOCK_ENTRIES_MAX);
    if (first < 0 || first === this.blocks.length - 1) return;
    this.merge(db, first);
    this.#saveBlocks(db);
  }

  /** Joins the blocks from the given one on into full ones. */
  merge(db: DatabaseSync, first: number): void {
    const old = this.blocks.slice(first);
    if (old.length < 2) return;
    const records = old.flatMap((block) => this.#records(db, block));
    const n = old[0]!.n;
    for (const block of old) statement(db, 'DELETE FROM blocks WHERE id = ?').run(blockId(this.id, block.n));
    this.blocks.length = first;
    for (let from = 0; from < records.length; from += BLOCK_ENTRIES_MAX) {
      const taken = records.slice(from, from + BLOCK_ENTRIES_MAX);
      this.blocks.push({ n: n + from / BLOCK_ENTRIES_MAX, entries: taken.length, records: taken, changed: true });
    }
  }

  /** A SOP instance that the series did not have, about which nothing was said: what `recompute` would find, without looking. */
  addFresh(record: EntryRecord, merges: ReadonlyMap<string, Merge>): void {
    const order = orderOfRecord(record);
    this.instances++;
    this.bytes += record.place.length;
    if (inLog(record)) this.compactable++;
    let effective = this.effective.find((one) => one.variant === record.variant);
    if (!effective) {
      effective = { order, variant: record.variant, attributes: identify(this.raw[record.variant]!, merges) };
      this.effective.push(effective);
      this.docChanged = true;
    } else if (order < effective.order) {
      effective.order = order;
      this.docChanged = true;
    }
    if (this.firstOrder === '' || order < this.firstOrder) this.firstOrder = order;
  }

  /** From the entries alone: the path for everything but fresh instances. */
  recompute(
    db: DatabaseSync,
    policy: VersionPolicy,
    corrections: readonly Correction[],
    merges: ReadonlyMap<string, Merge>,
  ): void {
    this.instances = this.bytes = this.trashInstances = this.trashBytes = this.conflicts = this.compactable = 0;
    this.firstOrder = '';
    this.effective = [];
    this.docChanged = true;
    const own = corrections.filter(
      (one) => one.seriesInstanceUid === '' || one.seriesInstanceUid === this.seriesInstanceUid,
    );
    const corrected = new Set(own.map((one) => one.sopInstanceUid));
    const byVariant = new Map<number, Variant & { variant?: number }>();
    for (const view of viewSeries(this.allRecords(db), policy)) {
      if (view.trashed.length > 0) this.trashInstances++;
      for (const one of view.trashed) this.trashBytes += one.place.length;
      if (view.conflict) this.conflicts++;
      this.compactable += compactableOf(view);
      const { shown } = view;
      if (!shown) continue;
      this.instances++;
      this.bytes += shown.place.length;
      const order = orderOfRecord(shown);
      if (this.firstOrder === '' || order < this.firstOrder) this.firstOrder = order;
      const alone = corrected.has(shown.sopInstanceUid);
      const known = alone ? undefined : byVariant.get(shown.variant);
      if (known) {
        if (order < known.order) known.order = order;
        continue;
      }
      const over = correctionsFor(own, this.seriesInstanceUid, alone ? shown.sopInstanceUid : '');
      const attributes = identify(correct(this.raw[shown.variant]!, over), merges);
      const effective: Variant & { variant?: number } = { order, attributes };
      if (over.length === 0) effective.variant = shown.variant;
      if (!alone) byVariant.set(shown.variant, effective);
      this.effective.push(effective);
    }
  }

  /** Gives a new series its id. */
  create(db: DatabaseSync): void {
    if (this.id === 0) {
      const { lastInsertRowid } = statement(
        db,
        `INSERT INTO series (study, series_instance_uid, first_order, modality, series_number, instances, bytes, trash_instances,
         trash_bytes, conflicts, compactable, revision, metadata, doc, variants) VALUES (?, ?, '', '', '', 0, 0, 0, 0, 0, 0, 0, '', '', x'')`,
      ).run(this.studyId, this.seriesInstanceUid);
      this.id = Number(lastInsertRowid);
    }
  }

  save(db: DatabaseSync): void {
    this.revision++;
    this.create(db);
    const { id } = this;
    statement(
      db,
      `UPDATE series SET first_order = ?, instances = ?, bytes = ?, trash_instances = ?, trash_bytes = ?, conflicts = ?, compactable = ?, revision = ?
       WHERE id = ?`,
    ).run(
      this.firstOrder,
      this.instances,
      this.bytes,
      this.trashInstances,
      this.trashBytes,
      this.conflicts,
      this.compactable,
      this.revision,
      id,
    );
    if (this.docChanged) {
      const doc = seriesDoc(this.effective);
      statement(db, 'UPDATE series SET modality = ?, series_number = ?, doc = ?, variants = ? WHERE id = ?').run(
        textOf(doc.attributes['00080060']),
        textOf(doc.attributes['00200011']),
        JSON.stringify(doc),
        encodeVariants(this.raw, this.effective),
        id,
      );
    }
    this.#saveBlocks(db);
  }

  #saveBlocks(db: DatabaseSync): void {
    for (const block of this.blocks) {
      if (!block.changed) continue;
      block.changed = false;
      statement(db, 'INSERT OR REPLACE INTO blocks (id, entries, data) VALUES (?, ?, ?)').run(
        blockId(this.id, block.n),
        block.entries,
        encodeBlock(block.records!),
      );
    }
  }
}

/**
 * Variants mostly differ from the first in an attribute or two (a scanner that writes each image's own SeriesTime makes hundreds), so only
 * that is written.
 */
interface Difference {
  set: JsonAttributes;
  unset: string[];
}
interface StoredVariants {
  base: JsonAttributes;
  raw: Difference[];
  effective: { order: string; variant?: number | undefined; differs?: Difference }[];
}

function differenceOf(base: JsonAttributes, attributes: JsonAttributes): Difference {
  const set: JsonAttributes = {};
  for (const [key, element] of Object.entries(attributes))
    if (base[key] !== element && JSON.stringify(base[key]) !== JSON.stringify(element)) set[key] = element;
  return { set, unset: Object.keys(base).filter((key) => !(key in attributes)) };
}

/** In tag order, as `describe` gives them: equal sets of attributes are equal texts. */
function withDifference(base: JsonAttributes, { set, unset }: Difference): JsonAttributes {
  const all = { ...base, ...set };
  for (const key of unset) delete all[key];
  const attributes: JsonAttributes = {};
  for (const key of Object.keys(all).sort()) attributes[key] = all[key]!;
  return attributes;
}

function encodeVariants(raw: JsonAttributes[], effective: (Variant & { variant?: number })[]): Buffer {
  const base = raw[0] ?? {};
  const stored: StoredVariants = {
    base,
    raw: raw.map((one) => differenceOf(base, one)),
    effective: effective.map(({ order, variant, attributes }) =>
      variant !== undefined && attributes === raw[variant]
        ? { order, variant }
        : { order, variant, differs: differenceOf(base, attributes) },
    ),
  };
  return zstdCompressSync(JSON.stringify(stored));
}

export function decodeVariants(data: Uint8Array): {
  raw: JsonAttributes[];
  effective: (Variant & { variant?: number })[];
} {
  if (data.length === 0) return { raw: [], effective: [] };
  const stored = JSON.parse(zstdDecompressSync(data).toString('utf8')) as StoredVariants;
  const raw = stored.raw.map((one) => withDifference(stored.base, one));
  const effective = stored.effective.map(({ order, variant, differs }) => {
    const one: Variant & { variant?: number } = {
      order,
      attributes: differs ? withDifference(stored.base, differs) : raw[variant!]!,
    };
    if (variant !== undefined) one.variant = variant;
    return one;
  });
  return { raw, effective };
}
