import { hash } from 'node:crypto';
import { type Correction, correctionsFor, type Merge } from '../fold/correct.ts';
import { dataSetOf } from '../fold/describe.ts';
import { idKey } from '../fold/order.ts';
import type { EntryRecord, InstanceView } from '../fold/types.ts';
import type { Reader, RowId, SeriesRow } from '../questions/reader.ts';
import type { Reading } from '../questions/reading.ts';
import { type Header, MissingHeads, type RecentHeads } from '../state/heads.ts';
import type { MetadataEntry, MetadataObject } from './object.ts';
import { correctedText, instanceText } from './text.ts';

const versionOf = (record: EntryRecord): string => record.version.toString('hex');

/**
 * What is known of a series' instances beyond their rows. Equal bytes have one header, whichever entry brought it, so everything is by
 * version. Views and texts are kept between queries, up to a limit: a growing series converts only what is new.
 */
export class MetadataReader {
  readonly #bytesMax: number;
  readonly #held = new Map<RowId, Held>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  *views(reader: Reader, row: SeriesRow): Reading<InstanceView[]> {
    const held = this.#of(row.id);
    if (held.views && held.revision === row.revision) return held.views;
    const views = yield* reader.views(row);
    held.views = views;
    held.revision = row.revision;
    this.#weigh(row.id, held);
    return views;
  }

  /** Headers for these entries of the series, in their order. */
  *heads(reader: Reader, row: SeriesRow, records: readonly EntryRecord[]): Reading<Header[]> {
    const found = yield* this.#find(reader, row, records, (object, version) => object.head(version));
    return records.map((record) => found.get(versionOf(record))!);
  }

  /** Fails now with what `texts` would fail with later: before the first byte of an answer is out. */
  *ensure(reader: Reader, row: SeriesRow, records: readonly EntryRecord[]): Reading<void> {
    const { texts } = this.#of(row.id);
    const lacking = records.filter((record) => !texts.has(versionOf(record)));
    if (lacking.length > 0)
      yield* this.#find(reader, row, lacking, (object, version) => (object.spots.has(version) ? THERE : undefined));
  }

  /** DICOM JSON texts with root marks, corrections laid over. */
  *texts(reader: Reader, row: SeriesRow, records: readonly EntryRecord[]): Reading<Buffer[]> {
    const corrections = yield* reader.corrections(row);
    const merges = yield* reader.merges(row);
    const held = this.#of(row.id);
    // Whatever corrections there are now: text kept under others is not used again.
    const state = `${corrections.map((one) => one.order).join()}|${[...merges.values()].map((one) => one.order).join()}`;
    if (held.state !== state) {
      held.state = state;
      held.texts = new Map(); // whoever reads from the old one goes on
    }
    const { texts } = held;
    const lacking = records.filter((record) => !texts.has(versionOf(record)));
    if (lacking.length > 0) {
      const converted = yield* this.#convert(reader, row, lacking, corrections, merges);
      for (const [version, text] of converted) texts.set(version, text);
      this.#weigh(row.id, held);
    }
    return records.map((record) => texts.get(versionOf(record))!);
  }

  *#convert(
    reader: Reader,
    row: SeriesRow,
    records: readonly EntryRecord[],
    corrections: readonly Correction[],
    merges: ReadonlyMap<string, Merge>,
  ): Reading<Map<string, Buffer>> {
    const texts = new Map<string, Buffer>();
    const ready =
      row.metadata === ''
        ? undefined
        : yield* reader.metadataObject(row, (object) => {
            const known = new Map<string, Buffer>();
            for (const record of records) {
              const text = object.json(versionOf(record));
              if (text) known.set(versionOf(record), text);
            }
            return known;
          });
    const lacking = records.filter((record) => !ready?.has(versionOf(record)));
    const headers = lacking.length > 0 ? yield* this.heads(reader, row, lacking) : [];
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

  *#find(
    reader: Reader,
    row: SeriesRow,
    records: readonly EntryRecord[],
    take: (object: MetadataObject, version: string) => Header | undefined,
  ): Reading<Map<string, Header>> {
    const found = new Map<string, Header>();
    // Where an object is lost or damaged, what it does not give is missing, and is read from the log again.
    if (row.metadata !== '')
      yield* reader.metadataObject(row, (object) => {
        for (const record of records) {
          const header = take(object, versionOf(record));
          if (header) found.set(versionOf(record), header);
        }
      });
    const lacking = records.filter((record) => !found.has(versionOf(record)));
    if (lacking.length > 0) {
      const held = this.#of(row.id);
      const before = held.recent;
      held.recent = yield* reader.recentHeads(row, lacking, before);
      yield* this.#takeRecent(reader, row, lacking, held.recent, found);
      // Row numbers are used again: what was kept may be of rows that went, and came anew.
      if (before && lacking.some((record) => !found.has(versionOf(record)))) {
        held.recent = yield* reader.recentHeads(row, lacking);
        yield* this.#takeRecent(reader, row, lacking, held.recent, found);
      }
      this.#weigh(row.id, held);
    }
    const missing = records.filter((record) => !found.has(versionOf(record)));
    if (missing.length > 0) throw new MissingHeads(missing.map((record) => record.id));
    return found;
  }

  *#takeRecent(
    reader: Reader,
    row: SeriesRow,
    records: readonly EntryRecord[],
    { heads }: RecentHeads,
    found: Map<string, Header>,
  ): Reading<void> {
    if (heads.size === 0) return;
    for (const record of records) {
      const header = heads.get(idKey(record.id));
      if (header && !found.has(versionOf(record))) found.set(versionOf(record), header);
    }
    const wanted = new Set(records.map(versionOf).filter((version) => !found.has(version)));
    if (wanted.size === 0) return;
    // Any entry of the version will do: what shows may have come again, or before.
    for (const view of yield* this.views(reader, row))
      for (const record of entriesOf(view)) {
        const header = wanted.has(versionOf(record)) ? heads.get(idKey(record.id)) : undefined;
        if (header && !found.has(versionOf(record))) found.set(versionOf(record), header);
      }
  }

  /**
   * What the series' metadata object holds: every version that is not purged, so that what is restored from the trash has its header too.
   * Its name is a digest of what stands in it: a rebuild finds it written already. Empty: there is nothing to hold.
   */
  *plan(reader: Reader, row: SeriesRow): Reading<{ name: string; records: EntryRecord[] }> {
    const views = yield* this.views(reader, row);
    const records = [...new Map(views.flatMap(headed).map((record) => [versionOf(record), record])).values()].sort(
      (a, b) => (versionOf(a) < versionOf(b) ? -1 : 1),
    );
    if (records.length === 0) return { name: '', records };
    const digest = hash(
      'sha256',
      [row.tenant, row.studyInstanceUid, row.seriesInstanceUid, ...records.map(versionOf)].join('\u0000'),
      'hex',
    );
    return { name: `${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest.slice(4, 40)}.gmo`, records };
  }

  *entries(reader: Reader, row: SeriesRow, records: readonly EntryRecord[]): Reading<MetadataEntry[]> {
    const headers = yield* this.heads(reader, row, records);
    return records.map((record, index): MetadataEntry => {
      const header = headers[index]!;
      return { version: versionOf(record), ...header, json: plainText(row, record, header) };
    });
  }

  #of(series: RowId): Held {
    const held = this.#held.get(series) ?? { revision: -1, state: '', texts: new Map<string, Buffer>(), bytes: 0 };
    this.#held.delete(series);
    this.#held.set(series, held);
    return held;
  }

  #weigh(series: RowId, held: Held): void {
    if (this.#held.get(series) !== held) return; // it went while its question waited
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
