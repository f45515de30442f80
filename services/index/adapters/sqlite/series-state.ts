import type { DatabaseSync } from 'node:sqlite';
import type { Correction, Merge } from '../../fold/correct.ts';
import { seriesDoc, textOf } from '../../fold/levels.ts';
import type { EntryRecord, VersionPolicy } from '../../fold/types.ts';
import { BLOCK_ENTRIES_MAX, decodeBlock, encodeBlock } from '../../state/block.ts';
import { SeriesSums } from '../../state/series-sums.ts';
import { decodeVariants, encodeVariants } from '../../state/variants.ts';
import { blockId, statement } from './schema.ts';

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
export class SeriesState extends SeriesSums {
  id = 0;
  readonly studyId: number;
  blocks: Block[] = [];

  constructor(studyId: number, seriesInstanceUid: string) {
    super(seriesInstanceUid);
    this.studyId = studyId;
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
    state.takeVariants(decodeVariants(row.variants as Uint8Array));
    for (const block of statement(db, 'SELECT id, entries FROM blocks WHERE id BETWEEN ? AND ? ORDER BY id').iterate(
      blockId(state.id, 0),
      blockId(state.id, 2 ** 20 - 1),
    ))
      state.blocks.push({ n: (block.id as number) % 2 ** 20, entries: block.entries as number, changed: false });
    return state;
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

  recompute(
    db: DatabaseSync,
    policy: VersionPolicy,
    corrections: readonly Correction[],
    merges: ReadonlyMap<string, Merge>,
  ): void {
    this.recomputeFrom(this.allRecords(db), policy, corrections, merges);
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
