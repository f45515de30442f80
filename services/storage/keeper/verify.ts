import { createHash } from 'node:crypto';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { type Fate, IndexService, SearchRequest } from '#proto/index/v1/index.ts';
import {
  type Entry,
  type EntryId,
  type Instance,
  type Place,
  type Position,
  TableOfContents,
} from '#proto/storage/v1/log.ts';
import type { Commit, VerifyFinding } from '#proto/storage/v1/storage.ts';
import { eachOf } from '../limiter.ts';
import type { Alarm, Archive, ObjectRow } from '../ports.ts';
import { isFolded } from './folded.ts';
import { isSound } from './pack.ts';

const PROGRESS_EVERY = 10_000;
const BATCH = 1_000;
/** Questions and reads under way: an index and a store across a network answer each after milliseconds, and many at once. */
const AT_A_TIME = 16;

/**
 * The log against the index, both ways, and the bytes against their digests. Log → index: every entry is known, its bytes are where the
 * index says and hold their digest, unless it was purged or dropped. Index → log: a study has no entry that the log does not have; for that
 * a count and an order-free checksum of ids a study are enough, so that memory grows with studies and objects, not with instances.
 * What comes in meanwhile is not looked at: the heads of the beginning are the end.
 */
export async function* verify(
  context: Context,
  archive: Archive,
  call: Call,
  options: { study: string; digests: boolean },
): AsyncGenerator<VerifyFinding> {
  const index = context.client(IndexService);
  const beganMs = Date.now();
  let checked = 0;
  let wrong = 0;
  const note = (kind: string, detail: string, entry?: EntryId): VerifyFinding => ({ kind, detail, checked, entry });
  const report = (kind: string, detail: string, entry?: EntryId): VerifyFinding => {
    wrong++;
    return note(kind, detail, entry);
  };
  const told = new Set<Alarm>();
  function* alarms(): Generator<VerifyFinding> {
    for (const alarm of archive.log.alarms()) {
      if (told.has(alarm) || (alarm.tenant !== call.tenant && alarm.tenant !== '')) continue;
      told.add(alarm);
      yield report(alarm.kind, alarm.detail);
    }
  }
  yield* alarms();
  const heads = await archive.log.heads(call.tenant);
  const end = headsOf(heads);
  let now = end;
  if (!(await isFolded(context, call, heads)))
    yield report(
      'index-behind',
      'the index had not folded the whole log when the check began; what follows may be only late',
    );

  const logged = new Map<string, IdSum>();
  const named = new Set<string>();
  let unread: string | undefined;
  for await (const batch of batches()) {
    // Asked together, since each question may go to another machine; a finding is told when its batch is through.
    const byStudy = Map.groupBy(batch, ({ instance }) => instance.studyInstanceUid);
    const fates = new Map<string, Fate>();
    await eachOf(byStudy, AT_A_TIME, async ([studyInstanceUid, rows]) => {
      const entries = rows.map(({ id }) => id);
      for await (const fate of index.fates(call, { studyInstanceUid, entries })) fates.set(keyOf(fate.id!), fate);
    });
    const problems: VerifyFinding[] = [];
    await eachOf(batch, AT_A_TIME, async ({ id, instance }) => {
      const problem = await problemOf(id, instance, fates.get(keyOf(id)));
      if (problem) problems.push(problem);
      if (++checked % PROGRESS_EVERY === 0) problems.push(note('progress', ''));
    });
    yield* problems;
  }
  yield* alarms(); // what reading has met
  if (unread !== undefined) yield report('unreadable-log', unread);
  yield* notInLog();
  const torn = await archive.log.tornBytes();
  if (torn > 0)
    yield note(
      'torn-tail',
      `${torn} bytes after the last valid commit of dead lanes were moved aside: never acknowledged, nothing is missing`,
    );
  if (options.study === '') yield* orphans();
  yield note(wrong === 0 ? 'ok-summary' : 'summary', `${checked} instances checked, ${wrong} findings`);

  /** What the log holds of instances up to the heads of the beginning, in pieces that fit into memory. */
  async function* batches(): AsyncGenerator<{ id: EntryId; instance: Instance }[]> {
    let batch: { id: EntryId; instance: Instance }[] = [];
    for await (const { lane, sequence, tableOfContents } of commitsAfter([])) {
      if (sequence > (end.get(lane) ?? 0)) continue;
      const { entries } = TableOfContents.decode(tableOfContents);
      noteNamed(entries);
      for (const { n, kind } of entries) {
        if (kind?.$case !== 'instance' && kind?.$case !== 'large') continue;
        const { studyInstanceUid } = kind.value;
        if (options.study !== '' && studyInstanceUid !== options.study) continue;
        const id = { lane, sequence, n };
        batch.push({ id, instance: kind.value });
        add(logged, studyInstanceUid, id);
      }
      if (batch.length >= BATCH) {
        yield batch;
        batch = [];
      }
    }
    if (batch.length > 0) yield batch;
  }

  /** What cannot be read is a finding: the rest is looked at. */
  async function* commitsAfter(after: Position[]): AsyncGenerator<Commit> {
    try {
      yield* archive.log.read(call.tenant, after, [], call.signal);
    } catch (error) {
      if (!(error instanceof GantryError) || error.code !== 'unavailable') throw error;
      unread = error.message;
    }
  }

  function noteNamed(entries: readonly Entry[]): void {
    for (const { kind } of entries) {
      if (kind?.$case === 'moved') for (const { to } of kind.value.moves) named.add(to!.object);
      if (kind?.$case === 'large') named.add(kind.value.place!.object);
    }
  }

  async function problemOf(
    id: EntryId,
    instance: Instance,
    fate: Fate | undefined,
  ): Promise<VerifyFinding | undefined> {
    const { studyInstanceUid, sopInstanceUid } = instance;
    const who = `instance ${sopInstanceUid} of study ${studyInstanceUid}`;
    let now = fate;
    for (;;) {
      if (!now || now.state === 'unknown')
        return report('missing-in-index', `${who} is in the log and not in the index`, id);
      if (now.state !== 'kept') return undefined;
      const place = now.place!;
      const problem = await bytesProblem(archive, instance, place, options.digests);
      if (!problem) return undefined;
      // The keeper may have moved it between the question and the look.
      const before = now;
      now = undefined;
      for await (const one of index.fates(call, { studyInstanceUid, entries: [id] })) now = one;
      if (now?.state === 'kept' && samePlace(now.place!, before.place!))
        return report(problem, `${who} at ${place.object}+${place.offset}`, id);
    }
  }

  async function* notInLog(): AsyncGenerator<VerifyFinding> {
    const studies = options.study !== '' ? [options.study] : await studiesOf(context, call);
    const problems: VerifyFinding[] = [];
    await eachOf(new Set([...studies, ...logged.keys()]), AT_A_TIME, async (study) => {
      const indexed: IdSum = { count: 0, sum: 0n };
      for await (const { id } of index.fates(call, { studyInstanceUid: study, entries: [] })) {
        if (id!.sequence <= (end.get(id!.lane) ?? 0) || !(await cameLater(id!))) mix(indexed, id!);
      }
      const known = logged.get(study) ?? { count: 0, sum: 0n };
      if (known.count < indexed.count || (known.count === indexed.count && known.sum !== indexed.sum))
        problems.push(
          report('not-in-log', `study ${study}: the index has ${indexed.count} entries, the log ${known.count}`),
        );
    });
    yield* problems;
  }

  async function cameLater({ lane, sequence }: EntryId): Promise<boolean> {
    if ((now.get(lane) ?? 0) >= sequence) return true;
    now = headsOf(await archive.log.heads(call.tenant));
    return (now.get(lane) ?? 0) >= sequence;
  }

  async function* orphans(): AsyncGenerator<VerifyFinding> {
    const unnamed: ObjectRow[] = [];
    for (const area of ['pack', 'large'] as const)
      for await (const row of archive.objects.list(area, call.tenant))
        if (!named.has(row.object) && row.modifiedMs < beganMs) unnamed.push(row); // else its entry may be on its way
    if (unnamed.length === 0) return;
    // What was put since the look at the log began may have been named since, too.
    for await (const { tableOfContents } of commitsAfter(heads))
      noteNamed(TableOfContents.decode(tableOfContents).entries);
    const orphaned = unnamed.filter(({ object }) => !named.has(object));
    const bytes = orphaned.reduce((sum, row) => sum + row.bytes, 0);
    if (orphaned.length > 0)
      yield note(
        'orphan',
        `${orphaned.length} objects of ${bytes} bytes are named by no entry: an upload that runs, or broke off; removed after keeper.orphanAgeMs`,
      );
  }
}

