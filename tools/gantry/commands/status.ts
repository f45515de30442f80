import { type Command, EXIT } from '../command.ts';
import { bytes, number, printable, seconds } from '../table.ts';

interface Status {
  ready: boolean;
  uptimeSeconds: number;
  index: {
    patients: number;
    studies: number;
    series: number;
    instances: number;
    bytes: number;
    inTrash: number;
    conflicts: number;
    lagCommits: number;
    alarms: string[];
  };
  space: { freeBytes: number; reserveBytes: number; accepting: boolean; archiveBytes: number };
  storage: {
    logBytes: number;
    packBytes: number;
    largeBytes: number;
    reclaimableBytes: number;
    tornBytes: number;
    segments: number;
    packs: number;
    alarms: string[];
  };
  ingest: { permitsTotal: number; permitsInUse: number; accepted: number; refused: number; bytes: number };
}

export const statusCommand: Command = {
  usage: '',
  summary: 'what is in the archive, how much space is left, and what is wrong',
  text: `Exit code 0 when the server is ready, takes instances and raises no alarm; else 1: made for monitoring.`,
  examples: [
    { line: 'gantry status', says: 'for people' },
    { line: 'gantry status --json | jq .space.freeBytes', says: 'for scripts' },
  ],
  options: {},
  takes: { least: 0, most: 0 },
  async run(house) {
    const status = await house.client.json<Status>('GET', '/api/v1/status');
    const alarms = [...status.index.alarms, ...status.storage.alarms];
    const sound = status.ready && status.space.accepting && alarms.length === 0;
    if (house.json) {
      house.printJson(status);
      return sound ? EXIT.ok : EXIT.failed;
    }
    const { index, space, storage, ingest } = status;
    const count = (value: number) => number(Number(value));
    const size = (value: number) => bytes(Number(value));
    const lines: [string, string][] = [
      [
        'Server',
        `${house.client.server}, ${status.ready ? 'ready' : 'not ready'}, up ${seconds(status.uptimeSeconds * 1000)}`,
      ],
      [
        'Archive',
        `${count(index.patients)} patients, ${count(index.studies)} studies, ${count(index.series)} series, ${count(index.instances)} instances, ${size(index.bytes)}`,
      ],
      ['Trash', `${count(index.inTrash)} instances`],
      ['Conflicts', `${count(index.conflicts)}${Number(index.conflicts) > 0 ? ' (gantry conflicts)' : ''}`],
      [
        'Index',
        Number(index.lagCommits) === 0
          ? 'shows everything that is stored'
          : `${count(index.lagCommits)} commits behind`,
      ],
      [
        'On disk',
        `log ${size(storage.logBytes)} in ${count(storage.segments)} segments, packs ${size(storage.packBytes)} in ${count(storage.packs)}, large ${size(storage.largeBytes)}; ${size(storage.reclaimableBytes)} can go`,
      ],
      [
        'Space',
        `${size(space.freeBytes)} free, ${size(space.reserveBytes)} of it in reserve; ${space.accepting ? 'taking instances' : 'FULL: instances are refused until there is room'}`,
      ],
      ['Since start', `${count(ingest.accepted)} instances taken, ${count(ingest.refused)} refused`],
      ...(Number(storage.tornBytes) > 0
        ? [['Torn', `${size(storage.tornBytes)} that were never acknowledged were set aside`] as [string, string]]
        : []),
      ...alarms.map((alarm): [string, string] => ['ALARM', printable(alarm)]),
    ];
    house.print(lines.map(([name, text]) => `${name.padEnd(12)}${text}\n`).join(''));
    return sound ? EXIT.ok : EXIT.failed;
  },
};
