import { type Command, EXIT, type House } from '../command.ts';
import { progress } from '../progress.ts';
import { runsOrOffline } from '../reach.ts';
import { number, plural, printable } from '../table.ts';

interface Finding {
  kind: string;
  detail: string;
  checked: number;
  entry?: { lane: string; sequence: number; n: number };
}
/** What is said along the way and at the end, and is no fault: torn tails were never acknowledged. */
const NO_FAULT = new Set(['ok-summary', 'summary', 'progress', 'torn-tail']);

export const verifyCommand: Command = {
  usage: '[STUDY]',
  summary: 'compare log and index, both ways, and every byte with its digest',
  text: `Asks the running server, which goes on serving. Where none runs, or with --offline, the archive in GANTRY_DATA_DIR is opened
here, without doors. Exit code 1 when something is wrong: each finding names the instance and its place.`,
  examples: [
    { line: 'gantry verify', says: 'the whole archive' },
    { line: 'gantry verify --no-digests', says: 'quickly: entries and places, not the bytes' },
    { line: 'GANTRY_DATA_DIR=/restored gantry verify --offline', says: 'a backup that was restored' },
  ],
  options: {
    'no-digests': { type: 'boolean', doc: 'do not read the bytes' },
    offline: { type: 'boolean', doc: 'open the archive in GANTRY_DATA_DIR here; no server may run on it' },
  },
  takes: { least: 0, most: 1 },
  async run(house, given) {
    const study = given.positionals[0];
    const digests = !given.flag('no-digests');
    const offline = await runsOrOffline(house, given.flag('offline'));
    if (offline === undefined) {
      const body = { digests, ...(study === undefined ? {} : { studyInstanceUid: study }) };
      return report(house, house.client.lines<Finding>('POST', '/api/v1/verify', body, house.signal));
    }
    try {
      return await report(house, offline.verify(study ?? '', digests));
    } finally {
      await offline.close();
    }
  },
};

async function report(house: House, findings: AsyncIterable<Finding>): Promise<number> {
  const bar = progress(house.errors, house.json);
  let wrong = 0;
  let checked = 0;
  let whole = false;
  for await (const finding of findings) {
    checked = Math.max(checked, Number(finding.checked));
    if (finding.kind === 'progress') {
      bar.show(checked, 0, 0, 'instances');
      continue;
    }
    if (!NO_FAULT.has(finding.kind)) wrong++;
    whole ||= finding.kind === 'ok-summary' || finding.kind === 'summary';
    if (house.json) house.printJson(finding);
    else if (finding.kind !== 'ok-summary' && finding.kind !== 'summary') {
      bar.end();
      house.print(`${finding.kind}: ${printable(finding.detail)}\n`);
    }
  }
  bar.end();
  if (!house.json)
    house.print(
      wrong === 0
        ? `${plural(checked, 'instance')} checked: all is well\n`
        : `${plural(checked, 'instance')} checked, ${number(wrong)} found wrong\n`,
    );
  if (!whole) house.note('the verification broke off before its end\n');
  return wrong === 0 && whole ? EXIT.ok : EXIT.failed;
}
