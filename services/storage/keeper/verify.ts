import { createHash } from 'node:crypto';
import { Part10Digest } from '#dicom/digest.ts';
import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { IndexService, SearchRequest } from '#proto/index/v1/index.ts';
import { type EntryId, type Instance, type Place, TableOfContents } from '#proto/storage/v1/log.ts';
import type { VerifyFinding } from '#proto/storage/v1/storage.ts';

import type { Archive } from '../ports.ts';

const FOLDED_WITHIN_MS = 60_000;
const PROGRESS_EVERY = 10_000;

/**
 * The log against the index, both ways, and the bytes against their digests. Log → index: every entry is known, its bytes are where the
 * index says and hold their digest, unless it was purged or dropped. Index → log: a study has no entry that the log does not have; for that
 * a count and an order-free checksum of ids a study are enough, so that memory grows with studies, not with instances.
 */
export async function* verify(
  context: Context,
  archive: Archive,
  call: Call,
  options: { study: string; digests: boolean },
): AsyncGenerator<VerifyFinding> {
  const index = context.client(IndexService);
  const finding = (kind: string, detail: string, entry?: EntryId): VerifyFinding => ({ kind, detail, checked, entry });
  let checked = 0;
  let wrong = 0;
  const report = (one: VerifyFinding): VerifyFinding => {
    wrong++;
    return one;
  };
  for (const alarm of archive.log.alarms())
    if (alarm.tenant === call.tenant) yield report(finding(alarm.kind, alarm.detail));
  const { reached } = await index.await(call, { positions: archive.log.heads(call.tenant), limitMs: FOLDED_WITHIN_MS });
  if (!reached)
    yield report(
      finding(
        'index-behind',
        'the index had not folded the whole log when the check began; what follows may be only late',
      ),
    );

  const seen = new Map<string, IdSum>();
  for await (const commit of archive.log.read(call.tenant, [], [], call.signal)) {
    const toc = TableOfContents.decode(commit.tableOfContents);
    const byStudy = new Map<string, { id: EntryId; instance: Instance }[]>();
    for (const { n, kind } of toc.entries) {
      if (kind?.$case !== 'instance' && kind?.$case !== 'large') continue;
      const { studyInstanceUid } = kind.value;
      if (options.study !== '' && studyInstanceUid !== options.study) continue;
      const id = { lane: commit.lane, sequence: commit.sequence, n };
      const rows = byStudy.get(studyInstanceUid) ?? [];
      rows.push({ id, instance: kind.value });
      byStudy.set(studyInstanceUid, rows);
      add(seen, studyInstanceUid, id);
    }
    for (const [studyInstanceUid, rows] of byStudy) {
      const places = new Map<string, { state: string; place: Place | undefined }>();
      for await (const fate of index.fates(call, { studyInstanceUid, entries: rows.map((row) => row.id) })) {
        places.set(keyOf(fate.id!), { state: fate.state, place: fate.place });
      }
      for (const { id, instance } of rows) {
        const fate = places.get(keyOf(id));
        if (fate === undefined || fate.state === 'unknown')
          yield report(
            finding(
              'missing-in-index',
              `instance ${instance.sopInstanceUid} of study ${studyInstanceUid} is in the log and not in the index`,
              id,
            ),
          );
        else if (fate.state === 'kept') {
          const problem = options.digests
            ? await bytesProblem(archive, instance, fate.place!)
            : await statProblem(archive, fate.place!);
          if (problem !== undefined)
            yield report(
              finding(
                problem,
                `instance ${instance.sopInstanceUid} of study ${studyInstanceUid} at ${fate.place!.object}+${fate.place!.offset}`,
                id,
              ),
            );
        }
        if (++checked % PROGRESS_EVERY === 0) yield finding('progress', '');
      }
    }
  }
  const studies = options.study !== '' ? [options.study] : await studiesOf(context, call);
  for (const study of new Set([...studies, ...seen.keys()])) {
    const indexed: IdSum = { count: 0, sum: 0n };
    for await (const fate of index.fates(call, { studyInstanceUid: study, entries: [] })) mix(indexed, fate.id!);
    const logged = seen.get(study) ?? { count: 0, sum: 0n };
    if (logged.count < indexed.count || (logged.count === indexed.count && logged.sum !== indexed.sum)) {
      yield report(
        finding('not-in-log', `study ${study}: the index has ${indexed.count} entries, the log ${logged.count}`),
      );
    }
  }
  const torn = await archive.log.tornBytes();
  if (torn > 0)
    yield finding(
      'torn-tail',
      `${torn} bytes after the last valid commit of dead lanes were moved aside: never acknowledged, nothing is missing`,
    );
  yield finding(wrong === 0 ? 'ok-summary' : 'summary', `${checked} instances checked, ${wrong} findings`);
}

interface IdSum {
  count: number;
  sum: bigint;
}

const keyOf = (id: EntryId): string => `${id.lane}/${id.sequence}/${id.n}`;

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
    for await (const row of context
      .client(IndexService)
      .search(call, SearchRequest.fromPartial({ level: 'STUDY', cursor, limit: 10_000 }))) {
      const dataSet = JSON.parse(Buffer.from(row.dataSetJson).toString('utf8')) as Record<string, { Value?: string[] }>;
      const uid = dataSet['0020000D']?.Value?.[0];
      if (uid !== undefined) studies.push(uid);
      cursor = row.cursor;
      more = row.more;
    }
  }
  return studies;
}

/** Undefined: the bytes are there and hold their digest. */
async function bytesProblem(archive: Archive, instance: Instance, place: Place): Promise<string | undefined> {
  const digest = new Part10Digest(instance.transferSyntaxUid, instance.dataSetOffset);
  try {
    for await (const chunk of archive.objects.read(place.object, place.offset, place.length)) digest.update(chunk);
  } catch (error) {
    if (error instanceof GantryError && (error.code === 'not-found' || error.code === 'damaged'))
      return 'missing-bytes';
    throw error;
  }
  return digest.finish().digest.equals(instance.digest) ? undefined : 'bad-digest';
}

async function statProblem(archive: Archive, place: Place): Promise<string | undefined> {
  const row = await archive.objects.stat(place.object);
  return row === undefined || row.bytes < place.offset + place.length ? 'missing-bytes' : undefined;
}