const headsOf = (heads: readonly Position[]): Map<string, number> =>
  new Map(heads.map(({ lane, sequence }) => [lane, sequence]));

interface IdSum {
  count: number;
  sum: bigint;
}

const keyOf = (id: EntryId): string => `${id.lane}/${id.sequence}/${id.n}`;
const samePlace = (a: Place, b: Place): boolean => a.object === b.object && a.offset === b.offset;

function add(sums: Map<string, IdSum>, study: string, id: EntryId): void {
  const sum = sums.get(study) ?? { count: 0, sum: 0n };
  mix(sum, id);
  sums.set(study, sum);
}

/** A sum does not depend on the order. */
function mix(sum: IdSum, id: EntryId): void {
  sum.count++;
  sum.sum = BigInt.asUintN(64, sum.sum + createHash('sha256').update(keyOf(id)).digest().readBigUInt64LE(0));
}

/** Every study that the index shows; trash-only ones are reached from the log's side. */
async function studiesOf(context: Context, call: Call): Promise<string[]> {
  const studies: string[] = [];
  let cursor = '';
  for (let more = true; more; ) {
    more = false;
    const request = SearchRequest.fromPartial({ level: 'STUDY', cursor, limit: 10_000 });
    for await (const row of context.client(IndexService).search(call, request)) {
      const dataSet = JSON.parse(Buffer.from(row.dataSetJson).toString('utf8')) as Record<string, { Value?: string[] }>;
      const uid = dataSet['0020000D']?.Value?.[0];
      if (uid !== undefined) studies.push(uid);
      cursor = row.cursor;
      more = row.more;
    }
  }
  return studies;
}

/** Undefined: the bytes are there and, if they were read, hold their digest. */
async function bytesProblem(
  archive: Archive,
  instance: Instance,
  place: Place,
  digests: boolean,
): Promise<string | undefined> {
  const row = await archive.objects.stat(place.object);
  if (row === undefined || row.bytes < place.offset + place.length) return 'missing-bytes';
  return !digests || (await isSound(archive.objects, { instance, place })) ? undefined : 'bad-digest';
}
