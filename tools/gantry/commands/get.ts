import { resolve } from 'node:path';
import { type Command, EXIT } from '../command.ts';
import { instancesOf } from '../dicomweb.ts';
import { bytes, plural } from '../table.ts';
import { toFolder } from '../write.ts';

export const getCommand: Command = {
  usage: 'STUDY [SERIES [INSTANCE]] [--to FOLDER]',
  summary: 'fetch a study, series or instance into a folder, byte for byte as stored',
  text: `Part 10 files as STUDY/SERIES/INSTANCE.dcm below the folder. A file is there whole or not at all; one that exists already
is written over. \`gantry find\` gives the UIDs.`,
  examples: [
    { line: 'gantry get 1.2.840.113619.2.1 --to ./ct', says: 'a study' },
    { line: 'gantry get 1.2.840.113619.2.1 1.2.840.113619.2.1.1', says: 'one series of it, into this folder' },
  ],
  options: { to: { type: 'string', value: 'FOLDER', doc: 'where to (this folder)' } },
  takes: { least: 1, most: 3 },
  async run(house, given) {
    const [study, series, instance] = given.positionals;
    const folder = resolve(given.text('to') ?? '.');
    const written = await toFolder(
      house,
      folder,
      instancesOf(house.client, { study: study!, series, instance }, house.signal),
    );
    if (house.json) house.printJson({ ...written, folder });
    else house.print(`${plural(written.instances, 'instance')}, ${bytes(written.bytes)}, in ${folder}\n`);
    return EXIT.ok;
  },
};
