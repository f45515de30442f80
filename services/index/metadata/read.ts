import { hash } from 'node:crypto';
import type { EntryId } from '#proto/storage/v1/log.ts';
import { correctionsOf, mergesOf } from '../adapters/sqlite/controls.ts';
import { type Header, type RecentHeads, recentHeads } from '../adapters/sqlite/heads.ts';
import { instancesOf } from '../adapters/sqlite/read.ts';
import { type Database, statement } from '../adapters/sqlite/schema.ts';
import { type Correction, correctionsFor, type Merge } from '../fold/correct.ts';
import { dataSetOf } from '../fold/describe.ts';
import { idKey } from '../fold/order.ts';
import type { EntryRecord, InstanceView, JsonAttributes } from '../fold/types.ts';
import {
  type MetadataEntry,
  type MetadataObject,
  metadataExists,
  withMetadataObject,
  writeMetadataObject,
} from './object.ts';
import { correctedText, instanceText, ROOT_MARK } from './text.ts';

const ROOT_MARK_TEXT = String.fromCharCode(ROOT_MARK);

export interface SeriesRow {
  id: number;
  study: number;
  tenant: number;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  revision: number;
  metadata: string;
}

export const SERIES_ROW = `SELECT series.id, series.study, studies.tenant, study_instance_uid AS studyInstanceUid,
  series_instance_uid AS seriesInstanceUid, revision, metadata FROM series JOIN studies ON studies.id = series.study`;

/** Headers that neither the index nor a metadata object has: they are to be read from the log again (`recover`). */
export class MissingHeads extends Error {
  readonly entries: EntryId[];
  constructor(entries: EntryId[]) {
    super(`${entries.length} headers are missing`);
    this.name = 'MissingHeads';
    this.entries = entries;
  }
}

const versionOf = (record: EntryRecord): string => record.version.toString('hex');

/**
 * What is known of a series' instances beyond their rows. Equal bytes have one header, whichever entry brought it, so everything is by
 * version. Views and texts are kept between queries, up to a limit: a growing series converts only what is new.
 */
export class MetadataReader {
  readonly #directory: string;
  readonly #bytesMax: number;
  readonly #held = new Map<number, Held>();
  #bytes = 0;

  constructor(directory: string, bytesMax: number) {
    this.#directory = directory;
    this.#bytesMax = bytesMax;
  }

  views(db: Database, row: SeriesRow): InstanceView[] {
    const held = this.#of(row.id);
    if (!held.views || held.revision !== row.revision) {
      held.views = instancesOf(db, row.id);
      held.revision = row.revision;
      this.#weigh(row.id, held);
    }
    return held.views;
  }

  /** Headers for these entries of the series, in their order. */
  heads(db: Database, row: SeriesRow, records: readonly EntryRecord[]): Header[] {
    const found = this.#find(db, row, records, (object, version) => object.head(version));
    return records.map((record) => found.get(versionOf(record))!);
  }

  /** Fails now with what `texts` would fail with later: before the first byte of an answer is out. */
  ensure(db: Database, row: SeriesRow, records: readonly EntryRecord[]): void {
    const { texts } = this.#of(row.id);
    const lacking = records.filter((record) => !texts.has(versionOf(record)));
    if (lacking.length > 0)
      this.#find(db, row, lacking, (object, version) => (object.spots.has(version) ? THERE : undefined));
  }

