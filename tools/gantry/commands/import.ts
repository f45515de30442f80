import { resolve } from 'node:path';
import { type Command, CommandFailure, EXIT } from '../command.ts';
import { journalPath, type Mark, openJournal } from '../journal.ts';
import { Outcomes } from '../outcomes.ts';
import { pool } from '../pool.ts';
import { progress } from '../progress.ts';
import { type Item, items, kindOf } from '../sources.ts';
import { number } from '../table.ts';
import { interrupted, postInstance, upload } from '../upload.ts';

const AT_ONCE = 8;

export const importCommand: Command = {
  usage: 'FOLDER|FILE|TAR|ZIP…',
  summary: 'take a folder, a tar, tar.gz or zip into the archive: in bulk, resumable',
  text: `Everything below the folders and in the archives is offered to the server, several files at once. What is no DICOM is
skipped and counted, a DICOMDIR too (the files that it lists are taken). Each file is kept exactly as it is, preamble
and all. Importing twice does no harm: equal bytes are kept once.

Nothing is unpacked to disk, and names in archives are only labels. Archives within archives are not opened.

Interrupted, or with failures at the end, the import remembers what is done (in ~/.local/state/gantry/imports; digests,
no names): the same command goes on there. A refused file would be refused again: the list at the end says why.`,
  examples: [
    { line: 'gantry import /mnt/old-pacs', says: 'a folder with everything below it' },
    { line: 'gantry import study.zip ct.tar.gz', says: 'archives, one after the other' },
    { line: 'gantry import --json /mnt/usb | jq .refusals', says: 'for a script: what was refused, and why' },
  ],
  options: {
    workers: { type: 'string', value: 'N', doc: `files in flight at a time, 1 to 64 (${AT_ONCE})` },
    restart: { type: 'boolean', doc: 'forget what an earlier run did, and offer every file again' },
    journal: { type: 'string', value: 'FILE', doc: 'where to remember what is done' },
  },
  takes: { least: 1, most: Number.POSITIVE_INFINITY },
  async run(house, given) {
    const { client, signal } = house;
    const paths = given.positionals.map((path) => resolve(path));
    const workers = given.count('workers', AT_ONCE, 64);
    for (const path of paths) await kindOf(path); // a misspelt path is told before anything is sent
    await client.json('GET', '/api/v1/status'); // so is a server that is not there

    const journal = await openJournal(
      given.text('journal') ?? journalPath(house.env, client.server, paths),
      given.flag('restart'),
    );
    if (journal.found > 0)
      house.note(`going on after ${number(journal.found)} files of an earlier run (--restart begins anew)\n`);
    const outcomes = new Outcomes();
    const bar = progress(house.errors, house.json);
    let total = 0;
    let moved = 0;

    const take = async (item: Item): Promise<void> => {
      if (signal.aborted) throw interrupted();
      const before = journal.earlier(item.key);
      if (before !== undefined) {
        outcomes.earlier++;
        if (before === 'r') outcomes.refusedEarlier++;
      } else {
        const outcome = await upload(client, item, postInstance, signal);
        moved += item.size;
        let mark: Mark | undefined;
        if (outcome.kind === 'stored') {
          outcomes.stored++;
          outcomes.bytes += item.size;
          mark = 's';
        } else if (outcome.kind === 'no-dicom') {
          outcomes.noDicom++;
          mark = 'n';
        } else if (outcome.kind === 'dicomdir') {
          outcomes.dicomdir++;
          mark = 'd';
        } else if (outcome.kind === 'refused') {
          outcomes.refuse({ label: item.label, code: outcome.code, says: outcome.says });
          mark = 'r';
        } else outcomes.fail({ label: item.label, code: outcome.code, says: outcome.says });
        if (mark !== undefined) journal.note(item.key, mark);
      }
      bar.show(
        outcomes.done,
        total,
        moved,
        outcomes.clean ? '' : `${outcomes.refusedCount + outcomes.failedCount} not taken`,
      );
    };

    let ended: unknown;
    try {
      total = await count(paths, signal, (found) => bar.show(found, 0, 0, 'files found'));
      await pool(items(paths, true), workers, (item) => take(item).finally(() => item.release?.()));
    } catch (error) {
      ended = error;
    }
    bar.end();
    await journal.close();
    const whole = ended === undefined && outcomes.failedCount === 0;
    if (whole) await journal.remove();
    outcomes.report(house, 'imported', { complete: whole, journal: whole ? null : journal.path });
    if (ended !== undefined) {
      if (outcomes.done > 0 && ended instanceof CommandFailure && ended.exitCode !== EXIT.usage)
        house.note('Run the same command again to go on.\n');
      throw ended;
    }
    if (!whole) house.note('Run the same command again to try what failed once more.\n');
    return outcomes.clean && outcomes.refusedEarlier === 0 ? EXIT.ok : EXIT.failed;
  },
};

/** For the bar only: how many files there are. Archives tell as they go: 0, not known. */
async function count(paths: readonly string[], signal: AbortSignal, show: (found: number) => void): Promise<number> {
  let found = 0;
  for (const path of paths) {
    const kind = await kindOf(path);
    if (kind === 'tar' || kind === 'tar.gz') return 0;
    for await (const _ of items([path], true)) {
      if (signal.aborted) throw interrupted();
      show(++found);
    }
  }
  return found;
}
