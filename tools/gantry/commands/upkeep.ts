// The keeper's work on demand: compact, reclaim; and the conformance statement.
import { type Command, EXIT } from '../command.ts';
import { bytes, plural } from '../table.ts';

export const compactCommand: Command = {
  usage: '[STUDY]',
  summary: 'pack settled studies now instead of when it is their turn',
  text: `Instances of a study move from the log into one pack, and copies of equal bytes are dropped. Safe at any time, while serving.`,
  examples: [{ line: 'gantry compact', says: 'whatever is due' }],
  options: {},
  takes: { least: 0, most: 1 },
  async run(house, given) {
    const study = given.positionals[0];
    const done = await house.client.json<{ instancesMoved: number; bytesMoved: number; copiesDropped: number }>(
      'POST',
      '/api/v1/compact',
      study === undefined ? {} : { studyInstanceUid: study },
      house.signal,
    );
    if (house.json) house.printJson(done);
    else
      house.print(
        `${plural(Number(done.instancesMoved), 'instance')} packed, ${bytes(Number(done.bytesMoved))}; ${plural(Number(done.copiesDropped), 'copy', 'copies')} dropped\n`,
      );
    return EXIT.ok;
  },
};

export const reclaimCommand: Command = {
  usage: '[--now]',
  summary: 'remove replaced and purged bytes from the disk',
  text: `Bytes that were packed elsewhere or purged stay on disk for keeper.deletionDelay (24 h), so that a reader or a backup that
began before can finish. For a full disk --now does not wait.`,
  examples: [{ line: 'gantry reclaim --now', says: 'the disk is full' }],
  options: { now: { type: 'boolean', doc: 'do not wait for keeper.deletionDelay' } },
  takes: { least: 0, most: 0 },
  async run(house, given) {
    const done = await house.client.json<{ objectsRemoved: number; bytesFreed: number }>(
      'POST',
      '/api/v1/reclaim',
      { now: given.flag('now') },
      house.signal,
    );
    if (house.json) house.printJson(done);
    else
      house.print(
        `${plural(Number(done.objectsRemoved), 'object')} removed, ${bytes(Number(done.bytesFreed))} freed\n`,
      );
    return EXIT.ok;
  },
};

export const conformanceCommand: Command = {
  usage: '',
  summary: 'the DICOM conformance statement, from the tables that the server runs on',
  text: `Markdown on standard output, for the tender or the integrator.`,
  examples: [{ line: 'gantry conformance > conformance.md', says: 'into a file' }],
  options: {},
  takes: { least: 0, most: 0 },
  async run(house) {
    const markdown = await house.client.text('GET', '/api/v1/conformance');
    if (house.json) house.printJson({ markdown });
    else house.print(markdown.endsWith('\n') ? markdown : `${markdown}\n`);
    return EXIT.ok;
  },
};