  /** DICOM JSON texts with root marks, corrections laid over. */
  texts(db: Database, row: SeriesRow, records: readonly EntryRecord[]): Buffer[] {
    const held = this.#of(row.id);
    const corrections = correctionsOf(db, row.tenant, row.studyInstanceUid);
    const merges = mergesOf(db, row.tenant);
    // Whatever corrections there are now: text kept under others is not used again.
    const state = `${corrections.map((one) => one.order).join()}|${[...merges.values()].map((one) => one.order).join()}`;
    if (held.state !== state) {
      held.state = state;
      held.texts.clear();
    }
    const lacking = records.filter((record) => !held.texts.has(versionOf(record)));
    if (lacking.length > 0) {
      for (const [version, text] of this.#convert(db, row, lacking, corrections, merges)) held.texts.set(version, text);
      this.#weigh(row.id, held);
    }
    return records.map((record) => held.texts.get(versionOf(record))!);
  }

  #convert(
    db: Database,
    row: SeriesRow,
    records: readonly EntryRecord[],
    corrections: readonly Correction[],
    merges: ReadonlyMap<string, Merge>,
  ): Map<string, Buffer> {
    const texts = new Map<string, Buffer>();
    const ready = row.metadata === '' ? undefined : this.#objectTexts(row.metadata, records);
    const lacking = records.filter((record) => !ready?.has(versionOf(record)));
    const headers = lacking.length > 0 ? this.heads(db, row, lacking) : [];
    const plain = new Map<string, Buffer>(ready);
    lacking.forEach((record, index) => {
      plain.set(versionOf(record), plainText(row, record, headers[index]!));
    });
    for (const record of records) {
      const over = correctionsFor(corrections, row.seriesInstanceUid, record.sopInstanceUid);
      texts.set(versionOf(record), correctedText(plain.get(versionOf(record))!, over, merges));
    }
    return texts;
  }

  #objectTexts(name: string, records: readonly EntryRecord[]): Map<string, Buffer> | undefined {
    try {
      return withMetadataObject(this.#directory, name, (object) => {
        const texts = new Map<string, Buffer>();
        for (const record of records) {
          const text = object.json(versionOf(record));
          if (text) texts.set(versionOf(record), text);
        }
        return texts;
      });
    } catch {
      return undefined; // damaged: its headers are looked for elsewhere, and the next settling writes it again
    }
  }

  #find(
    db: Database,
    row: SeriesRow,
    records: readonly EntryRecord[],
    take: (object: MetadataObject, version: string) => Header | undefined,
  ): Map<string, Header> {
    const found = new Map<string, Header>();
    if (row.metadata !== '') {
      try {
        withMetadataObject(this.#directory, row.metadata, (object) => {
          for (const record of records) {
            const header = take(object, versionOf(record));
            if (header) found.set(versionOf(record), header);
          }
        });
      } catch {
        // Damaged: what it does not give is missing, and is read from the log again.
      }
    }
    if (records.some((record) => !found.has(versionOf(record)))) {
      const held = this.#of(row.id);
      const before = held.recent;
      this.#takeRecent(db, row, records, (held.recent = recentHeads(db, row.id, before)), found);
      // Row numbers are used again: what was kept may be of rows that went, and came anew.
      if (before && records.some((record) => !found.has(versionOf(record))))
        this.#takeRecent(db, row, records, (held.recent = recentHeads(db, row.id)), found);
      this.#weigh(row.id, held);
    }
    const missing = records.filter((record) => !found.has(versionOf(record)));
    if (missing.length > 0) throw new MissingHeads(missing.map((record) => record.id));
    return found;
  }

  #takeRecent(
    db: Database,
    row: SeriesRow,
    records: readonly EntryRecord[],
    { heads }: RecentHeads,
    found: Map<string, Header>,
  ): void {
    if (heads.size === 0) return;
    for (const record of records) {
      const header = heads.get(idKey(record.id));
      if (header && !found.has(versionOf(record))) found.set(versionOf(record), header);
    }
    const wanted = new Set(records.map(versionOf).filter((version) => !found.has(version)));
    if (wanted.size === 0) return;
    // Any entry of the version will do: what shows may have come again, or before.
    for (const view of this.views(db, row))
      for (const record of entriesOf(view)) {
        const header = wanted.has(versionOf(record)) ? heads.get(idKey(record.id)) : undefined;
        if (header && !found.has(versionOf(record))) found.set(versionOf(record), header);
      }
  }

  /**
   * Writes the series' metadata object: every version that is not purged, so that what is restored from the trash has its header too.
   * Its name is a digest of what stands in it: a rebuild finds it written already.
   */
  write(db: Database, row: SeriesRow): string {
    const views = this.views(db, row);
    const records = [...new Map(views.flatMap(headed).map((record) => [versionOf(record), record])).values()].sort(
      (a, b) => (versionOf(a) < versionOf(b) ? -1 : 1),
    );
    if (records.length === 0) return '';
    const digest = hash(
      'sha256',
      [row.tenant, row.studyInstanceUid, row.seriesInstanceUid, ...records.map(versionOf)].join('\u0000'),
      'hex',
    );
    const name = `${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest.slice(4, 40)}.gmo`;
    if (metadataExists(this.#directory, name)) return name;
    const headers = this.heads(db, row, records);
    const entries = records.map((record, index): MetadataEntry => {
      const header = headers[index]!;
      return { version: versionOf(record), ...header, json: plainText(row, record, header) };
    });
    writeMetadataObject(`${this.#directory}/metadata/${name}`, entries);
    return name;
  }

  #of(series: number): Held {
    const held = this.#held.get(series) ?? { revision: -1, state: '', texts: new Map<string, Buffer>(), bytes: 0 };
    this.#held.delete(series);
    this.#held.set(series, held);
    return held;
  }

  #weigh(series: number, held: Held): void {
    this.#bytes -= held.bytes;
    held.bytes = (held.views?.length ?? 0) * RECORD_BYTES + (held.recent?.bytes ?? 0);
    for (const text of held.texts.values()) held.bytes += text.length;
    this.#bytes += held.bytes;
    for (const [other, one] of this.#held) {
      if (this.#bytes <= this.#bytesMax) break;
      if (other === series) continue;
      this.#bytes -= one.bytes;
      this.#held.delete(other);
    }
  }
}

