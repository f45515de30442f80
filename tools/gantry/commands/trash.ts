import { type Command, EXIT, type Given, type House, usage } from '../command.ts';
import { confirm } from '../confirm.ts';
import { bytes, number, plural, printable, table } from '../table.ts';

interface TrashRow {
  studyInstanceUid: string;
  instances: number;
  bytes: number;
  deletedAt: string;
  actor: string;
  reason: string;
  onHold: boolean;
}

export const trashCommand: Command = {
  usage: 'ls | restore STUDY [--series UID] [--instance UID] | purge STUDY',
  summary: 'deleted studies: list them, bring them back, or remove them for good',
  text: `A purged study cannot be restored; its bytes go with the next compaction once keeper.deletionDelay is over
(\`gantry reclaim --now\` does not wait). Its header text stays in the log's tables of contents: this release does not rewrite those.`,
  examples: [
    { line: 'gantry trash ls', says: 'what can be restored' },
    { line: 'gantry trash restore 1.2.840.113619.2.1', says: 'a study, found again at once' },
    { line: 'gantry trash purge 1.2.840.113619.2.1 --yes', says: 'for good, without a question' },
  ],
  options: {
    series: { type: 'string', value: 'UID', doc: 'restore: only this series' },
    instance: { type: 'string', value: 'UID', doc: 'restore: only this instance' },
    yes: { type: 'boolean', short: 'y', doc: 'purge: do not ask' },
  },
  takes: { least: 1, most: 2 },
  async run(house, given) {
    const [what, study] = given.positionals;
    if (what !== 'ls' && what !== 'restore' && what !== 'purge') throw usage('it is ls, restore or purge');
    if ((what === 'ls') !== (study === undefined))
      throw usage(what === 'ls' ? 'ls takes no study' : `${what} takes a study`);
    if (what !== 'restore' && (given.text('series') ?? given.text('instance')) !== undefined)
      throw usage('--series and --instance go with restore');
    if (what === 'ls') return list(house);
    if (what === 'restore') return restore(house, study!, given);
    await confirm(house, `Remove study ${printable(study!, 64)} for good?`, given.flag('yes'));
    const { purged } = await house.client.json<{ purged: number }>(
      'DELETE',
      `/api/v1/trash/${encodeURIComponent(study!)}`,
    );
    if (house.json) house.printJson({ purged });
    else house.print(`${plural(purged, 'instance')} purged\n`);
    return EXIT.ok;
  },
};

async function list(house: House): Promise<number> {
  const { studies } = await house.client.json<{ studies: TrashRow[] }>('GET', '/api/v1/trash');
  if (house.json) house.printJson(studies);
  else if (studies.length === 0) house.note('the trash is empty\n');
  else
    house.print(
      table(studies, [
        { title: 'STUDY', value: (row) => row.studyInstanceUid },
        { title: 'INSTANCES', value: (row) => number(Number(row.instances)), right: true },
        { title: 'SIZE', value: (row) => bytes(Number(row.bytes)), right: true },
        { title: 'DELETED', value: (row) => row.deletedAt },
        { title: 'HOLD', value: (row) => (row.onHold ? 'yes' : '') },
        { title: 'BY', value: (row) => row.actor },
        { title: 'REASON', value: (row) => row.reason, max: 60 },
      ]),
    );
  return EXIT.ok;
}

async function restore(house: House, study: string, given: Given): Promise<number> {
  const [series, instance] = [given.text('series'), given.text('instance')];
  const body = { ...(series === undefined ? {} : { series }), ...(instance === undefined ? {} : { instance }) };
  const { restored } = await house.client.json<{ restored: number }>(
    'POST',
    `/api/v1/trash/${encodeURIComponent(study)}/restore`,
    body,
  );
  if (house.json) house.printJson({ restored });
  else house.print(`${plural(restored, 'instance')} restored\n`);
  return EXIT.ok;
}
