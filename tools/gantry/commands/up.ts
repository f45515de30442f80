import { join } from 'node:path';
import type { Command } from '../command.ts';

export const upCommand: Command = {
  usage: '',
  summary: 'start the server here, in the foreground; Ctrl-C or TERM drains it',
  text: `The same as \`make up\`: everything in one process, on the file system and SQLite. Settings come from gantry.yaml in this
folder and from GANTRY_*; services/SETTINGS.md lists them all. Data lies in ./data unless GANTRY_DATA_DIR says else.`,
  examples: [{ line: 'GANTRY_DATA_DIR=/var/lib/gantry gantry up', says: 'with its data elsewhere' }],
  options: {},
  takes: { least: 0, most: 0 },
  async run() {
    const main = join(import.meta.dirname, '../../../services/main.ts');
    process.argv = [process.argv[0]!, main, 'all'];
    await import(main); // in this very process: signals and the exit code are the server's own
    return undefined;
  },
};
