import { type Command, EXIT, type House } from '../command.ts';
import { progress } from '../progress.ts';
import { runsOrOffline } from '../reach.ts';
import { plural } from '../table.ts';

interface Step {
  commits: number;
  instances: number;
  done: boolean;
}

export const rebuildCommand: Command = {
  usage: '',
  summary: 'build the index anew from the log',
  text: `The running server goes on answering from the old index until the new one is whole. Where none runs, or with --offline, the
archive in GANTRY_DATA_DIR is opened here. The log is the archive; the index can always be built again from it.`,
  examples: [{ line: 'gantry rebuild && gantry verify', says: 'after a disk was repaired' }],
  options: { offline: { type: 'boolean', doc: 'open the archive in GANTRY_DATA_DIR here; no server may run on it' } },
  takes: { least: 0, most: 0 },
  async run(house, given) {
    const offline = await runsOrOffline(house, given.flag('offline'));
    if (offline === undefined)
      return report(house, house.client.lines<Step>('POST', '/api/v1/rebuild', {}, house.signal));
    try {
      return await report(house, offline.rebuild());
    } finally {
      await offline.close();
    }
  },
};

async function report(house: House, steps: AsyncIterable<Step>): Promise<number> {
  const bar = progress(house.errors, house.json);
  let last: Step | undefined;
  for await (const step of steps) {
    last = step;
    if (house.json) house.printJson(step);
    else bar.show(Number(step.instances), 0, 0, `instances from ${step.commits} commits`);
  }
  bar.end();
  if (last?.done !== true) {
    house.note('the rebuild broke off before its end: the old index stays\n');
    return EXIT.failed;
  }
  if (!house.json)
    house.print(
      `rebuilt: ${plural(Number(last.instances), 'instance')} from ${plural(Number(last.commits), 'commit')}\n`,
    );
  return EXIT.ok;
}
