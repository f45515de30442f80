import type { Call } from '#platform/call.ts';
import { GantryError } from '#platform/errors.ts';
import type { Context } from '#platform/module.ts';
import { type EntryRow, IndexService, type TrashRow } from '#proto/index/v1/index.ts';
import type { Entry, EntryId, Position } from '#proto/storage/v1/log.ts';
import { DataService } from '#proto/storage/v1/storage.ts';

/** How long an answer waits for the index to show what it just wrote; after it, the change is durable and shows a little later. */
const READ_YOUR_WRITES_MS = 5000;

/** How long a deletion waits until the index knows every entry that it must name; then it is refused, and may be tried again. No longer than index.awaitMaxMs. */
const FOLD_WAIT_MS = 10_000;

/** Entries in one control entry: a study of 10^5 instances is deleted by a few of them. */
const ENTRIES_PER_CONTROL = 10_000;

/** What both doors do to the archive beyond storing and reading. */
export function createUseCases(context: Context) {
  const index = context.client(IndexService);
  const storage = context.client(DataService);

  async function append(call: Call, kinds: NonNullable<Entry['kind']>[]): Promise<Position[]> {
    const positions: Position[] = [];
    for (const kind of kinds) {
      const answer = await storage.append(call, { entries: [{ n: 0, stamp: '', kind }] });
      positions.push(...answer.positions);
    }
    await index.await(call, { positions, limitMs: READ_YOUR_WRITES_MS });
    return positions;
  }

  /** What the log holds now, whoever stored it: an instance that is not folded yet would survive its study's deletion. */
  async function folded(call: Call): Promise<void> {
    const { positions } = await storage.heads(call, {});
    const { reached } = await index.await(call, { positions, limitMs: FOLD_WAIT_MS });
    if (!reached) throw new GantryError('unavailable', 'the index is behind the log: try again');
  }

  async function entriesOf(
    call: Call,
    level: { study: string; series?: string; instance?: string },
    inTrash: boolean,
  ): Promise<EntryRow[]> {
    await folded(call);
    const rows: EntryRow[] = [];
    for await (const row of index.entries(call, {
      studyInstanceUid: level.study,
      seriesInstanceUid: level.series ?? '',
      sopInstanceUid: level.instance ?? '',
      inTrash,
    })) {
      rows.push(row);
    }
    return rows;
  }

  const idsOf = (rows: EntryRow[]): EntryId[] => rows.map((row) => row.id!);

  function* batches(ids: EntryId[]): Generator<EntryId[]> {
    for (let at = 0; at < ids.length; at += ENTRIES_PER_CONTROL) yield ids.slice(at, at + ENTRIES_PER_CONTROL);
  }

  return {
    /** Names every entry that shows now: what arrives later is not deleted by it. */
    async moveToTrash(
      call: Call,
      level: { study: string; series?: string; instance?: string },
      reason: string,
    ): Promise<number> {
      const rows = await entriesOf(call, level, false);
      if (rows.length === 0) throw new GantryError('not-found', 'this study, series or instance is not in the archive');
      await append(
        call,
        [...batches(idsOf(rows))].map((entries) => ({
          $case: 'delete' as const,
          value: { entries, studyInstanceUid: level.study, reason, actor: call.principal.id, purge: false },
        })),
      );
      return rows.length;
    },

    async restore(call: Call, level: { study: string; series?: string; instance?: string }): Promise<number> {
      const rows = await entriesOf(call, level, true);
      if (rows.length === 0) throw new GantryError('not-found', 'this study, series or instance is not in the trash');
      await append(
        call,
        [...batches(idsOf(rows))].map((entries) => ({
          $case: 'restore' as const,
          value: { entries, studyInstanceUid: level.study, actor: call.principal.id },
        })),
      );
      return rows.length;
    },

    /** For good: the bytes go when compaction comes by and `deletionDelay` is over. */
    async purge(call: Call, study: string): Promise<number> {
      const rows = await entriesOf(call, { study }, true);
      if (rows.length === 0) throw new GantryError('not-found', 'this study is not in the trash');
      // Whoever is quicker than this look: the keeper removes nothing of a study on hold, purged or not.
      for await (const row of index.trash(call, { studyInstanceUid: study }))
        if (row.onHold)
          throw new GantryError('failed-precondition', 'this study is on hold: lift the hold, then it can be purged');
      await append(
        call,
        [...batches(idsOf(rows))].map((entries) => ({
          $case: 'delete' as const,
          value: { entries, studyInstanceUid: study, reason: 'purged', actor: call.principal.id, purge: true },
        })),
      );
      return rows.length;
    },

    /** While it is on hold nothing of a study is removed for good (a court, an inquiry); it can still be moved to the trash and back. */
    async hold(call: Call, study: string, on: boolean, reason: string): Promise<void> {
      await folded(call);
      // Purged ones too: until the keeper comes by their bytes are there, and what a hold has kept must be free to go one day.
      let known = false;
      for await (const _ of index.fates(call, { studyInstanceUid: study, entries: [] })) {
        known = true;
        break;
      }
      if (!known) throw new GantryError('not-found', 'this study is not in the archive, and never was');
      await append(call, [{ $case: 'hold', value: { studyInstanceUid: study, on, reason, actor: call.principal.id } }]);
    },

    async trash(call: Call, study = ''): Promise<TrashRow[]> {
      const rows: TrashRow[] = [];
      for await (const row of index.trash(call, { studyInstanceUid: study })) rows.push(row);
      return rows;
    },
  };
}

export type UseCases = ReturnType<typeof createUseCases>;
