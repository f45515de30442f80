import { createWriteStream } from 'node:fs';
import { rename, unlink } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Client } from '../client.ts';
import { type Command, CommandFailure, EXIT, usage } from '../command.ts';
import { instancesOf, searchAll, type Target, textOf } from '../dicomweb.ts';
import { bytes, plural } from '../table.ts';
import { toFolder, toTar, type Written } from '../write.ts';

export const exportCommand: Command = {
  usage: 'STUDY… --to FOLDER|FILE.tar|-',
  summary: 'write studies into a folder, a tar, or a pipe',
  text: `Every instance as it is stored, named STUDY/SERIES/INSTANCE.dcm; of several versions the one that shows. A tar is written beside its name and gets it when it is whole;
\`--to -\` writes it to standard output. What comes out goes in again with \`gantry import\`.`,
  examples: [
    { line: 'gantry export 1.2.840.113619.2.1 --to study.tar', says: 'one study' },
    { line: 'gantry export --all --to - | zstd > archive.tar.zst', says: 'everything, compressed on its way' },
  ],
  options: {
    to: { type: 'string', value: 'TARGET', doc: 'folder, file ending in .tar, or - for standard output' },
    all: { type: 'boolean', doc: 'every study in the archive' },
  },
  takes: { least: 0, most: Number.POSITIVE_INFINITY },
  async run(house, given) {
    const to = given.text('to');
    const all = given.flag('all');
    if (to === undefined) throw usage('say where to: --to FOLDER, --to FILE.tar, or --to -');
    if (all === given.positionals.length > 0) throw usage('name the studies, or say --all');
    if (to === '-' && house.json) throw usage('--json and --to - would both write to standard output');
    if (to === '-' && house.output.isTTY)
      throw usage('a tar is nothing for a terminal: send --to - into a file or a pipe');
    const targets = targetsOf(house.client, all ? undefined : given.positionals, house.signal);
    let written: Written;
    if (to === '-') written = await toTar(house, house.output, targets, false);
    else if (/\.tar$/i.test(to)) {
      const path = resolve(to);
      const partial = `${path}.part`;
      try {
        written = await toTar(house, createWriteStream(partial), targets, false);
        await rename(partial, path);
      } catch (error) {
        await unlink(partial).catch(() => undefined); // it may not have been made; the error below counts
        throw error;
      }
    } else if (/\.(zip|gz|tgz|zst)$/i.test(to))
      throw usage('a folder or a .tar: for a compressed one use --to - and a compressor');
    else written = await toFolder(house, resolve(to), targets);
    if (house.json) house.printJson({ ...written, to });
    else if (to === '-') house.note(`${plural(written.instances, 'instance')}, ${bytes(written.bytes)}\n`);
    else house.print(`${plural(written.instances, 'instance')}, ${bytes(written.bytes)}, in ${resolve(to)}\n`);
    return EXIT.ok;
  },
};

async function* targetsOf(
  client: Client,
  studies: readonly string[] | undefined,
  signal: AbortSignal,
): AsyncGenerator<Target> {
  if (studies !== undefined) {
    for (const study of new Set(studies)) yield* instancesOf(client, { study }, signal);
    return;
  }
  for await (const row of searchAll(client, 'studies', new URLSearchParams(), signal)) {
    try {
      yield* instancesOf(client, { study: textOf(row, '0020000D') }, signal);
    } catch (error) {
      // Deleted since the list was read.
      if (!(error instanceof CommandFailure && error.code === 'not-found')) throw error;
    }
  }
}