const THERE: Header = { head: Buffer.alloc(0), charset: '' };

interface Held {
  revision: number;
  views?: InstanceView[];
  state: string; // of the corrections in `texts`
  texts: Map<string, Buffer>;
  /** Headers of a series that has not settled. */
  recent?: RecentHeads;
  bytes: number;
}
/** A decoded entry in memory, about. */
const RECORD_BYTES = 900;

const entriesOf = (view: InstanceView): EntryRecord[] => [
  ...(view.shown ? [view.shown] : []),
  ...view.renditions,
  ...view.hidden,
  ...view.trashed,
  ...view.kept,
  ...view.spare,
];
const headed = (view: InstanceView): EntryRecord[] => [
  ...(view.shown ? [view.shown] : []),
  ...view.renditions,
  ...view.hidden,
  ...view.trashed,
];

function plainText(row: SeriesRow, record: EntryRecord, { head, charset }: Header): Buffer {
  const at = { ...row, sopInstanceUid: record.sopInstanceUid };
  try {
    return instanceText(dataSetOf(head, charset), at);
  } catch {
    // A header that cannot be read (the fold has raised an alarm) still has its UIDs.
    return Buffer.from(
      JSON.stringify({
        '00080016': { vr: 'UI', Value: [record.sopClassUid] },
        '00080018': { vr: 'UI', Value: [record.sopInstanceUid] },
        '0020000D': { vr: 'UI', Value: [row.studyInstanceUid] },
        '0020000E': { vr: 'UI', Value: [row.seriesInstanceUid] },
      }),
    );
  }
}

const readers = new WeakMap<Database, MetadataReader>();
/** A reader's connections all know its metadata. */
export const bindMetadata = (db: Database, reader: MetadataReader): void => void readers.set(db, reader);

export function metadataReaderOf(db: Database): MetadataReader {
  const reader = readers.get(db);
  if (!reader) throw new Error('a connection without metadata');
  return reader;
}

export function seriesRow(db: Database, series: number): SeriesRow | undefined {
  return statement(db, `${SERIES_ROW} WHERE series.id = ?`).get(series) as unknown as SeriesRow | undefined;
}

/**
 * Whole headers as DICOM JSON, corrections laid over, by SOP Instance UID: for matching and returning what rows and blocks do not hold.
 * Without UIDs: every instance that shows.
 */
export function instanceJson(
  db: Database,
  series: number,
  sopInstanceUids?: ReadonlySet<string>,
): Map<string, JsonAttributes> {
  const found = new Map<string, JsonAttributes>();
  const row = seriesRow(db, series);
  if (!row) return found;
  const reader = metadataReaderOf(db);
  const records = reader
    .views(db, row)
    .flatMap((view) =>
      view.shown && (!sopInstanceUids || sopInstanceUids.has(view.sopInstanceUid)) ? [view.shown] : [],
    );
  const texts = reader.texts(db, row, records);
  records.forEach((record, index) => {
    const text = texts[index]!.toString('utf8').replaceAll(ROOT_MARK_TEXT, '');
    found.set(record.sopInstanceUid, JSON.parse(text) as JsonAttributes);
  });
  return found;
}
